//! Finding what the source arguments name.

use crate::image::Digest;
use crate::layer::{LayerTar, View};

use super::{CopyError, CopyRequest, SourceTree, StatCache};

/// What the source arguments of one COPY or ADD name, with the metadata of every file.
#[derive(Debug)]
pub struct Selection {}

/// Finds what the sources of `request` name in `tree`, and reads the metadata of all of it. Blocks.
///
/// # Errors
///
/// [`CopyError::NotFound`] for a source without wildcards that is not there; a wildcard may match
/// nothing. [`CopyError::Pattern`] for a malformed one.
pub fn select(_tree: &SourceTree<'_>, _request: &CopyRequest) -> Result<Selection, CopyError> {
    todo!()
}

impl Selection {
    /// Returns whether nothing was selected: every wildcard matched nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Returns the total size of the selected files in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    /// Returns the content key: a digest over names, kinds, modes, owners, link targets, extended
    /// attributes and file contents, in order. Times do not count. Blocks; reads, on several threads,
    /// the files that `cache` does not know.
    pub fn digest(&self, _cache: &StatCache) -> Result<Digest, CopyError> {
        todo!()
    }

    /// Writes the selection as entries below the destination of `request` in `view`. Blocks.
    pub fn write<W: std::io::Write>(
        &self,
        _view: &View,
        _request: &CopyRequest,
        _tar: &mut LayerTar<W>,
    ) -> Result<(), CopyError> {
        todo!()
    }
}
