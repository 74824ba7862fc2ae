//! Why a mirror file was refused.

use std::ops::Range;

/// A fault in a mirror file and the place it points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What is wrong, without the place.
    pub message: String,
    /// The bytes of the file that are at fault.
    pub span: Range<usize>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Error {
    pub(super) fn new(message: impl Into<String>, span: &Range<usize>) -> Self {
        Self { message: message.into(), span: span.clone(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the line of the fault in `text`, the text that was read, from 1.
    #[must_use]
    pub fn line(&self, text: &str) -> usize {
        line_of(text, self.span.start)
    }
}

/// Returns the line of a byte of `text`, from 1.
#[must_use]
pub fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

impl std::fmt::Display for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
