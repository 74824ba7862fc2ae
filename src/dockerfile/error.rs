//! Why a Dockerfile was refused.

use crate::dockerfile::source::{Position, Span};

/// A fault in a Dockerfile, in BuildKit's words, and the place it points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What sort of fault it is.
    pub kind: ErrorKind,
    /// What is wrong, without place and suggestion.
    pub message: String,
    /// The text at fault.
    pub span: Span,
    /// The known word that the unknown one resembles.
    pub suggestion: Option<String>,
}

/// The sorts of faults of a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file holds no instruction.
    Empty,
    /// The first word of a line is no instruction.
    UnknownInstruction,
    /// A flag that the instruction does not have.
    UnknownFlag,
    /// A flag given twice, without its value, or with a value it cannot have.
    BadFlag,
    /// Too few or too many arguments, or arguments of the wrong form.
    BadArguments,
    /// A stage name that the grammar forbids.
    BadStageName,
    /// An instruction before the first `FROM`.
    NoStage,
    /// A parser directive that is given twice or has an impossible value.
    BadDirective,
    /// A here-document without its last line, or where none may stand.
    BadHeredoc,
    /// A line longer than 65535 bytes.
    LineTooLong,
    /// A NUL byte.
    NulByte,
    /// Bytes that are no text.
    NotText,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>, span: Span) -> Self {
        Self { kind, message: message.into(), span, suggestion: None }
    }

    pub(crate) fn suggesting(mut self, suggestion: Option<&str>) -> Self {
        self.suggestion = suggestion.map(str::to_owned);
        self
    }

    /// Returns the line and column of the fault in `text`, the text that was parsed.
    #[must_use]
    pub fn position(&self, text: &str) -> Position {
        self.span.position(text)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " (did you mean {suggestion}?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
