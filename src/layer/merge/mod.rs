//! Several layers become one tree.
//!
//! The layers' tars are read bottom first. What they say about each path is kept in memory, what
//! files contain in one file beside it, so that the result can be written in canonical order. No
//! file system holds the tree meanwhile: owners, devices and attributes are what the layers say,
//! whoever runs this.

#[cfg(test)]
mod tests;
mod tree;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::layer::rewrite::{Deletion, Times};
use crate::layer::{Entry, EntryKind, Error, LayerTar, Result, TarReader};
use tree::{Content, Tree};

/// How much of a file is copied at once.
const BUFFER: usize = 256 << 10;

/// What a [`Merge`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeInto {
    /// A whole tree: deletions take effect and are gone, missing parents are made.
    Tree,
    /// A layer that does what the merged layers do, one after another, to those below them.
    Layer,
}

/// Layers that are merged into one.
#[derive(Debug)]
pub struct Merge {
    tree: Tree,
    spool: File,
    end: u64,
}

impl Merge {
    /// Returns a merge of no layers yet. What files contain is kept in `spool`, an empty file.
    #[must_use]
    pub fn new(spool: File, into: MergeInto) -> Self {
        Self { tree: Tree::new(into), spool, end: 0 }
    }

    /// Adds the next layer up, an uncompressed tar, and reads it to its end. Blocks.
    ///
    /// # Errors
    ///
    /// Those of [`TarReader::next_member`]; [`Error::HardLinkOutside`] and [`Error::LinkLoop`] for a
    /// layer that does not fit together; [`Error::File`] when the spool cannot be written.
    pub fn add(&mut self, tar: impl Read) -> Result<()> {
        self.tree.next_layer();
        let mut reader = TarReader::new(tar);
        while let Some(member) = reader.next_member()? {
            let entry = member.entry()?;
            match Deletion::of(&entry.path) {
                Some(Deletion::Path(path)) => self.tree.delete(&path)?,
                Some(Deletion::Opaque(path)) => self.tree.hide_below(&path)?,
                Some(Deletion::Other) => {}
                None => {
                    let content = match entry.kind {
                        EntryKind::File { size } => Some(self.keep(&entry, size, &mut reader)?),
                        _ => None,
                    };
                    self.tree.place(entry, content)?;
                }
            }
        }
        reader.drain()
    }

    /// Writes the result to `out`: directories before their content, siblings sorted bytewise, with
    /// `times` applied and `prefix` (a relative path, or empty) in front of every path.
    ///
    /// # Errors
    ///
    /// Those of [`LayerTar::append`].
    pub fn write<W: Write>(
        &self,
        times: Times,
        prefix: &Path,
        out: &mut LayerTar<W>,
    ) -> Result<()> {
        let mut first_names: HashMap<u64, PathBuf> = HashMap::new();
        for node in self.tree.nodes() {
            let path = prefix.join(&node.path);
            let Some(entry) = node.entry else {
                out.whiteout(&path)?;
                continue;
            };
            if node.path.as_os_str().is_empty() && self.tree.shape() == MergeInto::Tree {
                continue;
            }
            let mtime = times.of(entry.mtime);
            let mut entry = Entry { path: path.clone(), mtime, ..entry.clone() };
            let Some(content) = node.content else {
                out.append(&entry, None)?;
                if node.is_opaque {
                    out.opaque(&path)?;
                }
                continue;
            };
            if let Some(target) = first_names.get(&content.start) {
                entry.kind = EntryKind::HardLink { target: target.clone() };
                out.append(&entry, None)?;
            } else {
                let mut bytes = Slice { file: &self.spool, at: content.start, end: content.end() };
                out.append(&entry, Some(&mut bytes))?;
                // An empty file has no place of its own in the spool; see `keep`.
                first_names.insert(content.start, path);
            }
        }
        Ok(())
    }

    /// Returns the paths of what is not a directory, in the order of [`Merge::write`].
    pub fn paths_of_files(&self) -> impl Iterator<Item = PathBuf> {
        let is_file = |entry: &Entry| !entry.is_directory();
        self.tree.nodes().filter(move |node| node.entry.is_some_and(is_file)).map(|node| node.path)
    }

    /// Copies what a file contains to the spool. Every file gets a place that no other has, though
    /// it be empty: the place tells hard links of one file from equal files.
    fn keep<R: Read>(
        &mut self,
        entry: &Entry,
        size: u64,
        reader: &mut TarReader<R>,
    ) -> Result<Content> {
        let failed = |source| Error::File { action: "keep", path: entry.path.clone(), source };
        let start = self.end;
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(BUFFER).min(BUFFER)];
        let mut at = start;
        while at < start + size {
            let count = match reader.read(&mut buffer) {
                Ok(0) => {
                    let (path, actual) = (entry.path.clone(), at - start);
                    return Err(Error::ShortContent { path, expected: size, actual });
                }
                Ok(count) => count,
                Err(error) => return Err(Error::ReadTar(error)),
            };
            self.spool.write_all_at(&buffer[..count], at).map_err(failed)?;
            at += count as u64;
        }
        self.end = at.max(start + 1);
        Ok(Content { start, size })
    }
}

/// A part of a file.
struct Slice<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
