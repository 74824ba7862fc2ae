//! Merged view.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::layer::{Entry, PathIndex, Result};

/// The metadata of the root file system that a stack of layers makes.
#[derive(Debug, Clone, Default)]
pub struct View {
    layers: Vec<Arc<PathIndex>>,
}

impl View {
    /// Returns the view of `layers`, bottom first.
    #[must_use]
    pub fn new(layers: Vec<Arc<PathIndex>>) -> Self {
        Self { layers }
    }

    /// Returns what is at `path`, following no links; a hard link is shown as the file it names.
    #[must_use]
    pub fn lookup(&self, _path: &Path) -> Option<Entry> {
        let _ = &self.layers;
        todo!()
    }

    /// Returns the path that `path` leads to, relative to the root, as chroot would resolve it.
    ///
    /// Absolute and relative paths both start at the root, `..` stops there, and components that do
    /// not exist are kept as they are. A link in last place is followed when `follow` is `Last`.
    pub fn resolve(&self, _path: &Path, _follow_last: bool) -> Result<PathBuf> {
        todo!()
    }

    /// Returns the entries of the directory at `path`, sorted bytewise by name.
    #[must_use]
    pub fn children(&self, _path: &Path) -> Vec<Entry> {
        todo!()
    }

    /// Returns the content of a file that indexes keep whole: `etc/passwd` and `etc/group`.
    #[must_use]
    pub fn small_file(&self, _path: &Path) -> Option<&[u8]> {
        todo!()
    }
}
