//! What went wrong, by kind, with what to do about it. The command line turns it into text.

use thiserror::Error;

use crate::dockerfile::Span;

/// What a failure means to a script: each kind has its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The user asked for something that cannot be done.
    User,
    /// A setting, flag or configuration file is wrong.
    Settings,
    /// The registry refused for want of rights.
    Denied,
    /// What was asked for does not exist.
    NotFound,
    /// The registry's quota is used up.
    RateLimited,
    /// The network or the other side failed.
    Network,
    /// A Dockerfile is wrong or one of its steps failed.
    Build,
    /// Content is not what its digest promises.
    Integrity,
    /// Some of several failed.
    Partial,
    /// The user interrupted.
    Interrupted,
    /// The result, which is printed, says already what is wrong.
    Reported,
    /// The machine failed (disk, permission), or rpub has a fault.
    Internal,
}

/// A place in a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The file's name as the user gave it.
    pub file: String,
    /// Its whole text.
    pub text: String,
    /// Where in it.
    pub span: Span,
}

/// A failed operation.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct Error {
    /// The kind.
    pub kind: Kind,
    /// What was attempted, or what is wrong.
    pub message: String,
    /// Why, from the room below.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// What to do; a command where possible.
    pub hints: Vec<String>,
    /// The place in the Dockerfile.
    pub snippet: Option<Box<Snippet>>,
    /// The last lines that the failed step wrote.
    pub output: Option<String>,
}

impl Error {
    /// Returns an error of `kind` that says `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message, source: None, hints: Vec::new(), snippet: None, output: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds why.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds the place in the Dockerfile.
    #[must_use]
    pub fn at(mut self, snippet: Snippet) -> Self {
        self.snippet = Some(Box::new(snippet));
        self
    }
}
