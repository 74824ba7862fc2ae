//! The JSON schema of mirror files, for editors.

use serde_json::{Map, Value, json};

use super::keys::{FILE, Key, Kind};

/// Returns the JSON schema of mirror files, made of the table that they are read by.
#[must_use]
pub fn schema() -> Value {
    let mut schema = table(FILE);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("rpub mirror file");
    schema["required"] = json!(["rules"]);
    schema
}

fn table(keys: &[Key]) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

fn property(key: &Key) -> Value {
    // A tag such as 3.10 may stand without quotes.
    let text = json!({"type": ["string", "number"]});
    let mut property = match key.kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Texts => json!({"anyOf": [text, {"type": "array", "items": text}]}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Count => json!({"type": "integer", "minimum": 1}),
        Kind::Word(words) => json!({"enum": words}),
        Kind::Version(number) => json!({"const": number}),
        Kind::Table(keys) => table(keys),
        Kind::Tables(keys) => {
            let mut rule = table(keys);
            rule["required"] = json!(["from"]);
            json!({"type": "array", "minItems": 1, "items": rule})
        }
    };
    property["description"] = json!(key.about);
    property
}
