//! What one layer holds, in a file that is ready for lookups as soon as it is read.
//!
//! # The file, version 1
//!
//! All numbers are little-endian. A header of 32 bytes: the magic `rpubpath`, the version (u32), the
//! CRC-32 of everything after the header (u32), the number of records (u64), the length of the heap
//! (u64). Then the records, 40 bytes each, then the heap. A record:
//!
//! | offset | type | holds |
//! | --- | --- | --- |
//! | 0 | u32 | heap offset of the path, relative to the root, empty for the root |
//! | 4 | u16 | length of the path |
//! | 6 | u8 | kind: 0 whiteout, 1 directory, 2 file, 3 symbolic link, 4 hard link, 5 fifo, 6 character device, 7 block device |
//! | 7 | u8 | flags: 1 opaque, 2 implied |
//! | 8 | u32 | mode, `0o7777` at most |
//! | 12 | u32 | uid |
//! | 16 | u32 | gid |
//! | 20 | u32 | heap offset of the extra part, 0 for none |
//! | 24 | i64 | modification time in seconds since 1970 |
//! | 32 | u64 | file: size; links: heap offset of the target, and its length in the upper half; devices: minor, major in the upper half |
//!
//! The extra part: the number of extended attributes (u32), for each the lengths of name and value
//! (u32 each) and their bytes, then the length of the kept content plus one (u32, 0 for none) and
//! the content. The heap's first byte is 0, so that no extra part is at offset 0.
//!
//! Records are sorted by path, where `/` sorts before every other byte: what lies below a directory
//! follows it directly, and a lookup is a binary search without any decoding before it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::layer::{Entry, EntryKind, Error, Result};

mod builder;

pub use builder::IndexBuilder;
pub(in crate::layer) use builder::{KEPT_FILES, MAX_KEPT, Node, as_path};

const MAGIC: &[u8; 8] = b"rpubpath";
const VERSION: u32 = 1;
const HEADER: usize = 32;
const RECORD: usize = 40;
const OPAQUE: u8 = 1;
const IMPLIED: u8 = 2;

/// What one layer holds, sorted by path; the module's documentation specifies the file format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathIndex {
    bytes: Vec<u8>,
    count: usize,
}

impl PathIndex {
    /// Reads the index at `path`; `None` when there is no such file. Blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] for a damaged file, [`Error::IndexVersion`] for one of a newer version,
    /// [`Error::IndexFile`] when it cannot be read.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        let bytes = match fs_err::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::IndexFile { action: "read", source }),
        };
        let damaged = |reason| Error::Index { path: path.to_owned(), reason };
        if bytes.len() < HEADER || &bytes[..8] != MAGIC {
            return Err(damaged("it does not start with the magic of a path index"));
        }
        let version = u32_at(&bytes, 8);
        if version != VERSION {
            return Err(Error::IndexVersion { path: path.to_owned(), version });
        }
        let count = usize::try_from(u64_at(&bytes, 16)).unwrap_or(usize::MAX);
        let heap = usize::try_from(u64_at(&bytes, 24)).unwrap_or(usize::MAX);
        let size = count.checked_mul(RECORD).and_then(|n| n.checked_add(HEADER)?.checked_add(heap));
        if size != Some(bytes.len()) {
            return Err(damaged("its size is not what its header says"));
        }
        if crc32fast::hash(&bytes[HEADER..]) != u32_at(&bytes, 12) {
            return Err(damaged("its content does not match its checksum"));
        }
        Ok(Some(Self { bytes, count }))
    }

    /// Writes the index to `path`: to a temporary file beside it, then by rename. Blocks.
    pub fn save(&self, path: &Path) -> Result<()> {
        let failed = |source| Error::IndexFile { action: "write", source };
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".index-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(parent)
            .map_err(failed)?;
        file.write_all(&self.bytes).map_err(failed)?;
        file.as_file().sync_data().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// Returns the number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the record of exactly `path`.
    #[must_use]
    pub fn get(&self, path: &Path) -> Option<Record<'_>> {
        let path = path.as_os_str().as_bytes();
        let at = self.lower_bound(path);
        let record = self.record(at)?;
        (record.path_bytes() == path).then_some(record)
    }

    /// Returns all records in the index's order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        (0..self.count).filter_map(|at| self.record(at))
    }

    /// Returns the records of what is directly in the directory at `path`, in the index's order.
    #[must_use]
    pub fn children(&self, path: &Path) -> Vec<Record<'_>> {
        let parent = path.as_os_str().as_bytes();
        let mut prefix = parent.to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let mut found = Vec::new();
        let mut at = self.lower_bound(&prefix);
        while let Some(record) = self.record(at) {
            let path = record.path_bytes();
            let Some(rest) = path.strip_prefix(prefix.as_slice()) else { break };
            if rest.is_empty() {
                at += 1;
                continue;
            }
            if rest.contains(&b'/') {
                // Every parent has a record, so this is not reached in an index of our making.
                at += 1;
                continue;
            }
            found.push(record);
            // Skip what lies below: the byte after `/` in the index's order ends the subtree.
            let mut end = path.to_vec();
            end.push(1);
            at = self.lower_bound(&end).max(at + 1);
        }
        found
    }

    /// Returns whether this layer hides what the layers below have at `path`, by what it holds at a
    /// parent: a deletion, an opaque directory, or something that is not a directory.
    pub(super) fn hides_below(&self, path: &Path) -> bool {
        let bytes = path.as_os_str().as_bytes();
        let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let parents = slashes.map(|(at, _)| &bytes[..at]);
        let root = (!bytes.is_empty()).then_some(&b""[..]);
        root.into_iter().chain(parents).any(|parent| {
            self.get(Path::new(OsStr::from_bytes(parent)))
                .is_some_and(|record| record.is_opaque() || !record.is_directory())
        })
    }

    fn record(&self, at: usize) -> Option<Record<'_>> {
        (at < self.count).then_some(Record { index: self, at })
    }

    /// Returns the place of the first record whose path is not before `path`.
    fn lower_bound(&self, path: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = usize::midpoint(low, high);
            if compare(Record { index: self, at: middle }.path_bytes(), path) == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn heap(&self, offset: usize, length: usize) -> &[u8] {
        let start = HEADER + self.count * RECORD + offset;
        self.bytes.get(start..start + length).unwrap_or_default()
    }
}

/// One record of a [`PathIndex`].
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    index: &'a PathIndex,
    at: usize,
}

impl<'a> Record<'a> {
    fn bytes(self) -> &'a [u8] {
        let start = HEADER + self.at * RECORD;
        &self.index.bytes[start..start + RECORD]
    }

    fn path_bytes(self) -> &'a [u8] {
        let bytes = self.bytes();
        let length = u16::from_le_bytes([bytes[4], bytes[5]]);
        self.index.heap(u32_at(bytes, 0) as usize, usize::from(length))
    }

    /// Returns the path, relative to the root.
    #[must_use]
    pub fn path(self) -> &'a Path {
        Path::new(OsStr::from_bytes(self.path_bytes()))
    }

    /// Returns the entry; `None` for a whiteout.
    #[must_use]
    pub fn entry(self) -> Option<Entry> {
        let bytes = self.bytes();
        Some(Entry {
            path: self.path().to_owned(),
            kind: self.kind()?,
            mode: u32_at(bytes, 8),
            uid: u32_at(bytes, 12),
            gid: u32_at(bytes, 16),
            mtime: u64_at(bytes, 24).cast_signed(),
            xattrs: self.extra().0,
        })
    }

    /// Returns the kind; `None` for a whiteout.
    #[must_use]
    pub fn kind(self) -> Option<EntryKind> {
        let bytes = self.bytes();
        let (low, high) = (u32_at(bytes, 32), u32_at(bytes, 36));
        let target = || {
            let target = self.index.heap(low as usize, high as usize);
            PathBuf::from(OsStr::from_bytes(target))
        };
        match bytes[6] {
            1 => Some(EntryKind::Directory),
            2 => Some(EntryKind::File { size: u64_at(bytes, 32) }),
            3 => Some(EntryKind::Symlink { target: target() }),
            4 => Some(EntryKind::HardLink { target: target() }),
            5 => Some(EntryKind::Fifo),
            6 => Some(EntryKind::CharDevice { major: high, minor: low }),
            7 => Some(EntryKind::BlockDevice { major: high, minor: low }),
            _ => None,
        }
    }

    /// Returns whether the path is deleted from the layers below.
    #[must_use]
    pub fn is_whiteout(self) -> bool {
        self.bytes()[6] == 0
    }

    /// Returns whether this is a directory.
    #[must_use]
    pub fn is_directory(self) -> bool {
        self.bytes()[6] == 1
    }

    /// Returns whether this is a directory that hides its content in the layers below.
    #[must_use]
    pub fn is_opaque(self) -> bool {
        self.bytes()[7] & OPAQUE != 0
    }

    /// Returns whether this is a directory that the tar needs but does not list.
    #[must_use]
    pub fn is_implied(self) -> bool {
        self.bytes()[7] & IMPLIED != 0
    }

    /// Returns the content, which the index keeps of `etc/passwd` and `etc/group` up to 256 KiB.
    #[must_use]
    pub fn content(self) -> Option<&'a [u8]> {
        self.extra().1
    }

    fn extra(self) -> Extra<'a> {
        let mut at = u32_at(self.bytes(), 20) as usize;
        let mut xattrs = BTreeMap::new();
        if at == 0 {
            return (xattrs, None);
        }
        let mut take = |length: usize| {
            let bytes = self.index.heap(at, length);
            at += length;
            bytes
        };
        let number = |take: &mut dyn FnMut(usize) -> &'a [u8]| match take(4) {
            &[a, b, c, d] => u32::from_le_bytes([a, b, c, d]) as usize,
            _ => 0,
        };
        for _ in 0..number(&mut take) {
            let (name, value) = (number(&mut take), number(&mut take));
            xattrs.insert(take(name).to_vec(), take(value).to_vec());
        }
        let content = number(&mut take).checked_sub(1).map(take);
        (xattrs, content)
    }
}

/// A record's extended attributes, and its kept content.
type Extra<'a> = (BTreeMap<Vec<u8>, Vec<u8>>, Option<&'a [u8]>);

/// Compares two paths in the index's order: `/` before every other byte.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let common = a.iter().zip(b).position(|(a, b)| a != b);
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    match common {
        Some(at) => rank(a[at]).cmp(&rank(b[at])),
        None => a.len().cmp(&b.len()),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests;
