//! A small part of Go's templates: what people write after `--format`.
//!
//! `{{.Name}}`, `{{.Outer.Inner}}`, `{{json .}}` and `{{json .Name}}`, with `\t` and `\n` in the text
//! around them, as docker's commands take them.

use serde_json::Value;

/// Fills `template` with the fields of `value`.
///
/// # Errors
///
/// A sentence about the action that is not understood, or the field that is not there.
pub(crate) fn fill(template: &str, value: &Value) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(start) = rest.find("{{") {
        out.push_str(&unescape(&rest[..start]));
        let body = &rest[start + 2..];
        let Some(end) = body.find("}}") else {
            return Err(format!("`{{{{{body}` has no `}}}}`"));
        };
        out.push_str(&action(body[..end].trim().trim_matches('-').trim(), value)?);
        rest = &body[end + 2..];
    }
    out.push_str(&unescape(rest));
    Ok(out)
}

fn action(text: &str, value: &Value) -> Result<String, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        [path] => Ok(plain(field(path, value)?)),
        ["json", path] => Ok(field(path, value)?.to_string()),
        ["upper", path] => Ok(plain(field(path, value)?).to_uppercase()),
        ["lower", path] => Ok(plain(field(path, value)?).to_lowercase()),
        _ => Err(format!("`{{{{{text}}}}}` is not understood")),
    }
}

fn field<'a>(path: &str, value: &'a Value) -> Result<&'a Value, String> {
    let Some(names) = path.strip_prefix('.') else {
        return Err(format!("`{path}` is not a field: a field starts with a dot"));
    };
    let mut current = value;
    for name in names.split('.').filter(|name| !name.is_empty()) {
        current = current.get(name).ok_or_else(|| match current.as_object() {
            Some(fields) => {
                let known: Vec<&str> = fields.keys().map(String::as_str).collect();
                format!("there is no field `{name}`; there are {}", known.join(", "))
            }
            None => format!("there is no field `{name}`"),
        })?;
    }
    Ok(current)
}

/// Returns a value as Go prints it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<no value>".to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fills_fields() {
        let value = json!({"Repository": "a", "Config": {"Env": ["A=b", "C=d"]}, "Size": 3});
        let ok = |template: &str| fill(template, &value).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(ok("{{.Repository}}:{{ .Size }}"), "a:3");
        assert_eq!(ok("{{json .Config.Env}}"), r#"["A=b","C=d"]"#);
        assert_eq!(ok("{{.Config.Env}}\\t!"), "[A=b C=d]\t!");
        assert_eq!(ok("plain"), "plain");
    }

    #[test]
    fn says_what_it_does_not_understand() {
        let value = json!({"A": 1});
        assert_eq!(fill("{{.B}}", &value), Err("there is no field `B`; there are A".to_owned()));
        assert!(fill("{{range .A}}", &value).is_err());
        assert!(fill("{{.A", &value).is_err());
    }
}
