//! Path index.
use std::path::Path;

use crate::layer::{Entry, Result};

/// What one layer holds, sorted by path.
#[derive(Debug)]
pub struct PathIndex {}

impl PathIndex {
    /// Reads the index at `path`; `None` when there is no such file.
    pub fn load(_path: &Path) -> Result<Option<Self>> {
        todo!()
    }

    /// Writes the index to `path`: temporary file, then rename.
    pub fn save(&self, _path: &Path) -> Result<()> {
        todo!()
    }

    /// Returns the number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Returns whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the record of exactly `path`.
    #[must_use]
    pub fn get(&self, _path: &Path) -> Option<Record<'_>> {
        todo!()
    }
}

/// One record of a [`PathIndex`].
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    index: &'a PathIndex,
}

impl<'a> Record<'a> {
    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &'a Path {
        let _ = self.index;
        todo!()
    }

    /// Returns the entry; `None` for a whiteout.
    #[must_use]
    pub fn entry(&self) -> Option<Entry> {
        todo!()
    }

    /// Returns whether the path is deleted from the layers below.
    #[must_use]
    pub fn is_whiteout(&self) -> bool {
        todo!()
    }

    /// Returns whether this is a directory that hides its content in the layers below.
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        todo!()
    }

    /// Returns whether this is a directory that the tar needs but does not list.
    #[must_use]
    pub fn is_implied(&self) -> bool {
        todo!()
    }

    /// Returns the content, which the index keeps of `etc/passwd` and `etc/group`.
    #[must_use]
    pub fn content(&self) -> Option<&'a [u8]> {
        todo!()
    }
}

/// Collects the records of a [`PathIndex`].
#[derive(Debug, Default)]
pub struct IndexBuilder {}
