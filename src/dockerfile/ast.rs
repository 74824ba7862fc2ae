//! The typed form of a Dockerfile. Words are raw: whoever runs an instruction expands them.

use std::borrow::Cow;
use std::time::Duration;

use crate::dockerfile::lint::{Checks, Remark};
use crate::dockerfile::mount::Mount;
use crate::dockerfile::names::StageName;
use crate::dockerfile::source::{Span, Word};

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The escape character: `\`, or a backtick when the `escape` directive says so.
    pub escape: char,
    /// The parser directives at the top of the file.
    pub directives: Directives,
    /// The `ARG`s before the first `FROM`, in order; each is evaluated after the ones before it.
    pub global_args: Vec<ArgPair>,
    /// The stages in the order of the file; their position is their number.
    pub stages: Vec<Stage>,
    /// What the file's text alone gives rise to say; see [`Dockerfile::check`].
    pub(crate) remarks: Vec<Remark>,
}

/// Parser directives, as written (Dockerfile reference, "Parser directives").
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directives {
    /// `# syntax=`: the frontend's image reference; rpub never fetches it.
    pub syntax: Option<Word>,
    /// `# escape=`.
    pub escape: Option<Word>,
    /// `# check=`.
    pub check: Option<Word>,
}

/// One `FROM` and the instructions up to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The name given by `AS`, in lower case.
    pub name: Option<StageName>,
    /// Where the name stands.
    pub name_span: Option<Span>,
    /// The base as written: a stage, an image reference, or `scratch`. Global arguments expand in it.
    pub base: Word,
    /// The value of `--platform`, not expanded; the span covers the flag.
    pub platform: Option<Word>,
    /// The `FROM` instruction's own text.
    pub span: Span,
    /// The `FROM` line, continuations joined.
    pub original: String,
    /// What the comments directly above say about the stage: `# NAME text`.
    pub description: Option<String>,
    /// The `# check=` comment directly above.
    pub checks: Option<Checks>,
    /// The stage's instructions in order.
    pub instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// What it is.
    pub kind: InstructionKind,
    /// Its text in the file: continuation lines and here-documents included, final newline not.
    pub span: Span,
    /// The keyword's text, for pointing at the instruction as a whole.
    pub keyword_span: Span,
    /// The instruction with its flags as written, continuations joined, without here-document bodies.
    pub original: String,
    /// Its flags as written, in order. Typed values are in `kind`.
    pub flags: Vec<Flag>,
    /// The `# check=` comment directly above.
    pub checks: Option<Checks>,
}

impl Instruction {
    /// Returns the instruction's name in capitals.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// Returns the first flag of this name, given without `--`.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<&Flag> {
        self.flags.iter().find(|flag| flag.name == name)
    }
}

/// A flag as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The name without `--`.
    pub name: String,
    /// What follows `=`; quotes are removed, variables are not expanded.
    pub value: Option<String>,
    /// The whole flag's text.
    pub span: Span,
}

/// What an instruction is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstructionKind {
    /// `ADD`.
    Add(Add),
    /// `ARG` inside a stage; pairs are evaluated one after another.
    Arg(Vec<ArgPair>),
    /// `CMD`. `CMD []` is an empty `Exec`.
    Cmd(Command),
    /// `COPY`.
    Copy(Copy),
    /// `ENTRYPOINT`. `ENTRYPOINT []` is an empty `Exec`.
    Entrypoint(Command),
    /// `ENV`; all pairs see the environment before the instruction. Keys expand too.
    Env(Vec<Pair>),
    /// `EXPOSE`, as written; expansion may split a word.
    Expose(Vec<Word>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `LABEL`; the same grammar as `ENV`.
    Label(Vec<Pair>),
    /// `MAINTAINER`.
    Maintainer(Word),
    /// `ONBUILD`.
    Onbuild(Onbuild),
    /// `RUN`.
    Run(Run),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    Stopsignal(Word),
    /// `USER`.
    User(Word),
    /// `VOLUME`.
    Volume(Vec<Word>),
    /// `WORKDIR`.
    Workdir(Word),
}

impl InstructionKind {
    /// Returns the instruction's name in capitals.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::Stopsignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

/// A `key=value` of `ENV` or `LABEL`, both raw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key, not expanded.
    pub key: Word,
    /// The value, not expanded, quotes kept. In the old form (`ENV key rest`) all of the rest.
    pub value: Word,
    /// Whether it is in the old form, without `=`.
    pub is_legacy: bool,
}

/// One name of an `ARG`, perhaps with a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgPair {
    /// The name; never expanded.
    pub name: Word,
    /// The default, not expanded, quotes kept.
    pub default: Option<Word>,
    /// What the comments directly above say about it: `# NAME text`.
    pub description: Option<String>,
    /// The whole `ARG`.
    pub instruction: Span,
}

/// The command of `RUN`, `CMD`, `ENTRYPOINT` and `HEALTHCHECK CMD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The shell form: one text for the shell, continuations joined.
    Shell(Word),
    /// The exec (JSON) form: the arguments.
    Exec(Vec<String>),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The command line as written; see [`Run::script`] for what is run.
    pub command: Command,
    /// Bodies of the here-documents on the line, in order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount` flags.
    pub mounts: Vec<Mount>,
    /// `--network`.
    pub network: Option<RunNetwork>,
    /// `--security`.
    pub security: Option<RunSecurity>,
    /// `--device` values.
    pub devices: Vec<Word>,
}

/// `RUN --network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunNetwork {
    /// The build's network.
    Default,
    /// A network namespace with only the loopback device.
    None,
    /// The host's network.
    Host,
}

/// `RUN --security`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunSecurity {
    /// The usual restrictions.
    Sandbox,
    /// All capabilities.
    Insecure,
}

/// What a `RUN` really runs, its here-documents considered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunScript<'a> {
    /// A text for the stage's shell.
    Shell(Cow<'a, str>),
    /// Arguments to run as they are.
    Exec(&'a [String]),
    /// A here-document with a `#!` line: a file with mode 0755, `/dev/pipes/<name>`, to be run itself.
    File {
        /// The here-document's word: the file's name.
        name: &'a str,
        /// The file's content.
        content: Cow<'a, str>,
    },
}

/// `COPY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// All arguments but the last.
    pub sources: Vec<Source>,
    /// The last argument.
    pub destination: Word,
    /// `--from`: stage name or number, image reference or named context; never expanded.
    pub from: Option<Word>,
    /// `--chown`, not expanded.
    pub chown: Option<Word>,
    /// `--chmod`, not expanded.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude` patterns, not expanded.
    pub exclude: Vec<Word>,
}

/// `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// All arguments but the last.
    pub sources: Vec<Source>,
    /// The last argument.
    pub destination: Word,
    /// `--chown`, not expanded.
    pub chown: Option<Word>,
    /// `--chmod`, not expanded.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--keep-git-dir`.
    pub keep_git_dir: bool,
    /// `--checksum`, not expanded.
    pub checksum: Option<Word>,
    /// `--exclude` patterns, not expanded.
    pub exclude: Vec<Word>,
    /// `--unpack`; none when not given: local archives are unpacked, remote ones are not.
    pub unpack: Option<bool>,
}

/// A source argument of `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path, pattern or URL, not expanded.
    Path(Word),
    /// A here-document: a file with the document's word as its name and mode 0644.
    Heredoc(Heredoc),
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word after `<<`, unquoted: the terminator, and the file's name.
    pub name: String,
    /// The lines as in the file, leading tabs included; see [`Heredoc::body`].
    pub content: String,
    /// Whether variables expand in the body: no part of the word was quoted.
    pub expand: bool,
    /// `<<-`: leading tabs of each line are not part of the body.
    pub strip_tabs: bool,
    /// The number before `<<`, 0 when there is none.
    pub fd: u32,
    /// The word in the instruction, `<<` included.
    pub span: Span,
    /// The body in the file, without the terminator's line.
    pub body_span: Span,
    /// Offset in the file after the terminator.
    pub end: usize,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`.
    None,
    /// `HEALTHCHECK CMD`.
    Test {
        /// The command.
        command: Command,
        /// `--interval`; zero when not given: inherited.
        interval: Duration,
        /// `--timeout`; zero when not given.
        timeout: Duration,
        /// `--start-period`; zero when not given.
        start_period: Duration,
        /// `--start-interval`; zero when not given.
        start_interval: Duration,
        /// `--retries`; zero when not given.
        retries: u32,
    },
}

/// `ONBUILD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onbuild {
    /// The trigger as the image's config stores it: the instruction's text after `ONBUILD`, its
    /// here-documents appended. [`parse_trigger`](crate::dockerfile::parse_trigger) reads it back.
    pub trigger: String,
    /// The trigger's keyword.
    pub keyword: Word,
}
