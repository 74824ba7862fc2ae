//! Which rules count: the options of `# check=`.

use std::collections::BTreeMap;

use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::error::{Error, ErrorKind};
use crate::dockerfile::lines::is_directive;
use crate::dockerfile::lint::Rule;
use crate::dockerfile::source::Span;

/// The build argument that stands in for the directive.
const ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// The options of `# check=`: `skip=A,B|all`, `experimental=A,B|all`, `error=true`, with `;` between.
///
/// ```
/// use rpub::dockerfile::Checks;
/// let checks: Checks = "skip=StageNameCasing;error=true".parse().unwrap();
/// assert!(checks.is_strict());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checks {
    skip: Selection,
    experimental: Selection,
    is_strict: bool,
}

/// Some rules.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Selection {
    All,
    Named(Vec<String>),
}

impl Default for Selection {
    fn default() -> Self {
        Self::Named(Vec::new())
    }
}

impl Selection {
    fn of(text: &str) -> Self {
        match text {
            "all" => Self::All,
            names => Self::Named(names.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }

    fn has(&self, rule: Rule) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|name| name == rule.name()),
        }
    }
}

/// Says that the options of `# check=` are not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidChecks(String);

impl std::str::FromStr for Checks {
    type Err = InvalidChecks;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut checks = Self::default();
        for option in text.trim().splitn(3, ';').filter(|_| !text.trim().is_empty()) {
            let invalid = |what: &str| InvalidChecks(format!("invalid check option {what:?}"));
            let (key, value) = option.split_once('=').ok_or_else(|| invalid(option))?;
            let value = value.trim();
            match key.trim() {
                "skip" => checks.skip = Selection::of(value),
                "experimental" => checks.experimental = Selection::of(value),
                "error" => {
                    let message = || {
                        InvalidChecks(format!(
                            "failed to parse check option {option:?}: {value:?} is neither true \
                             nor false"
                        ))
                    };
                    checks.is_strict = boolean(value).ok_or_else(message)?;
                }
                key => return Err(invalid(key)),
            }
        }
        Ok(checks)
    }
}

/// Reads a truth value as Go's `strconv.ParseBool` does.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

impl Checks {
    /// Whether warnings fail the build.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.is_strict
    }

    /// Returns the options under which no rule counts.
    pub(super) fn none() -> Self {
        Self { skip: Selection::All, ..Self::default() }
    }

    /// Returns the options of a file: those of the build argument if it is given, else those of the
    /// directive.
    pub(super) fn of(
        file: &Dockerfile,
        build_args: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let fault = |what: &str, error: &InvalidChecks, span: Span| {
            Error::new(ErrorKind::BadDirective, format!("failed to parse {what}: {error}"), span)
        };
        if let Some(text) = build_args.get(ARGUMENT) {
            return text.parse().map_err(|error| fault(ARGUMENT, &error, Span::default()));
        }
        let Some(check) = &file.directives.check else { return Ok(Self::default()) };
        first_word(&check.text).parse().map_err(|error| fault("check options", &error, check.span))
    }

    /// Returns the options of a comment above an instruction, if it is `# check=`. One that is not
    /// understood changes nothing.
    pub(super) fn of_comment(comment: &str) -> Option<Self> {
        let (key, value) = is_directive(comment)?;
        if key == "check" { first_word(value).parse().ok() } else { None }
    }

    /// Whether a rule counts, given the options of the comment above the instruction too.
    pub(crate) fn want(&self, rule: Rule, local: Option<&Self>) -> bool {
        let has = |pick: fn(&Self) -> &Selection| {
            pick(self).has(rule) || local.is_some_and(|local| pick(local).has(rule))
        };
        if rule.is_experimental() { has(|it| &it.experimental) } else { !has(|it| &it.skip) }
    }
}

/// A directive's value ends at the first space.
fn first_word(value: &str) -> &str {
    value.split(' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        for (text, strict, skipped) in [
            ("", false, false),
            ("skip=all", false, true),
            ("skip=StageNameCasing, UndefinedVar", false, true),
            ("skip=UndefinedVar;error=1", true, false),
            ("error=true ; skip = StageNameCasing", true, true),
            ("experimental=all", false, false),
            ("error=False", false, false),
        ] {
            let checks: Checks = text.parse().unwrap();
            assert_eq!(checks.is_strict(), strict, "{text}");
            assert_eq!(!checks.want(Rule::StageNameCasing, None), skipped, "{text}");
        }
        for (text, message) in [
            ("skip", "invalid check option \"skip\""),
            ("none=x", "invalid check option \"none\""),
            (
                "error=maybe",
                "failed to parse check option \"error=maybe\": \"maybe\" is neither true nor false",
            ),
            ("skip=a;;error=true", "invalid check option \"\""),
        ] {
            assert_eq!(text.parse::<Checks>().unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn experimental_rules_count_where_they_are_asked_for() {
        let rule = Rule::InvalidDefinitionDescription;
        let checks = |text: &str| text.parse::<Checks>().unwrap();
        assert!(!checks("").want(rule, None));
        assert!(checks("experimental=all").want(rule, None));
        assert!(checks("skip=all;experimental=InvalidDefinitionDescription").want(rule, None));
        assert!(checks("").want(rule, Some(&checks("experimental=all"))));
        assert!(!checks("").want(Rule::UndefinedVar, Some(&checks("skip=UndefinedVar"))));
    }
}
