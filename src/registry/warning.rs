//! What registries want their users to know (OCI distribution-spec, "Warnings").

use http::HeaderMap;
use http::header::WARNING;

/// Most of a header that is read: the specification's limit of all warnings of an answer.
const MAX_BYTES: usize = 4096;

/// Returns the texts of an answer's warnings: those of code 299 from nobody else than the registry.
pub(super) fn texts(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(WARNING).iter();
    let values = values.filter(|value| value.len() <= MAX_BYTES);
    values.flat_map(|value| parse(&String::from_utf8_lossy(value.as_bytes()))).collect()
}

/// Reads a list of `299 - "text"` (RFC 7234, section 5.5, without the date). What follows
/// something else is passed over.
fn parse(text: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), text.trim_start());
    while let Some(quoted) = rest.strip_prefix("299 - \"") {
        let Some((warning, after)) = unquote(quoted) else { break };
        if !warning.is_empty() {
            found.push(warning);
        }
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or_default().trim_start();
    }
    found
}

/// Returns the text up to the closing quote, and what follows that. Control characters, which
/// could steer a terminal, are left out.
fn unquote(text: &str) -> Option<(String, &str)> {
    let (mut found, mut is_escaped) = (String::new(), false);
    for (at, character) in text.char_indices() {
        match character {
            '\\' if !is_escaped => is_escaped = true,
            '"' if !is_escaped => return Some((found.trim().to_owned(), &text[at + 1..])),
            character => {
                is_escaped = false;
                if !character.is_control() {
                    found.push(character);
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_registrys_own_warnings_are_read() {
        assert_eq!(parse(r#"299 - "quota: 90 % used""#), ["quota: 90 % used"]);
        assert_eq!(parse(r#"299 - "a \"b\" \\", 299 - "c, d""#), [r#"a "b" \"#, "c, d"]);
        assert_eq!(parse("299 - \"a\u{1b}[2Jb\""), ["a[2Jb"]);
        for other in ["", "199 - \"a\"", "299 proxy \"a\"", "299 - \"a", "299 - a", "299 - \"\""] {
            assert_eq!(parse(other), [] as [&str; 0], "{other}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".*") {
            parse(&text);
            parse(&format!("299 - \"{text}"));
        }
    }
}
