//! What the body of an error says: in the specification's words, or in those that registries and
//! the proxies before them use instead.

use serde_json::Value;

/// Most of an error message that is kept: error pages are long and say little.
const MAX_MESSAGE_CHARS: usize = 300;
/// Most errors of one body that are kept.
const MAX_ERRORS: usize = 8;
/// Where registries put a message outside of the specification's envelope.
const MESSAGE_KEYS: [&str; 6] =
    ["message", "details", "detail", "error_description", "error", "errors"];

/// Returns pairs of code and message: those of the envelope (OCI distribution-spec, "Error Codes"),
/// else one message without a code. An empty list says that the body tells nothing.
pub(super) fn parse(body: &[u8], is_text: bool) -> Vec<(String, String)> {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        let text = String::from_utf8_lossy(body);
        let message = if is_text { text.lines().next() } else { title(&text) };
        return only(message.unwrap_or_default());
    };
    let listed: Vec<(String, String)> = match value.get("errors") {
        Some(Value::Array(errors)) => errors.iter().take(MAX_ERRORS).filter_map(entry).collect(),
        Some(error @ Value::Object(_)) => entry(error).into_iter().collect(),
        _ => Vec::new(),
    };
    if !listed.is_empty() {
        return listed;
    }
    if let Value::String(message) = &value {
        return only(message);
    }
    let found = MESSAGE_KEYS.into_iter().find_map(|key| match value.get(key)? {
        Value::String(message) => Some(message.as_str()),
        Value::Object(inner) => inner.get("message")?.as_str(),
        _ => None,
    });
    only(found.unwrap_or_default())
}

/// Reads one error of the envelope. Its code may be a number, or it may be only a text.
fn entry(error: &Value) -> Option<(String, String)> {
    let text = |key: &str| match error.get(key)? {
        Value::String(text) => Some(clean(text)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let (code, message) = if let Value::String(message) = error {
        (String::new(), clean(message))
    } else {
        let message = text("message").or_else(|| text("detail")).unwrap_or_default();
        (text("code").unwrap_or_default(), message)
    };
    (!code.is_empty() || !message.is_empty()).then_some((code, message))
}

fn only(message: &str) -> Vec<(String, String)> {
    let message = clean(message);
    if message.is_empty() { Vec::new() } else { vec![(String::new(), message)] }
}

/// Returns the title of a page of HTML.
fn title(page: &str) -> Option<&str> {
    let start = page.find("<title>")? + "<title>".len();
    let length = page[start..].find("</title>")?;
    Some(&page[start..start + length])
}

/// Returns the text without control characters, which could steer a terminal, and not too long.
pub(super) fn clean(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wire row P12: error bodies of every shape, recorded ones among them.
    #[test]
    fn reads_the_errors_that_registries_send() {
        let cases = [
            (
                r#"{"errors":[{"code":"DENIED","message":"no\u001b[2J way"}]}"#,
                false,
                "DENIED|no[2J way",
            ),
            (
                r#"{"errors":[{"code":"NOT_FOUND","message":"artifact a/b:1 not found"}]}"#,
                false,
                "NOT_FOUND|artifact a/b:1 not found",
            ),
            (r#"{"errors":[{"code":"A","message":"m"},{"code":"B"}]}"#, false, "A|m; B|"),
            (
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":[{"Type":"repository"}]}]}"#,
                false,
                "UNAUTHORIZED|authentication required",
            ),
            (r#"{"errors":[{"code":404,"message":"Not found"}]}"#, false, "404|Not found"),
            (r#"{"errors":["just words"]}"#, false, "|just words"),
            (r#"{"errors":[{"message":null,"detail":"why"}]}"#, false, "|why"),
            (r#"{"errors":{"code":"DENIED","message":"m"}}"#, false, "DENIED|m"),
            (r#"{"errors":"words"}"#, false, "|words"),
            (r#"{"errors":7}"#, false, ""),
            (r#"{"details":"bad token"}"#, false, "|bad token"),
            (r#"{"error":"invalid_grant","error_description":"it ended"}"#, false, "|it ended"),
            (r#"{"error":{"code":403,"message":"IAM says no"}}"#, false, "|IAM says no"),
            (r#""a text""#, false, "|a text"),
            ("slow down\nmore", true, "|slow down"),
            ("<html><head><title>502 Bad Gateway</title></head></html>", false, "|502 Bad Gateway"),
            ("<html>nginx</html>", false, ""),
        ];
        for (body, is_text, expected) in cases {
            let read = parse(body.as_bytes(), is_text);
            let read: Vec<_> =
                read.iter().map(|(code, message)| format!("{code}|{message}")).collect();
            assert_eq!(read.join("; "), expected, "{body}");
        }
        assert_eq!(parse(b"\xff\xfe{", false), []);
        assert_eq!(parse(&[b'a'; 9999], true)[0].1.len(), MAX_MESSAGE_CHARS);
    }
}
