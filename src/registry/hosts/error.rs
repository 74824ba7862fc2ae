//! Why a registry must not or cannot be asked, by the settings about it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why the settings about a registry keep rpub from asking it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum HostsError {
    /// A file with settings about registries makes no sense.
    #[error("invalid {place}: {reason}", place = place(path, *line))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1, where it is known.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// A file or directory with settings about registries cannot be read.
    #[error("failed to read `{path}`: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// `registries.conf` forbids the registry.
    #[error(
        "`{repository}` is blocked: {place} says `blocked = true` for the prefix `{prefix}`",
        place = place(path, Some(*line))
    )]
    Blocked {
        /// What was to be asked for.
        repository: String,
        /// The entry's prefix.
        prefix: String,
        /// The file.
        path: PathBuf,
        /// The line of the entry.
        line: usize,
    },
    /// `hosts.toml` names no host that may do what is asked.
    #[error("no host in `{path}` has the capability `{capability}`")]
    Incapable {
        /// The file.
        path: PathBuf,
        /// What a host would need.
        capability: &'static str,
    },
}

fn place(path: &Path, line: Option<usize>) -> String {
    match line {
        Some(line) => format!("`{}`, line {line}", path.display()),
        None => format!("`{}`", path.display()),
    }
}

/// A file's path and text, for errors that name the line.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// Returns the line, from 1, of a place in the text.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().iter().take(span.start);
        before.filter(|byte| **byte == b'\n').count() + 1
    }

    /// Returns an error about a place in the text.
    pub(super) fn invalid(&self, span: &Range<usize>, reason: impl Into<String>) -> HostsError {
        let (path, line) = (self.path.to_owned(), Some(self.line(span)));
        HostsError::Invalid { path, line, reason: reason.into() }
    }

    /// Returns the error that the parser of TOML gave.
    pub(super) fn syntax(&self, error: &toml::de::Error) -> HostsError {
        let reason = error.message().trim().to_owned();
        match error.span() {
            Some(span) => self.invalid(&span, reason),
            None => HostsError::Invalid { path: self.path.to_owned(), line: None, reason },
        }
    }
}
