//! `.dockerignore` (moby/patternmatcher's rules: the last match wins, a match of a parent counts).

use std::path::Path;

/// Why a `.dockerignore` was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct IgnoreError {
    /// What is wrong, in BuildKit's words.
    pub message: String,
    /// The pattern's line, from 1.
    pub line: usize,
}

/// The patterns of a `.dockerignore`.
#[derive(Debug, Clone, Default)]
pub struct Patterns {}

/// What a walker does with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    Keep,
    /// Leave it out, but enter it if it is a directory: something below may be included again.
    Skip,
    /// Leave it out with all that is below it.
    SkipTree,
}

/// The pattern that excluded a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The pattern as written.
    pub pattern: String,
    /// Its line, from 1.
    pub line: usize,
}

impl Patterns {
    /// Reads the text of a `.dockerignore`.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let _ = text;
        todo!()
    }

    /// Says what to do with a path relative to the context; needs no order of calls.
    #[must_use]
    pub fn verdict(&self, path: &Path, is_directory: bool) -> Verdict {
        let _ = (path, is_directory);
        todo!()
    }

    /// Returns the pattern that excludes the path, if it is excluded.
    #[must_use]
    pub fn reason(&self, path: &Path) -> Option<Reason> {
        let _ = path;
        todo!()
    }
}
