//! Here-documents: finding their words in a line, reading their bodies.

use std::borrow::Cow;

use crate::dockerfile::ast::{Command, Heredoc, Run, RunScript};
use crate::dockerfile::error::{Error, ErrorKind};
use crate::dockerfile::expand::{Lexer, Quotes};
use crate::dockerfile::lines::{Lines, Logical};
use crate::dockerfile::source::Span;

/// The `<<WORD` of a here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) name: String,
    pub(crate) expand: bool,
    pub(crate) strip_tabs: bool,
    pub(crate) fd: u32,
}

impl Opening {
    /// Reads a word as `[fd]<<[-]WORD`. Quotes around any part of the word turn expansion off;
    /// its escape character is always `\`.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (fd, rest) = word.split_at(digits);
        let rest = rest.strip_prefix("<<")?;
        let (strip_tabs, rest) = match rest.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        if rest.is_empty() || rest.contains('<') {
            return None;
        }
        let plain = single(Lexer::new('\\').keep_unset().words(rest).ok()?)?;
        let raw = single(
            Lexer::new('\\').keep_unset().quotes(Quotes::Raw).raw_escapes().words(rest).ok()?,
        )?;
        let expand = plain == raw;
        // A number too large for a descriptor is kept as one that no shell has open.
        let fd = if fd.is_empty() { 0 } else { fd.parse().unwrap_or(u32::MAX) };
        Some(Self { name: plain, expand, strip_tabs, fd })
    }
}

fn single(mut words: Vec<String>) -> Option<String> {
    if words.len() == 1 { words.pop() } else { None }
}

/// Finds the here-documents that a line opens and reads their bodies from the lines after it.
pub(crate) fn read(lines: &mut Lines<'_>, logical: &Logical) -> Result<Vec<Heredoc>, Error> {
    let lexer = Lexer::new('\\').keep_unset().quotes(Quotes::Raw).raw_escapes();
    // A line with unbalanced quotes opens nothing: the shell will complain about it.
    let words = lexer.words(&logical.text).unwrap_or_default();
    let mut heredocs = Vec::new();
    let mut at = 0;
    for word in words {
        let rest = &logical.text[at..];
        let opening = Opening::parse(&word);
        // Words are the text's own but for odd substitutions, which are not looked for.
        let skipped = match &opening {
            Some(_) => rest.find(&word),
            None => Some(rest.len() - rest.trim_start().len())
                .filter(|skipped| rest[*skipped..].starts_with(&word)),
        };
        let start = at + skipped.unwrap_or(0);
        let end = skipped.map_or(at, |_| start + word.len());
        if let Some(opening) = opening {
            heredocs.push(body(lines, opening, logical.span(start, end))?);
        }
        at = end;
    }
    Ok(heredocs)
}

fn body(lines: &mut Lines<'_>, opening: Opening, span: Span) -> Result<Heredoc, Error> {
    let mut content = String::new();
    let mut body_span: Option<Span> = None;
    while let Some(line) = lines.physical()? {
        let text = line.text();
        let text = if opening.strip_tabs { text.trim_start_matches('\t') } else { text };
        let start = body_span.map_or(line.start, |span| span.start);
        if text == opening.name {
            return Ok(Heredoc {
                name: opening.name,
                content,
                expand: opening.expand,
                strip_tabs: opening.strip_tabs,
                fd: opening.fd,
                span,
                body_span: Span::new(start, line.start),
                end: line.end(),
            });
        }
        content.push_str(line.raw);
        body_span = Some(Span::new(start, line.end()));
    }
    Err(Error::new(ErrorKind::BadHeredoc, "unterminated heredoc", span))
}

impl Heredoc {
    /// Returns the body: the content, without leading tabs if the operator was `<<-`.
    #[must_use]
    pub fn body(&self) -> Cow<'_, str> {
        if !self.strip_tabs {
            return Cow::Borrowed(&self.content);
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

impl Run {
    /// Returns what is run.
    ///
    /// A here-document that stands alone is the script (or, with `#!`, a program); with anything
    /// else on the line the shell gets the line and the here-documents as they are written.
    #[must_use]
    pub fn script(&self) -> RunScript<'_> {
        let line = match &self.command {
            Command::Exec(arguments) => return RunScript::Exec(arguments),
            Command::Shell(word) => &word.text,
        };
        let Some(first) = self.heredocs.first() else {
            return RunScript::Shell(Cow::Borrowed(line));
        };
        if Opening::parse(line).is_some() {
            let content = first.body();
            return if content.starts_with("#!") {
                RunScript::File { name: &first.name, content }
            } else {
                RunScript::Shell(content)
            };
        }
        RunScript::Shell(Cow::Owned(with_bodies(line.clone(), &self.heredocs)))
    }
}

/// Appends here-documents to the line that opens them, as a shell reads them.
pub(crate) fn with_bodies(mut line: String, heredocs: &[Heredoc]) -> String {
    for heredoc in heredocs {
        line.push('\n');
        line.push_str(&heredoc.content);
        line.push_str(&heredoc.name);
    }
    line
}
