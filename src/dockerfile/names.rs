//! Stage names: their grammar, and finding a stage by name or number.

use crate::dockerfile::ast::Stage;

/// A stage name in lower case: a letter, then letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StageName(String);

/// Says that a text is no stage name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid name for build stage: {0:?}, name can't start with a number or contain symbols")]
pub struct InvalidStageName(pub String);

impl StageName {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for StageName {
    type Err = InvalidStageName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_lowercase();
        let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        let first = lower.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if first && lower.bytes().all(legal) {
            Ok(Self(lower))
        } else {
            Err(InvalidStageName(text.to_owned()))
        }
    }
}

impl std::fmt::Display for StageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Finds the stage that a `FROM` means, among the stages before it: the last one of that name, in
/// exactly that casing. A number is not a stage here.
#[must_use]
pub fn find_base(before: &[Stage], base: &str) -> Option<usize> {
    before.iter().rposition(|stage| stage.name.as_ref().is_some_and(|name| name.as_str() == base))
}

/// Finds the stage that `--from` or `--target` means: by number, or the last one of that name in
/// any casing. For `--from`, `stages` are those before the instruction's own.
#[must_use]
pub fn find_stage(stages: &[Stage], text: &str) -> Option<usize> {
    if let Ok(number) = text.parse::<usize>() {
        return (number < stages.len()).then_some(number);
    }
    find_base(stages, &text.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    #[test]
    fn names_follow_the_grammar() {
        for name in ["a", "Build", "x86_64-v2.1"] {
            assert_eq!(name.parse::<StageName>().unwrap().as_str(), name.to_lowercase());
        }
        for name in ["", "1a", "_a", "a/b", "a b", "é"] {
            assert!(name.parse::<StageName>().is_err(), "{name}");
        }
    }

    #[test]
    fn stages_are_found_by_name_and_number() {
        let stages = parse("FROM x AS Base\nFROM y\nFROM z AS base\n").unwrap().stages;
        assert_eq!(find_base(&stages, "base"), Some(2));
        assert_eq!(find_base(&stages[..2], "base"), Some(0));
        assert_eq!(find_base(&stages, "BASE"), None);
        assert_eq!(find_base(&stages, "1"), None);
        assert_eq!(find_stage(&stages, "BASE"), Some(2));
        assert_eq!(find_stage(&stages, "1"), Some(1));
        assert_eq!(find_stage(&stages, "3"), None);
        assert_eq!(find_stage(&stages, "y"), None);
    }
}
