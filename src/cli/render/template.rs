//! A small part of Go's templates: what people write after `--format`.
//!
//! `{{.Name}}`, `{{.Outer.Inner}}`, and the functions `json`, `upper`, `lower`, `len`, `index` and
//! `join`, with `\t` and `\n` in the text around them, as docker's commands take them.

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
    match words(text)[..] {
        [path] => Ok(plain(field(path, value)?)),
        ["json", path] => Ok(field(path, value)?.to_string()),
        ["upper", path] => Ok(plain(field(path, value)?).to_uppercase()),
        ["lower", path] => Ok(plain(field(path, value)?).to_lowercase()),
        ["len", path] => Ok(length(field(path, value)?).to_string()),
        ["index", path, key] => Ok(plain(index(field(path, value)?, key)?)),
        ["join", path, separator] => join(field(path, value)?, separator),
        _ => Err(format!("`{{{{{text}}}}}` is not understood")),
    }
}

/// Splits at blanks that are not between quotes.
fn words(text: &str) -> Vec<&str> {
    let mut quote = None;
    text.split(|c: char| {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '`' => quote = Some(c),
            Some(_) | None => {}
        }
        quote.is_none() && c.is_whitespace()
    })
    .filter(|word| !word.is_empty())
    .collect()
}

/// Finds a field. One that an image's configuration does not set is null, as in docker, where the
/// configuration has every field; an unknown one at the top is a mistake.
fn field<'a>(path: &str, value: &'a Value) -> Result<&'a Value, String> {
    const NULL: &Value = &Value::Null;
    let Some(names) = path.strip_prefix('.') else {
        return Err(format!("`{path}` is not a field: a field starts with a dot"));
    };
    let mut current = value;
    for (depth, name) in names.split('.').filter(|name| !name.is_empty()).enumerate() {
        current = match (current.get(name), current.as_object()) {
            (Some(found), _) => found,
            (None, Some(fields)) if depth == 0 => {
                let known: Vec<&str> = fields.keys().map(String::as_str).collect();
                return Err(format!("there is no field `{name}`; there are {}", known.join(", ")));
            }
            (None, Some(_)) => NULL,
            (None, None) if current.is_null() => NULL,
            (None, None) => return Err(format!("there is no field `{name}`")),
        };
    }
    Ok(current)
}

fn length(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        Value::String(text) => text.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// `index`: an item of a list by its number, or of a map by its quoted key.
fn index<'a>(value: &'a Value, key: &str) -> Result<&'a Value, String> {
    const NULL: &Value = &Value::Null;
    if let Some(key) = quoted(key) {
        return Ok(value.get(key).unwrap_or(NULL));
    }
    let number: usize = key.parse().map_err(|_| format!("`{key}` is no index"))?;
    value.get(number).ok_or_else(|| format!("there is no item {number}"))
}

fn join(value: &Value, separator: &str) -> Result<String, String> {
    let separator = quoted(separator).ok_or_else(|| format!("`{separator}` is not quoted"))?;
    let items: Vec<String> = value.as_array().into_iter().flatten().map(plain).collect();
    Ok(items.join(&unescape(separator)))
}

/// Returns what is between double quotes or backquotes.
fn quoted(text: &str) -> Option<&str> {
    ['"', '`'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
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
        assert_eq!(ok("{{index .Config.Env 1}} {{len .Config.Env}}"), "C=d 2");
        assert_eq!(ok("{{join .Config.Env \", \"}}"), "A=b, C=d");
        assert_eq!(ok("{{index .Config \"Env\"}}"), "[A=b C=d]");
        // An image without a command, or without labels.
        assert_eq!(ok("{{json .Config.Cmd}} {{.Config.Labels.who}}"), "null <no value>");
    }

    #[test]
    fn says_what_it_does_not_understand() {
        let value = json!({"A": 1});
        assert_eq!(fill("{{.B}}", &value), Err("there is no field `B`; there are A".to_owned()));
        assert!(fill("{{range .A}}", &value).is_err());
        assert!(fill("{{.A", &value).is_err());
    }
}
