//! The build context: a directory and what its ignore file leaves out.

use std::path::{Path, PathBuf};

use crate::dockerfile::{Patterns, Reason};

/// A build context.
#[derive(Debug, Clone)]
pub struct Context {
    /// The directory.
    pub root: PathBuf,
    /// What is left out of it.
    pub ignored: Patterns,
    /// The ignore file's name, for messages.
    pub ignore_file: Option<String>,
}

impl Context {
    /// Returns why `path` (relative to the root) is left out, if it is.
    #[must_use]
    pub fn reason(&self, path: &Path) -> Option<Reason> {
        self.ignored.reason(path)
    }
}
