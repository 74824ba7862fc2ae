//! Shell patterns in substitutions: `*`, `?` and `\`, no brackets.

use regex::Regex;

/// How much a `*` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// As little as it can.
    Shortest,
    /// As much as it can.
    Longest,
}

/// A compiled pattern.
pub(crate) struct Pattern(Regex);

impl Pattern {
    /// Compiles the pattern of `${v/pattern/...}`.
    pub(crate) fn replacing(pattern: &str) -> Result<Self, String> {
        compile(pattern.chars(), pattern, Extent::Longest, "").map(Self)
    }

    /// Replaces all matches; `$1` and the like in the replacement mean (empty) groups, as in BuildKit.
    pub(crate) fn replace_all(&self, value: &str, replacement: &str) -> String {
        self.0.replace_all(value, replacement).into_owned()
    }

    /// Replaces the first match; the replacement is literal.
    pub(crate) fn replace_first(&self, value: &str, replacement: &str) -> String {
        self.0.replacen(value, 1, regex::NoExpand(replacement)).into_owned()
    }
}

/// Removes the pattern from the value's start.
pub(crate) fn trim_prefix(pattern: &str, value: &str, extent: Extent) -> Result<String, String> {
    let regex = compile(pattern.chars(), pattern, extent, "^")?;
    let end = regex.find(value).map_or(0, |found| found.end());
    Ok(value[end..].to_owned())
}

/// Removes the pattern from the value's end. A regular expression finds the leftmost match, so
/// that both are turned around.
pub(crate) fn trim_suffix(pattern: &str, value: &str, extent: Extent) -> Result<String, String> {
    let mut turned: Vec<char> = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.next() } else { None };
        turned.extend(escaped);
        turned.push(c);
    }
    let regex = compile(turned.into_iter().rev(), pattern, extent, "^")?;
    let value: String = value.chars().rev().collect();
    let end = regex.find(&value).map_or(0, |found| found.end());
    Ok(value[end..].chars().rev().collect())
}

fn compile(
    chars: impl Iterator<Item = char>,
    shown: &str,
    extent: Extent,
    anchor: &str,
) -> Result<Regex, String> {
    let fault = |why: String| format!("invalid pattern ({shown}) in substitution: {why}");
    let mut expression = anchor.to_owned();
    let mut chars = chars.peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if extent == Extent::Longest => expression.push_str(".*"),
            '*' => expression.push_str(".*?"),
            '?' => expression.push('.'),
            '\\' => match chars.next() {
                // `}` and `/` end the pattern unless escaped; the escape is not part of it.
                Some(c @ ('*' | '?' | '\\' | '}' | '/')) => push_literal(&mut expression, c),
                Some(other) => return Err(fault(format!("invalid escape '\\{other}'"))),
                None => return Err(fault("invalid escape at the end".to_owned())),
            },
            c => push_literal(&mut expression, c),
        }
    }
    Regex::new(&expression).map_err(|error| fault(error.to_string()))
}

fn push_literal(expression: &mut String, c: char) {
    expression.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
}
