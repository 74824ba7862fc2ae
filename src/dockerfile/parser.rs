//! Logical lines into stages and instructions.

use crate::dockerfile::ast::{
    ArgPair, Dockerfile, Flag, Heredoc, Instruction, InstructionKind, Stage,
};
use crate::dockerfile::error::{Error, ErrorKind};
use crate::dockerfile::flags::{self, Flags, Takes};
use crate::dockerfile::lines::{Lines, Logical, Slice};
use crate::dockerfile::lint::{self, Checks, Note};
use crate::dockerfile::names::StageName;
use crate::dockerfile::source::{Span, Word};
use crate::dockerfile::{heredoc, json, kinds};
use crate::suggest::suggest;

/// The names of all instructions, in lower case.
pub(crate) const INSTRUCTIONS: &[&str] = &[
    "add",
    "arg",
    "cmd",
    "copy",
    "entrypoint",
    "env",
    "expose",
    "from",
    "healthcheck",
    "label",
    "maintainer",
    "onbuild",
    "run",
    "shell",
    "stopsignal",
    "user",
    "volume",
    "workdir",
];

/// An instruction taken apart: keyword, flags, arguments, here-documents.
pub(crate) struct Head<'a> {
    pub(crate) whole: Slice<'a>,
    pub(crate) keyword: Slice<'a>,
    /// The keyword in lower case.
    pub(crate) name: String,
    pub(crate) flags: Vec<Flag>,
    pub(crate) arguments: Slice<'a>,
    pub(crate) heredocs: Vec<Heredoc>,
    pub(crate) escape: char,
}

impl<'a> Head<'a> {
    pub(crate) fn split(whole: Slice<'a>, escape: char) -> Self {
        let (keyword, rest) = whole.split_once_blank();
        let (flags, arguments) = match rest {
            Some(rest) => flags::split(rest),
            None => (Vec::new(), whole.from(whole.text().len())),
        };
        let name = keyword.text().to_lowercase();
        Self { whole, keyword, name, flags, arguments, heredocs: Vec::new(), escape }
    }

    /// Says that something is wrong with the arguments.
    pub(crate) fn fault(&self, message: impl Into<String>) -> Error {
        let at = if self.arguments.is_empty() { self.whole } else { self.arguments };
        Error::new(ErrorKind::BadArguments, message, at.span())
    }

    /// Returns the instruction's name in capitals.
    pub(crate) fn capitals(&self) -> String {
        self.name.to_uppercase()
    }

    /// Whether here-documents may follow: only in the shell form of three instructions.
    fn takes_heredocs(&self) -> Result<bool, Error> {
        if !self.whole.text().contains("<<") {
            return Ok(false);
        }
        match self.name.as_str() {
            "add" | "copy" | "run" => Ok(json::strings(self.arguments)?.is_none()),
            "onbuild" => {
                let inner = Head::split(self.arguments, self.escape);
                Ok(inner.name != "onbuild" && inner.takes_heredocs()?)
            }
            _ => Ok(false),
        }
    }

    fn unknown(&self) -> Error {
        let written = self.keyword.text();
        let near = suggest(&self.name, INSTRUCTIONS.iter().copied()).map(|near| {
            if written == written.to_uppercase() { near.to_uppercase() } else { near.to_owned() }
        });
        let message = format!("unknown instruction: {written}");
        Error::new(ErrorKind::UnknownInstruction, message, self.keyword.span())
            .suggesting(near.as_deref())
    }

    fn span(&self) -> Span {
        let span = self.whole.span();
        Span::new(span.start, self.heredocs.last().map_or(span.end, |heredoc| heredoc.end))
    }

    fn into_instruction(self, kind: InstructionKind, checks: Option<Checks>) -> Instruction {
        Instruction {
            kind,
            span: self.span(),
            keyword_span: self.keyword.span(),
            original: self.whole.text().to_owned(),
            flags: self.flags,
            checks,
        }
    }
}

/// Reads one instruction, the here-documents after its line included.
fn head<'a>(lines: &mut Lines<'_>, logical: &'a Logical) -> Result<Head<'a>, Error> {
    let mut head = Head::split(logical.whole(), lines.escape);
    if !INSTRUCTIONS.contains(&head.name.as_str()) {
        return Err(head.unknown());
    }
    if head.takes_heredocs()? {
        head.heredocs = heredoc::read(lines, logical)?;
    }
    Ok(head)
}

/// Parses a Dockerfile.
///
/// ```
/// use rpub::dockerfile::{InstructionKind, parse};
/// let file = parse("FROM python:3-alpine\nWORKDIR /app\n").unwrap();
/// assert_eq!(file.stages[0].base.text, "python:3-alpine");
/// assert_eq!(file.stages[0].instructions[0].original, "WORKDIR /app");
///
/// let error = parse("FROM scratch\nCOPPY a /\n").unwrap_err();
/// assert_eq!(error.to_string(), "unknown instruction: COPPY (did you mean COPY?)");
/// ```
///
/// # Errors
///
/// The first fault in the order of the file; [`ErrorKind`] lists them.
pub fn parse(text: &str) -> Result<Dockerfile, Error> {
    let mut lines = Lines::new(text);
    let mut global_args: Vec<ArgPair> = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    let mut notes: Vec<Note> = Vec::new();
    while let Some(logical) = lines.logical()? {
        let head = head(&mut lines, &logical)?;
        let mut note = Note::new(&logical, head.keyword.word(), head.span());
        if head.name == "from" {
            stages.push(from(&head, &mut note)?);
        } else {
            let kind = kinds::read(&head, &mut note)?;
            match (stages.last_mut(), kind) {
                (None, InstructionKind::Arg(pairs)) => {
                    note.is_global = true;
                    global_args.extend(pairs);
                }
                (None, _) => {
                    let message = "no build stage in current context";
                    return Err(Error::new(ErrorKind::NoStage, message, head.keyword.span()));
                }
                (Some(stage), kind) => {
                    stage.instructions.push(head.into_instruction(kind, note.checks.clone()));
                }
            }
        }
        notes.push(note);
    }
    let end = Span::new(text.len(), text.len());
    if notes.is_empty() {
        return Err(Error::new(ErrorKind::Empty, "file with no instructions", end));
    }
    if stages.is_empty() {
        let message = "dockerfile contains no stages to build";
        return Err(Error::new(ErrorKind::NoStage, message, end));
    }
    let mut file = Dockerfile {
        escape: lines.escape,
        directives: lines.directives,
        global_args,
        stages,
        remarks: Vec::new(),
    };
    file.remarks = lint::remarks(&file, &notes);
    Ok(file)
}

/// Parses the trigger of an `ONBUILD`, as an image's config stores it.
///
/// Spans are offsets in `text`.
///
/// # Errors
///
/// As [`parse`] does, and when the text is not exactly one instruction that may be a trigger.
pub fn parse_trigger(text: &str) -> Result<Instruction, Error> {
    let mut lines = Lines::new(text);
    let whole = Span::new(0, text.len());
    let Some(logical) = lines.logical()? else {
        return Err(Error::new(ErrorKind::Empty, "file with no instructions", whole));
    };
    let head = head(&mut lines, &logical)?;
    kinds::check_trigger(&head)?;
    let kind = kinds::read(&head, &mut Note::default())?;
    if lines.logical()?.is_some() {
        let message = "onbuild trigger should be a single expression";
        return Err(Error::new(ErrorKind::BadArguments, message, whole));
    }
    Ok(head.into_instruction(kind, None))
}

fn from(head: &Head<'_>, note: &mut Note) -> Result<Stage, Error> {
    let flags = Flags::check(&head.flags, &[("platform", Takes::Value)])?;
    let words = head.arguments.split_blanks();
    let (base, name) = match words.as_slice() {
        [base] => (base, None),
        [base, keyword, name] if keyword.text().eq_ignore_ascii_case("as") => {
            note.as_keyword = Some(keyword.word());
            (base, Some(name))
        }
        _ => return Err(head.fault("FROM requires either one or three arguments")),
    };
    let bad_name = |name: &Slice<'_>, error: &dyn std::error::Error| {
        Error::new(ErrorKind::BadStageName, error.to_string(), name.span())
    };
    note.stage_name = name.map(Slice::word);
    let parsed = name
        .map(|name| name.text().parse::<StageName>().map_err(|error| bad_name(name, &error)))
        .transpose()?;
    let described = parsed.as_ref().map(StageName::as_str);
    note.defines = described.map(str::to_owned).into_iter().collect();
    Ok(Stage {
        description: described.and_then(|name| note.description(name)),
        checks: note.checks.clone(),
        name: parsed,
        name_span: note.stage_name.as_ref().map(|Word { span, .. }| *span),
        base: base.word(),
        platform: flags.value("platform"),
        span: head.span(),
        original: head.whole.text().to_owned(),
        instructions: Vec::new(),
    })
}
