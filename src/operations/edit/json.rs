//! Members of JSON documents, changed in place so that everything else stays as it came.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::image::{Descriptor, Manifest};

/// Returns the object `name` in `parent`, made when there is none.
pub(super) fn object<'a>(parent: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    member(parent, name, Value::is_object, || Value::Object(Map::new()))
        .as_object_mut()
        .expect("it was made an object")
}

/// Returns the list `name` in `parent`, made when there is none.
pub(super) fn list<'a>(parent: &'a mut Value, name: &str) -> &'a mut Vec<Value> {
    member(parent, name, Value::is_array, || Value::Array(Vec::new()))
        .as_array_mut()
        .expect("it was made a list")
}

fn member<'a>(
    parent: &'a mut Value,
    name: &str,
    fits: fn(&Value) -> bool,
    make: fn() -> Value,
) -> &'a mut Value {
    if !parent.is_object() {
        *parent = Value::Object(Map::new());
    }
    let members = parent.as_object_mut().expect("it was made an object");
    let value = members.entry(name).or_insert_with(make);
    if !fits(value) {
        *value = make();
    }
    value
}

/// Sets the member `name`.
pub(super) fn set(parent: &mut Value, name: &str, value: impl Into<Value>) {
    if !parent.is_object() {
        *parent = Value::Object(Map::new());
    }
    parent[name] = value.into();
}

/// Takes the member `name` away, when there is one; the order of the others stays.
pub(super) fn remove(parent: &mut Value, name: &str) {
    if let Some(members) = parent.as_object_mut() {
        members.shift_remove(name);
    }
}

/// Takes the member `name` away when it holds nothing.
pub(super) fn remove_if_empty(parent: &mut Value, name: &str) {
    let is_empty = match &parent[name] {
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Null => true,
        Value::Bool(_) | Value::Number(_) => false,
    };
    if is_empty {
        remove(parent, name);
    }
}

/// Sets and removes texts in the object `name` of `parent`; an object left empty goes.
pub(super) fn set_texts(
    parent: &mut Value,
    name: &str,
    set: &BTreeMap<String, String>,
    unset: &[String],
) {
    if set.is_empty() && unset.iter().all(|key| parent[name].get(key).is_none()) {
        return;
    }
    let members = object(parent, name);
    for key in unset {
        members.shift_remove(key);
    }
    for (key, value) in set {
        members.insert(key.clone(), Value::String(value.clone()));
    }
    remove_if_empty(parent, name);
}

/// Returns a manifest's document.
pub(in crate::operations) fn document(manifest: &Manifest) -> Value {
    serde_json::from_slice(&manifest.bytes).expect("a manifest was parsed from its bytes")
}

/// Returns the bytes of a document that rpub has made or changed.
pub(in crate::operations) fn bytes(document: &Value) -> Vec<u8> {
    serde_json::to_vec(document).expect("JSON values serialise")
}

/// Returns a descriptor as a value.
pub(super) fn descriptor(descriptor: &Descriptor) -> Value {
    serde_json::to_value(descriptor).expect("descriptors serialise to JSON")
}

/// Lets the descriptor `entry` name `content` instead; its platform, annotations and all else stay.
pub(super) fn point_to(entry: &mut Value, content: &Descriptor) {
    entry["mediaType"] = Value::String(content.media_type.clone());
    entry["digest"] = Value::String(content.digest.to_string());
    entry["size"] = content.size.into();
    // Content that was embedded is that of what it named before.
    remove(entry, "data");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn texts_are_set_and_removed_and_the_rest_stays_in_order() {
        let mut value = json!({"b": 1, "annotations": {"z": "1", "a": "2"}, "c": null});
        set_texts(&mut value, "annotations", &texts(&[("n", "3")]), &["z".to_owned()]);
        assert_eq!(value.to_string(), r#"{"b":1,"annotations":{"a":"2","n":"3"},"c":null}"#);
        set_texts(&mut value, "annotations", &texts(&[]), &["a".to_owned(), "n".to_owned()]);
        assert_eq!(value.to_string(), r#"{"b":1,"c":null}"#);
        set_texts(&mut value, "annotations", &texts(&[]), &["a".to_owned()]);
        set_texts(&mut value, "c", &texts(&[("k", "v")]), &[]);
        assert_eq!(value.to_string(), r#"{"b":1,"c":{"k":"v"}}"#);
    }

    #[test]
    fn an_entry_keeps_what_it_says_of_its_content() {
        let mut entry = json!({"mediaType": "x", "digest": "y", "size": 1, "data": "e30=",
            "platform": {"os": "linux"}, "unknown": true});
        let content = Descriptor::of("z", b"{}");
        point_to(&mut entry, &content);
        assert_eq!(entry["digest"], content.digest.to_string());
        assert_eq!(entry["platform"]["os"], "linux");
        assert_eq!((entry.get("data"), &entry["unknown"]), (None, &json!(true)));
    }
}
