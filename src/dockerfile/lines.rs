//! Physical lines into logical ones: comments, continuations, parser directives.

use crate::dockerfile::ast::Directives;
use crate::dockerfile::error::{Error, ErrorKind};
use crate::dockerfile::source::{Span, Word};

/// BuildKit reads lines through a buffer of 64 KiB.
const MAX_LINE: usize = 65_535;

const BOM: char = '\u{feff}';

/// One physical line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// The line with its newline.
    pub(crate) raw: &'a str,
    /// Where it starts.
    pub(crate) start: usize,
}

impl<'a> Line<'a> {
    /// Returns the line without its newline (and without carriage returns before it).
    pub(crate) fn text(&self) -> &'a str {
        self.raw.trim_end_matches(['\r', '\n'])
    }

    pub(crate) fn end(&self) -> usize {
        self.start + self.text().len()
    }

    fn is_comment(&self) -> bool {
        self.text().trim_start().starts_with('#')
    }

    /// Returns a comment's text, without `#` and the white space around it.
    fn comment(&self) -> Word {
        let text = self.text();
        let after = text.trim_start();
        let after = after.strip_prefix('#').unwrap_or(after).trim_start();
        let start = self.start + text.len() - after.len();
        let after = after.trim_end();
        Word { text: after.to_owned(), span: Span::new(start, start + after.len()) }
    }
}

/// An instruction's text with its continuations joined, and the way back to the source.
#[derive(Debug)]
pub(crate) struct Logical {
    pub(crate) text: String,
    /// For each piece: its offset in `text` and in the source.
    pieces: Vec<(usize, usize)>,
    /// End of the last physical line in the source.
    pub(crate) source_end: usize,
    /// Empty lines between continued ones.
    pub(crate) empty_continuations: Vec<Span>,
    /// Start of the last physical line in the source.
    pub(crate) last_line: usize,
    /// The comment lines directly above, without `#` and the white space around the text.
    pub(crate) comments: Vec<Word>,
}

impl Logical {
    /// Returns the source's span of a range of the joined text.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        let source_start = self.source(start);
        let source_end = if end > start { self.source(end - 1) + 1 } else { source_start };
        Span::new(source_start, source_end)
    }

    fn source(&self, offset: usize) -> usize {
        let after = self.pieces.partition_point(|(at, _)| *at <= offset);
        let (at, source) = self.pieces[after.saturating_sub(1)];
        source + (offset - at)
    }

    /// Returns the whole text without white space around it.
    pub(crate) fn whole(&self) -> Slice<'_> {
        Slice { logical: self, start: 0, end: self.text.len() }.trim()
    }
}

/// A part of a logical line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice<'a> {
    logical: &'a Logical,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl<'a> Slice<'a> {
    pub(crate) fn text(&self) -> &'a str {
        &self.logical.text[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn span(&self) -> Span {
        self.logical.span(self.start, self.end)
    }

    /// Returns the part from `start` up to `end`, counted from this slice's start.
    pub(crate) fn part(&self, start: usize, end: usize) -> Self {
        Self { logical: self.logical, start: self.start + start, end: self.start + end }
    }

    pub(crate) fn from(&self, start: usize) -> Self {
        self.part(start, self.end - self.start)
    }

    pub(crate) fn trim(&self) -> Self {
        let text = self.text();
        let start = text.len() - text.trim_start().len();
        self.part(start, start + text.trim().len())
    }

    pub(crate) fn word(&self) -> Word {
        Word { text: self.text().to_owned(), span: self.span() }
    }

    /// Splits at the first run of blanks.
    pub(crate) fn split_once_blank(&self) -> (Self, Option<Self>) {
        let text = self.text();
        let Some(at) = text.find(is_blank) else {
            return (*self, None);
        };
        let rest = text[at..].find(|c| !is_blank(c)).map_or(text.len(), |skip| at + skip);
        (self.part(0, at), Some(self.from(rest)))
    }

    /// Splits at runs of blanks; the slice has none around it.
    pub(crate) fn split_blanks(&self) -> Vec<Self> {
        let mut words = Vec::new();
        let mut rest = Some(*self);
        while let Some(slice) = rest.filter(|slice| !slice.is_empty()) {
            let (word, next) = slice.split_once_blank();
            words.push(word);
            rest = next;
        }
        words
    }
}

/// What separates arguments: narrower than Unicode's white space.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Reads logical lines and here-document bodies.
pub(crate) struct Lines<'a> {
    text: &'a str,
    offset: usize,
    pub(crate) escape: char,
    pub(crate) directives: Directives,
    directives_done: bool,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        // Found wherever BuildKit looks for them: the zone of `escape` ends at a `#!` line.
        let directives = Directives {
            syntax: detect_syntax(text),
            check: detect(text, "check", "#"),
            escape: None,
        };
        let offset = after_bom(text);
        Self { text, offset, escape: '\\', directives, directives_done: false }
    }

    /// Returns the next physical line.
    pub(crate) fn physical(&mut self) -> Result<Option<Line<'a>>, Error> {
        let rest = &self.text[self.offset..];
        if rest.is_empty() {
            return Ok(None);
        }
        let length = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        let line = Line { raw: &rest[..length], start: self.offset };
        self.offset += length;
        if length - usize::from(line.raw.ends_with('\n')) > MAX_LINE {
            let message = format!("dockerfile line greater than max allowed size of {MAX_LINE}");
            let span = Span::new(line.start, line.end());
            return Err(Error::new(ErrorKind::LineTooLong, message, span));
        }
        if let Some(at) = line.raw.find('\0') {
            let span = Span::new(line.start + at, line.start + at + 1);
            return Err(Error::new(ErrorKind::NulByte, "NUL byte in the dockerfile", span));
        }
        Ok(Some(line))
    }

    /// Returns the next instruction's text. Comments directly above come along; an empty line, or
    /// an empty comment, parts them from it.
    pub(crate) fn logical(&mut self) -> Result<Option<Logical>, Error> {
        let mut comments = Vec::new();
        while let Some(line) = self.physical()? {
            self.directive(line)?;
            if !self.directives_done {
                continue;
            }
            if line.is_comment() {
                let comment = line.comment();
                if comment.text.is_empty() {
                    comments.clear();
                } else {
                    comments.push(comment);
                }
                continue;
            }
            let text = line.text();
            let indent = text.len() - text.trim_start().len();
            let (kept, continued) = self.cut_continuation(text.trim_start());
            if kept.is_empty() && !continued {
                comments.clear();
                continue;
            }
            let mut logical = Logical {
                text: kept.to_owned(),
                pieces: vec![(0, line.start + indent)],
                source_end: line.end(),
                empty_continuations: Vec::new(),
                last_line: line.start,
                comments,
            };
            if continued {
                self.continuations(&mut logical)?;
            }
            return Ok(Some(logical));
        }
        Ok(None)
    }

    fn continuations(&mut self, logical: &mut Logical) -> Result<(), Error> {
        while let Some(line) = self.physical()? {
            if line.is_comment() {
                continue;
            }
            let text = line.text();
            if text.trim_start().is_empty() {
                logical.empty_continuations.push(Span::new(line.start, line.end()));
                continue;
            }
            logical.source_end = line.end();
            logical.last_line = line.start;
            let (kept, continued) = self.cut_continuation(text);
            logical.pieces.push((logical.text.len(), line.start));
            logical.text.push_str(kept);
            if !continued {
                break;
            }
        }
        Ok(())
    }

    /// Cuts the escape character at the line's end, if it is one: blanks may follow it, another
    /// escape character may not stand before it.
    fn cut_continuation<'b>(&self, line: &'b str) -> (&'b str, bool) {
        let Some(kept) = line.trim_end_matches([' ', '\t']).strip_suffix(self.escape) else {
            return (line, false);
        };
        if kept.ends_with(self.escape) { (line, false) } else { (kept, true) }
    }

    /// Takes a parser directive; the first line that is none ends their zone.
    fn directive(&mut self, line: Line<'a>) -> Result<(), Error> {
        if self.directives_done {
            return Ok(());
        }
        let Some((key, value)) = directive_of(line, "#") else {
            self.directives_done = true;
            return Ok(());
        };
        let place = match key.as_str() {
            "syntax" => &mut self.directives.syntax,
            "check" => &mut self.directives.check,
            _ => &mut self.directives.escape,
        };
        // Another one stands before this line.
        let seen = place.get_or_insert_with(|| value.clone()).span.start != value.span.start;
        let fault = |message: String| Error::new(ErrorKind::BadDirective, message, value.span);
        if seen {
            return Err(fault(format!("only one {key} parser directive can be used")));
        }
        if key == "escape" {
            self.escape = match value.text.as_str() {
                "\\" => '\\',
                "`" => '`',
                other => {
                    return Err(fault(format!(
                        "invalid escape token '{other}' does not match ` or \\"
                    )));
                }
            };
        }
        Ok(())
    }
}

/// Reads `# key = value` of a known key.
fn directive_of(line: Line<'_>, comment: &str) -> Option<(String, Word)> {
    let text = line.text();
    let after = text.trim_start().strip_prefix(comment)?;
    let (key, value) = is_directive(after)?;
    let start = line.start + text.trim_end().len() - value.len();
    let span = Span::new(start, start + value.len());
    Some((key, Word { text: value.to_owned(), span }))
}

/// Reads a comment's text as a parser directive.
pub(crate) fn is_directive(comment: &str) -> Option<(String, &str)> {
    let (key, value) = comment.split_once('=')?;
    let key = key.trim().to_ascii_lowercase();
    let value = value.trim();
    let is_known = matches!(key.as_str(), "syntax" | "escape" | "check");
    (is_known && !value.is_empty()).then_some((key, value))
}

/// Finds the `syntax` directive where BuildKit's own detection looks: after a `#!` line, and with
/// `//` for `#` too.
pub(crate) fn detect_syntax(text: &str) -> Option<Word> {
    ["#", "//"].into_iter().find_map(|comment| detect(text, "syntax", comment))
}

/// Finds a directive in the lines that are directives, a `#!` line before them skipped.
fn detect(text: &str, wanted: &str, comment: &str) -> Option<Word> {
    let first = after_bom(text);
    let mut start = first;
    for raw in text[first..].split_inclusive('\n') {
        let line = Line { raw, start };
        start += raw.len();
        if line.start == first && raw.starts_with("#!") {
            continue;
        }
        let (key, value) = directive_of(line, comment)?;
        if key == wanted {
            return Some(value);
        }
    }
    None
}

fn after_bom(text: &str) -> usize {
    if text.starts_with(BOM) { BOM.len_utf8() } else { 0 }
}
