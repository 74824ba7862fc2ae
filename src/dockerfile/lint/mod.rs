//! Build checks: what is legal but probably not meant. Rule names and messages are those of
//! BuildKit's checks (Dockerfile documentation, "Build checks").
//!
//! Three kinds of rules: those about the text alone ([`words`], found while parsing), those about
//! `FROM` and the global arguments ([`bases`]), and those about what a stage's instructions expand
//! to (`survey`, which walks the stages). [`Checks`] says which rules count where.

mod bases;
mod checks;
mod values;
mod words;

use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::error::Error;
use crate::dockerfile::lines::{Logical, is_directive};
use crate::dockerfile::source::{Span, Word};
use crate::dockerfile::survey::{self, Surroundings};

pub use checks::Checks;
pub(crate) use values::{exposes, is_secret, takes_ignored};

/// A remark about a legal Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule that was broken.
    pub rule: Rule,
    /// What is wrong here.
    pub message: String,
    /// The text it is about.
    pub span: Span,
    /// The text whose lines BuildKit names: mostly the whole instruction.
    pub location: Span,
}

macro_rules! rules {
    ($($name:ident $(($grade:ident))?: $link:literal, $description:literal,)*) => {
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

            /// Returns the rule's name in docker's documentation; empty when it has no page.
            #[must_use]
            pub const fn page(self) -> &'static str {
                match self { $(Self::$name => $link,)* }
            }
        }
    };
}

rules! {
    ConsistentInstructionCasing: "consistent-instruction-casing",
        "All instructions within a Dockerfile use the same casing.",
    CopyIgnoredFile: "copy-ignored-file",
        "`COPY` and `ADD` take nothing that the ignore file leaves out of the build context.",
    DuplicateStageName: "duplicate-stage-name", "Stage names are unique.",
    ExposeInvalidFormat: "expose-invalid-format",
        "`EXPOSE` names ports of the container, without addresses and ports of the host.",
    ExposeProtoCasing: "expose-proto-casing", "Protocols in `EXPOSE` are in lower case.",
    FromAsCasing: "from-as-casing", "The casing of `AS` matches that of `FROM`.",
    FromPlatformFlagConstDisallowed: "from-platform-flag-const-disallowed",
        "`FROM --platform` has no constant value unless the stage is named for it.",
    InvalidBaseImagePlatform: "", "Base images are for the platform that is built.",
    InvalidDefaultArgInFrom: "invalid-default-arg-in-from",
        "The defaults of global arguments make valid base image names.",
    InvalidDefinitionDescription: "invalid-definition-description",
        "A comment directly above `FROM` or `ARG` describes it: the name, then the text.",
    JSONArgsRecommended: "json-args-recommended",
        "`CMD` and `ENTRYPOINT` use the JSON form, so that signals reach the program.",
    LegacyKeyValueFormat: "legacy-key-value-format",
        "`ENV` and `LABEL` use `key=value`, not `key value`.",
    MaintainerDeprecated: "maintainer-deprecated",
        "A label names the author, not the deprecated `MAINTAINER`.",
    MultipleInstructionsDisallowed: "multiple-instructions-disallowed",
        "A stage has at most one `CMD`, `ENTRYPOINT` and `HEALTHCHECK`.",
    NoEmptyContinuation: "no-empty-continuation",
        "No empty line stands inside a continued instruction.",
    RedundantTargetPlatform: "redundant-target-platform",
        "`FROM --platform=$TARGETPLATFORM` is left out: it is the default.",
    ReservedStageName: "reserved-stage-name", "No stage is called `scratch` or `context`.",
    SecretsUsedInArgOrEnv: "secrets-used-in-arg-or-env",
        "Secrets are not passed in `ARG` and `ENV`, which the image keeps.",
    StageNameCasing: "stage-name-casing", "Stage names are in lower case.",
    UndefinedArgInFrom: "undefined-arg-in-from",
        "`FROM` uses only arguments that are declared before it.",
    UndefinedVar: "undefined-var", "Variables are defined before they are used.",
    WorkdirRelativePath: "workdir-relative-path",
        "The first `WORKDIR` of a stage on an unknown base is absolute.",
}

impl Rule {
    /// Whether the rule counts only where `# check=experimental=` names it.
    #[must_use]
    pub const fn is_experimental(self) -> bool {
        matches!(self, Self::InvalidDefinitionDescription)
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What checking a Dockerfile found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// The warnings, in the order of the file.
    pub warnings: Vec<Warning>,
    /// Whether warnings fail the build: `error=true`.
    pub is_strict: bool,
}

impl Checked {
    /// Returns why the build is refused: it has warnings, and `error=true` says so.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        if !self.is_strict || self.warnings.is_empty() {
            return None;
        }
        let mut rules: Vec<Rule> = self.warnings.iter().map(|warning| warning.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        let names: Vec<&str> = rules.into_iter().map(Rule::name).collect();
        Some(format!("lint violation found for rules: {}", names.join(", ")))
    }
}

impl Dockerfile {
    /// Checks the file against all rules that count.
    ///
    /// # Errors
    ///
    /// For options of `# check=`, or of the argument that stands in for it, that are not understood.
    pub fn check(&self, surroundings: &Surroundings<'_>) -> Result<Checked, Error> {
        let checks = Checks::of(self, surroundings.build_args)?;
        let is_strict = checks.is_strict();
        let mut linter = Linter { checks, warnings: Vec::new() };
        for Remark { local, warning } in &self.remarks {
            linter.add(local.as_ref(), warning.clone());
        }
        bases::check(self, surroundings, &mut linter);
        survey::walk(self, surroundings, &mut linter);
        let mut warnings = linter.warnings;
        warnings.sort_by_key(|it| (it.location.start, it.rule, it.span));
        warnings.dedup();
        Ok(Checked { warnings, is_strict })
    }
}

/// Collects the warnings that count.
pub(crate) struct Linter {
    checks: Checks,
    warnings: Vec<Warning>,
}

impl Linter {
    /// Returns one that drops everything.
    pub(crate) fn deaf() -> Self {
        Self { checks: Checks::none(), warnings: Vec::new() }
    }

    /// Adds a warning unless its rule is skipped, in the file or by the comment above.
    pub(crate) fn add(&mut self, local: Option<&Checks>, warning: Warning) {
        if self.checks.want(warning.rule, local) {
            self.warnings.push(warning);
        }
    }
}

/// A warning that the text alone gives rise to, before anybody has said which rules count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remark {
    /// The `# check=` comment above the instruction.
    local: Option<Checks>,
    warning: Warning,
}

/// What the rules need of an instruction that its typed form does not keep.
#[derive(Debug, Default)]
pub(crate) struct Note {
    /// The instruction's keyword as written.
    pub(crate) keyword: Word,
    /// The whole instruction.
    pub(crate) location: Span,
    /// `AS` as written.
    pub(crate) as_keyword: Option<Word>,
    /// The stage's name as written.
    pub(crate) stage_name: Option<Word>,
    /// What a `FROM` or `ARG` gives names to.
    pub(crate) defines: Vec<String>,
    /// Whether it stands before the first `FROM`.
    pub(crate) is_global: bool,
    /// Empty lines inside the instruction.
    empty_continuations: Vec<Span>,
    /// Its last line.
    last_line: Span,
    /// The comments directly above, parser directives apart.
    comments: Vec<Word>,
    /// The `# check=` among them.
    pub(crate) checks: Option<Checks>,
}

impl Note {
    pub(crate) fn new(logical: &Logical, keyword: Word, location: Span) -> Self {
        let (directives, comments): (Vec<Word>, Vec<Word>) =
            logical.comments.iter().cloned().partition(|it| is_directive(&it.text).is_some());
        Self {
            keyword,
            location,
            empty_continuations: logical.empty_continuations.clone(),
            last_line: Span::new(logical.last_line, logical.source_end),
            checks: directives.iter().find_map(|it| Checks::of_comment(&it.text)),
            comments,
            ..Self::default()
        }
    }

    /// Returns what the comments say about `name`.
    pub(crate) fn description(&self, name: &str) -> Option<String> {
        let text = |comment: &Word| {
            comment.text.strip_prefix(name)?.strip_prefix(' ').map(|text| text.trim().to_owned())
        };
        self.comments.iter().find_map(text)
    }
}

/// Applies the rules about the text alone; the remarks are in the order of the file.
pub(crate) fn remarks(file: &Dockerfile, notes: &[Note]) -> Vec<Remark> {
    let mut remarks = words::check(file, notes);
    remarks.sort_by_key(|Remark { warning, .. }| (warning.span, warning.rule));
    remarks
}
