//! Patterns of tags and of repositories: a name, a glob, or a regular expression between slashes.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// Largest compiled regular expression.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Says which names are meant.
///
/// `3.20` is that name; `3.*` a glob, in which `*` and `?` stop at a `/`, `**` does not, and `[a-c]`
/// is one of several characters; `/3\.\d+/` a regular expression that must match the whole name.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    matcher: Matcher,
}

#[derive(Debug, Clone)]
enum Matcher {
    Name,
    Expression(Regex),
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expression = match text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            Some("") => return Err("a regular expression between slashes is empty".to_owned()),
            Some(expression) => Some(expression.to_owned()),
            None if text.is_empty() => return Err("a pattern is empty".to_owned()),
            None if is_glob(text) => Some(of_glob(text)?),
            None => None,
        };
        let matcher = match expression {
            None => Matcher::Name,
            Some(expression) => {
                let mut builder = RegexBuilder::new(&format!("^(?:{expression})$"));
                let built = builder.size_limit(MAX_REGEX_BYTES).build();
                Matcher::Expression(built.map_err(|error| reason(text, &error))?)
            }
        };
        Ok(Self { text: text.to_owned(), matcher })
    }

    /// Returns the name when the pattern is one.
    #[must_use]
    pub fn as_name(&self) -> Option<&str> {
        matches!(self.matcher, Matcher::Name).then_some(self.text.as_str())
    }

    /// Returns whether `name` is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Name => self.text == name,
            Matcher::Expression(regex) => regex.is_match(name),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Returns whether one of the patterns means `name`.
pub(super) fn any(patterns: &[Pattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

/// Returns whether a text has wildcards.
pub(super) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Returns the last line of the crate's message, which says what is wrong; those above draw.
fn reason(text: &str, error: &regex::Error) -> String {
    let message = error.to_string();
    let last = message.lines().last().unwrap_or_default();
    format!("`{text}` is no regular expression: {}", last.trim_start_matches("error: "))
}

/// Returns the regular expression of a glob.
fn of_glob(glob: &str) -> Result<String, String> {
    let mut expression = String::new();
    let mut rest = glob;
    while let Some(at) = rest.find(['*', '?', '[']) {
        expression.push_str(&regex::escape(&rest[..at]));
        rest = &rest[at..];
        let length = if rest.starts_with("**") {
            expression.push_str(".*");
            2
        } else if rest.starts_with('*') {
            expression.push_str("[^/]*");
            1
        } else if rest.starts_with('?') {
            expression.push_str("[^/]");
            1
        } else {
            let end = rest.find(']').unwrap_or_default();
            expression.push_str(&of_set(rest.get(1..end).unwrap_or_default()).ok_or_else(
                || format!("`{glob}` has a `[` that does not begin a set such as `[0-9]`"),
            )?);
            end + 1
        };
        rest = &rest[length..];
    }
    Ok(expression + &regex::escape(rest))
}

/// Returns the regular expression of the set of characters between brackets.
fn of_set(set: &str) -> Option<String> {
    let (negated, set) = match set.strip_prefix(['!', '^']) {
        Some(set) => ("^", set),
        None => ("", set),
    };
    let is_well = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    (!set.is_empty() && set.chars().all(is_well)).then(|| format!("[{negated}{set}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_globs_and_expressions() {
        for (pattern, yes, no) in [
            ("3.20", "3.20", "3x20"),
            ("3.*", "3.20", "13.20"),
            ("*-alpine", "1-alpine", "alpine"),
            ("v?.0", "v1.0", "v10.0"),
            ("1.[0-3]", "1.2", "1.4"),
            ("[!v]*", "1", "v1"),
            ("team/*", "team/app", "team/app/cache"),
            ("team/**", "team/app/cache", "other/app"),
            ("**", "a/b/c", ""),
            (r"/3\.\d+/", "3.20", "3.20.1"),
            ("/a|b/", "b", "ab"),
        ] {
            let pattern = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{error}"));
            assert!(pattern.matches(yes), "{pattern} and {yes}");
            assert!(no.is_empty() || !pattern.matches(no), "{pattern} and {no}");
        }
        assert_eq!(Pattern::parse("latest").map(|it| it.as_name().is_some()), Ok(true));
    }

    #[test]
    fn what_is_no_pattern_is_said() {
        for (pattern, expected) in [
            ("", "a pattern is empty"),
            ("//", "a regular expression between slashes is empty"),
            ("/(/", "`/(/` is no regular expression: unclosed group"),
            ("[]", "`[]` has a `[` that"),
            ("1.[0", "has a `[` that does not begin a set"),
            ("[z-a]", "is no regular expression"),
            ("/a{1000000}{1000}/", "no regular expression"),
        ] {
            let error = Pattern::parse(pattern).err().unwrap_or_default();
            assert!(error.contains(expected), "{pattern}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[ -~]{0,20}", name in "[ -~]{0,10}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                let _ = pattern.matches(&name);
            }
        }
    }
}
