//! Canonical tar.
use std::io::{Read, Write};
use std::path::Path;

use crate::layer::{Entry, PathIndex, Result};

/// Writes a layer's tar in rpub's canonical form, and records its [`PathIndex`] while doing so.
///
/// The caller gives entries in the order they shall have: parents first, siblings sorted bytewise.
#[derive(Debug)]
pub struct LayerTar<W: Write> {
    out: W,
}

impl<W: Write> LayerTar<W> {
    /// Returns a writer of a tar to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Clamps modification times: none in the tar is later than `latest`, in seconds since 1970.
    #[must_use]
    pub fn with_latest_mtime(self, _latest: Option<i64>) -> Self {
        todo!()
    }

    /// Appends `entry`; a file's bytes come from `content`, exactly as many as the entry says.
    pub fn append(&mut self, _entry: &Entry, _content: Option<&mut dyn Read>) -> Result<()> {
        todo!()
    }

    /// Appends the record that `path` is deleted from the layers below.
    pub fn whiteout(&mut self, _path: &Path) -> Result<()> {
        todo!()
    }

    /// Appends the record that `directory` hides its content in the layers below.
    pub fn opaque(&mut self, _directory: &Path) -> Result<()> {
        todo!()
    }

    /// Writes the end of the archive; returns the output and the index of what was written.
    pub fn finish(self) -> Result<(W, PathIndex)> {
        todo!()
    }
}
