//! Walks `fixtures/dockerfile`: each case is a `Dockerfile` and either `expected`, a dump of what
//! it parses to, or `error`, the refusal's place and words. A case needs no code.
//!
//! The dump has one line an instruction, `line:column NAME` and its parts; `flag`, `body` and
//! `warning` lines stand below what they belong to. To add a case, write its `Dockerfile` and copy
//! the dump that the failing test prints, once it is read and found right. Directories with an
//! `image` or `build-error` and neither of these are for `tests/it/corpus`, which builds them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::dockerfile::{
    ArgPair, Checked, Command, Dockerfile, Error, Healthcheck, Heredoc, Instruction,
    InstructionKind, Pair, Position, RunScript, Source, Span, Surroundings, Warning, Word,
    expand_heredoc, expand_words, parse, parse_trigger,
};
use crate::ignore::Patterns;

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dockerfile");
    let entries = fs_err::read_dir(root).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

#[test]
fn corpus() {
    let cases = cases();
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    let mut failures = String::new();
    for case in cases {
        let has = |name: &&str| case.join(name).exists();
        let is_built = ["image", "build-error"].iter().any(has);
        if is_built && !["expected", "error"].iter().any(has) {
            continue;
        }
        let text = fs_err::read_to_string(case.join("Dockerfile")).unwrap();
        let (file, found) = match parse(&text) {
            Ok(file) => ("expected", Dump::of(&text, &file)),
            Err(error) => ("error", format!("{} {error}\n", error.position(&text))),
        };
        let expected = fs_err::read_to_string(case.join(file)).unwrap_or_default();
        let other = if file == "error" { "expected" } else { "error" };
        if expected != found || case.join(other).exists() {
            let name = case.file_name().unwrap().to_string_lossy();
            write!(failures, "== {name}/{file}\n{found}-- instead of\n{expected}").unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// The stable text form of a parsed file.
struct Dump<'a> {
    text: &'a str,
    out: String,
}

impl<'a> Dump<'a> {
    fn of(text: &'a str, file: &Dockerfile) -> String {
        let mut dump = Dump { text, out: String::new() };
        let directives = [
            ("syntax", &file.directives.syntax),
            ("escape", &file.directives.escape),
            ("check", &file.directives.check),
        ];
        for (name, word) in directives {
            if let Some(word) = word {
                dump.line(word.span, &format!("# {name}={}", word.text));
            }
        }
        for pair in &file.global_args {
            dump.line(pair.name.span, &format!("global {}", argument(pair)));
        }
        for stage in &file.stages {
            let platform = stage.platform.as_ref().map(|it| format!(" platform={:?}", it.text));
            let name = stage.name.as_ref().map(|name| format!(" as {name}"));
            let line = format!(
                "FROM {:?}{}{}{}",
                stage.base.text,
                platform.unwrap_or_default(),
                name.unwrap_or_default(),
                description(stage.description.as_ref())
            );
            dump.line(stage.span, &line);
            for instruction in &stage.instructions {
                dump.instruction(instruction);
            }
        }
        match check(file) {
            Ok(checked) => {
                for Warning { rule, message, span, location } in checked.warnings {
                    let named = location.position(text).line;
                    let line = if named == span.position(text).line {
                        String::new()
                    } else {
                        format!(" (line {named})")
                    };
                    dump.line(span, &format!("warning {rule}: {message}{line}"));
                }
            }
            Err(error) => dump.line(error.span, &format!("error {error}")),
        }
        dump.out
    }

    fn line(&mut self, span: Span, rest: &str) {
        let Position { line, column } = span.position(self.text);
        writeln!(self.out, "{line}:{column} {rest}").unwrap();
    }

    fn instruction(&mut self, instruction: &Instruction) {
        let mut line = instruction.name().to_owned();
        for part in parts(&instruction.kind) {
            line.push(' ');
            line.push_str(&part);
        }
        self.line(instruction.span, &line);
        for flag in &instruction.flags {
            let value = flag.value.as_ref().map(|value| format!("={value:?}")).unwrap_or_default();
            self.out.push_str("  ");
            self.line(flag.span, &format!("--{}{value}", flag.name));
        }
        let bodies = match &instruction.kind {
            InstructionKind::Run(run) => run.heredocs.clone(),
            InstructionKind::Copy(copy) => bodies(&copy.sources),
            InstructionKind::Add(add) => bodies(&add.sources),
            _ => Vec::new(),
        };
        for body in bodies {
            let mode = if body.expand { "expand" } else { "literal" };
            let fd = if body.fd == 0 { String::new() } else { format!(" fd={}", body.fd) };
            self.out.push_str("  ");
            self.line(body.span, &format!("<<{} {mode}{fd} {:?}", body.name, body.body()));
        }
        if let InstructionKind::Run(run) = &instruction.kind
            && !run.heredocs.is_empty()
        {
            writeln!(self.out, "  script {:?}", script(run.script())).unwrap();
        }
    }
}

/// Checks a file as if it were built for another platform than this machine's, all bases bring
/// nothing, and no argument is given.
fn check(file: &Dockerfile) -> Result<Checked, Error> {
    let predefined = [
        ("TARGETPLATFORM", "linux/arm64"),
        ("TARGETOS", "linux"),
        ("TARGETARCH", "arm64"),
        ("BUILDPLATFORM", "linux/amd64"),
        ("BUILDOS", "linux"),
        ("BUILDARCH", "amd64"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    file.check(&Surroundings {
        build_args: &BTreeMap::new(),
        predefined: &predefined,
        bases: &BTreeMap::new(),
        stages: None,
        other_platforms: &[],
        ignored: &Patterns::default(),
        is_reference: &|text| !text.is_empty() && !text.starts_with(':') && !text.ends_with(':'),
    })
}

fn script(script: RunScript<'_>) -> String {
    match script {
        RunScript::Shell(text) => text.into_owned(),
        RunScript::Exec(arguments) => arguments.join(" "),
        RunScript::File { name, content } => format!("/dev/pipes/{name}: {content}"),
    }
}

fn bodies(sources: &[Source]) -> Vec<Heredoc> {
    let body = |source: &Source| match source {
        Source::Heredoc(heredoc) => Some(heredoc.clone()),
        Source::Path(_) => None,
    };
    sources.iter().filter_map(body).collect()
}

fn parts(kind: &InstructionKind) -> Vec<String> {
    let word = |word: &Word| format!("{:?}", word.text);
    let pair = |pair: &Pair| format!("{}={:?}", pair.key.text, pair.value.text);
    match kind {
        InstructionKind::Add(add) => copied(&add.sources, &add.destination),
        InstructionKind::Copy(copy) => copied(&copy.sources, &copy.destination),
        InstructionKind::Arg(pairs) => pairs.iter().map(argument).collect(),
        InstructionKind::Cmd(it) | InstructionKind::Entrypoint(it) => vec![command(it)],
        InstructionKind::Run(run) => vec![command(&run.command)],
        InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => {
            pairs.iter().map(pair).collect()
        }
        InstructionKind::Expose(words) | InstructionKind::Volume(words) => {
            words.iter().map(word).collect()
        }
        InstructionKind::Healthcheck(Healthcheck::None) => vec!["NONE".to_owned()],
        InstructionKind::Healthcheck(Healthcheck::Test {
            command: test,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        }) => vec![
            command(test),
            format!("{interval:?} {timeout:?} {start_period:?} {start_interval:?} {retries}"),
        ],
        InstructionKind::Shell(arguments) => vec![format!("{arguments:?}")],
        InstructionKind::Onbuild(onbuild) => {
            vec![onbuild.keyword.text.clone(), format!("{:?}", onbuild.trigger)]
        }
        InstructionKind::Maintainer(it)
        | InstructionKind::Stopsignal(it)
        | InstructionKind::User(it)
        | InstructionKind::Workdir(it) => vec![word(it)],
    }
}

fn argument(pair: &ArgPair) -> String {
    let default = pair.default.as_ref().map(|it| format!("={:?}", it.text)).unwrap_or_default();
    format!("{}{default}{}", pair.name.text, description(pair.description.as_ref()))
}

fn description(text: Option<&String>) -> String {
    text.map(|text| format!(" # {text}")).unwrap_or_default()
}

fn copied(sources: &[Source], destination: &Word) -> Vec<String> {
    let source = |source: &Source| match source {
        Source::Path(word) => format!("{:?}", word.text),
        Source::Heredoc(heredoc) => format!("<<{}", heredoc.name),
    };
    let mut parts: Vec<String> = sources.iter().map(source).collect();
    parts.push(format!("-> {:?}", destination.text));
    parts
}

fn command(command: &Command) -> String {
    match command {
        Command::Shell(word) => format!("shell {:?}", word.text),
        Command::Exec(arguments) => format!("exec {arguments:?}"),
    }
}

/// Everything that takes text from the file must take all of it.
fn exercise(text: &str) {
    match parse(text) {
        Ok(file) => {
            for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
                let source = &text[instruction.span.start..instruction.span.end];
                assert!(source.len() >= instruction.name().len());
                for flag in &instruction.flags {
                    assert!(text[flag.span.start..flag.span.end].starts_with("--"));
                }
                for heredoc in bodies_of(instruction) {
                    let _ = expand_heredoc(&heredoc.body(), &|_| None);
                }
                if let InstructionKind::Onbuild(onbuild) = &instruction.kind {
                    let _ = parse_trigger(&onbuild.trigger);
                }
                let _ = expand_words(&instruction.original, file.escape, &|_| None);
            }
            let _ = Dump::of(text, &file);
        }
        Err(error) => {
            assert!(error.span.start <= error.span.end && error.span.end <= text.len());
            let _ = error.position(text);
            let _ = &text[error.span.start..error.span.end];
        }
    }
}

fn bodies_of(instruction: &Instruction) -> Vec<Heredoc> {
    match &instruction.kind {
        InstructionKind::Run(run) => run.heredocs.clone(),
        InstructionKind::Copy(copy) => bodies(&copy.sources),
        _ => Vec::new(),
    }
}

proptest! {
    #[test]
    fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        exercise(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_likely_text_parses_or_is_refused(
        text in r#"(((FROM a|RUN|COPY|ENV|onbuild|ARG|LABEL|ADD|CMD|HEALTHCHECK|é|#|\\)( |\t|\n|\\\n|\n\n))|--[a-z]{1,4}=?|<<-?|['"\[\]{}$\\=,é`]|[ab]| |\n|EOF|\r\n|\u{a0}){0,60}"#,
    ) {
        exercise(&text);
        exercise(&format!("FROM a\n{text}"));
    }
}
