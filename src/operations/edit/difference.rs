//! In what two JSON documents differ.

use serde_json::Value;

/// One member that is not the same in both.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Where it is (RFC 6901).
    pub path: String,
    /// What the first document has there; `None` for nothing.
    pub before: Option<Value>,
    /// What the second document has there; `None` for nothing.
    pub after: Option<Value>,
}

/// Returns all differences, in the order of the documents.
#[must_use]
pub fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    found
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let further = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(further) {
                let name = key.replace('~', "~0").replace('/', "~1");
                compare(&format!("{path}/{name}"), old.get(key), new.get(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => lists(path, old, new, found),
        (before, after) => {
            let path = path.to_owned();
            found.push(Difference { path, before: before.cloned(), after: after.cloned() });
        }
    }
}

/// Compares what is between the items that both lists begin and end with: what was put in between
/// is one difference, and not one for each item that has moved on.
fn lists(path: &str, old: &[Value], new: &[Value], found: &mut Vec<Difference>) {
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let pairs = old[start..].iter().rev().zip(new[start..].iter().rev());
    let end = pairs.take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[start..old.len() - end], &new[start..new.len() - end]);
    for at in 0..old.len().max(new.len()) {
        compare(&format!("{path}/{}", start + at), old.get(at), new.get(at), found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_and_items_are_found() {
        let before = json!({"a": 1, "b": {"x/y": [1, 2, 3]}, "gone": null});
        let after = json!({"a": 1, "b": {"x/y": [1, 9, 2, 3]}, "new": true});
        let found = differences(&before, &after);
        let difference =
            |path: &str, before, after| Difference { path: path.into(), before, after };
        assert_eq!(
            found,
            [
                difference("/b/x~1y/1", None, Some(json!(9))),
                difference("/gone", Some(Value::Null), None),
                difference("/new", None, Some(json!(true))),
            ]
        );
        assert_eq!(differences(&before, &before), []);
        assert_eq!(differences(&json!([1]), &json!({}))[0].path, "");
    }
}
