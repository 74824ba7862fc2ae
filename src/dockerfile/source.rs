//! Where things stand in the text: byte spans, and lines and columns for people.

use crate::dockerfile::error::{Error, ErrorKind};

/// A range of bytes of the Dockerfile's text.
///
/// Both ends are on character boundaries of the text that was given to the parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl Span {
    /// Returns the span from `start` up to, without, `end`.
    #[must_use]
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// Returns the line and column where the span starts in `text`.
    #[must_use]
    pub fn position(self, text: &str) -> Position {
        Position::of(text, self.start)
    }
}

/// Says that a file is no text, with the text as far as it can be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct NotText {
    /// What is wrong, with its place in `text`.
    pub error: Error,
    /// The file's text with a replacement character for what is none.
    pub text: String,
}

/// Reads a Dockerfile's bytes as text.
///
/// # Errors
///
/// When they are not UTF-8; the error points at the first byte that is not.
pub fn decode(bytes: Vec<u8>) -> Result<String, Box<NotText>> {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(error) => error.into_bytes(),
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let valid = bytes.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
    let message = match bytes.as_slice() {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            "the dockerfile is UTF-16; it must be UTF-8".to_owned()
        }
        _ => format!("invalid UTF-8 in the dockerfile: byte 0x{:02x}", bytes[valid]),
    };
    let span = Span::new(valid, valid + char::REPLACEMENT_CHARACTER.len_utf8());
    Err(Box::new(NotText { error: Error::new(ErrorKind::NotText, message, span), text }))
}

/// A line and a column, both counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// Returns the position of the byte `offset` of `text`; an offset past the end means the end.
    #[must_use]
    pub fn of(text: &str, offset: usize) -> Self {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let in_line = before[line_start..].trim_start_matches('\u{feff}');
        Self {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: in_line.chars().count() + 1,
        }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A word as it is written, quotes and variables included, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// The word, not expanded. Continuations inside it are joined.
    pub text: String,
    /// Where it stands; covers the continuations inside it.
    pub span: Span,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_pointed_at() {
        assert_eq!(decode("FROM é".into()).unwrap(), "FROM é");
        let refusal = decode(b"FROM a\nRUN \xe9t\xe9\n".to_vec()).unwrap_err();
        assert_eq!(refusal.to_string(), "invalid UTF-8 in the dockerfile: byte 0xe9");
        assert_eq!(refusal.error.position(&refusal.text).to_string(), "2:5");
        assert_eq!(&refusal.text[refusal.error.span.start..refusal.error.span.end], "\u{fffd}");
        let refusal = decode(b"\xff\xfeF\0".to_vec()).unwrap_err();
        assert_eq!(refusal.to_string(), "the dockerfile is UTF-16; it must be UTF-8");
        // A character that is cut off.
        let refusal = decode(b"FROM a\xc3".to_vec()).unwrap_err();
        assert_eq!(refusal.error.position(&refusal.text).to_string(), "1:7");
    }
}
