//! The build context: a directory and what its ignore file leaves out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ignore::{Patterns, Reason};
use crate::layer::{Metadata, PathIndex};

/// A build context.
#[derive(Debug, Clone)]
pub struct Context {
    /// The directory.
    pub root: PathBuf,
    /// What the user calls it, when that is not the directory.
    pub name: Option<String>,
    /// What is left out of it.
    pub ignored: Patterns,
    /// The ignore file's name, for messages.
    pub ignore_file: Option<String>,
    /// Whose the files are, when they came as an archive: a `COPY` keeps that, as in BuildKit. Those
    /// of every other context belong to root.
    pub owners: Option<Arc<PathIndex>>,
    /// What of its files' metadata counts.
    pub metadata: Metadata,
}

impl Context {
    /// Returns what the user calls it.
    #[must_use]
    pub fn shown(&self) -> String {
        let root = || self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        self.name.clone().unwrap_or_else(|| root().display().to_string())
    }

    /// Returns why `path` (relative to the root) is left out, if it is.
    #[must_use]
    pub fn reason(&self, path: &Path) -> Option<Reason> {
        self.ignored.reason(path)
    }
}
