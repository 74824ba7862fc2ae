//! Build checks: what is legal but probably not meant. Rule names and texts are those of
//! BuildKit's checks (Dockerfile documentation, "Build checks").

use crate::dockerfile::source::Span;

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
