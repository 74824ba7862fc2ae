//! Build checks: what is legal but probably not meant. Rule names and texts are those of
//! BuildKit's checks (Dockerfile documentation, "Build checks").

mod stages;
mod words;

use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::source::{Span, Word};

/// A remark about a legal Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule that was broken.
    pub rule: Rule,
    /// What is wrong here.
    pub message: String,
    /// The text it is about.
    pub span: Span,
}

macro_rules! rules {
    ($($(#[$meta:meta])* $name:ident: $description:literal,)*) => {
        /// The rules that rpub checks.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Rule {
            $(#[doc = $description] $name,)*
        }

        impl Rule {
            /// All rules.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the rule's name, as `# check=skip=` takes it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Returns what the rule asks for, in one sentence.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$name => $description,)* }
            }
        }
    };
}

rules! {
    ConsistentInstructionCasing: "All instructions within a Dockerfile use the same casing.",
    DuplicateStageName: "Stage names are unique.",
    FromAsCasing: "The casing of `AS` matches that of `FROM`.",
    JSONArgsRecommended: "`CMD` and `ENTRYPOINT` use the JSON form, so that signals reach the program.",
    LegacyKeyValueFormat: "`ENV` and `LABEL` use `key=value`, not `key value`.",
    MaintainerDeprecated: "A label names the author, not the deprecated `MAINTAINER`.",
    MultipleInstructionsDisallowed: "A stage has at most one `CMD`, `ENTRYPOINT` and `HEALTHCHECK`.",
    NoEmptyContinuation: "No empty line stands inside a continued instruction.",
    ReservedStageName: "No stage is called `scratch` or `context`.",
    StageNameCasing: "Stage names are in lower case.",
    WorkdirRelativePath: "The first `WORKDIR` of a stage on an unknown base is absolute.",
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What the rules need of an instruction that its typed form does not keep.
#[derive(Debug, Default)]
pub(crate) struct Note {
    /// The instruction's keyword as written.
    pub(crate) keyword: Word,
    /// `AS` as written.
    pub(crate) as_keyword: Option<Word>,
    /// The stage's name as written.
    pub(crate) stage_name: Option<Word>,
    /// The arguments of the old form of `ENV` or `LABEL`.
    pub(crate) legacy_pair: Option<Span>,
    /// Empty lines inside the instruction.
    pub(crate) empty_continuations: Vec<Span>,
}

/// Applies all rules but those that `# check=skip=` names; warnings are in the order of the file.
pub(crate) fn check(file: &Dockerfile, notes: &[Note]) -> Vec<Warning> {
    let skipped = skipped(file.directives.check.as_ref().map_or("", |check| &check.text));
    let mut warnings = Vec::new();
    words::check(notes, &mut warnings);
    stages::check(file, &mut warnings);
    warnings.retain(|warning| !skipped.contains(&warning.rule));
    warnings.sort_by_key(|warning| (warning.span, warning.rule));
    warnings
}

/// Reads `skip=A,B` (or `skip=all`) of a `check` directive; its options are separated by `;`.
fn skipped(check: &str) -> Vec<Rule> {
    let lists = check.split(';').filter_map(|option| option.trim().strip_prefix("skip="));
    let names: Vec<&str> = lists.flat_map(|list| list.split(',')).map(str::trim).collect();
    let is_skipped = |rule: &&Rule| names.iter().any(|name| *name == "all" || *name == rule.name());
    Rule::ALL.iter().filter(is_skipped).copied().collect()
}
