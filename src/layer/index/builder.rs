//! Collecting the records of an index, in whatever order a tar gives them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{HEADER, IMPLIED, MAGIC, OPAQUE, PathIndex, VERSION};
use crate::layer::{Entry, EntryKind, Error, Result};

/// The files whose content an index keeps: `USER` and `--chown` need them for names.
pub(in crate::layer) const KEPT_FILES: [&str; 2] = ["etc/passwd", "etc/group"];
/// The largest content that is kept; larger files are read from the snapshot instead.
pub(in crate::layer) const MAX_KEPT: u64 = 256 << 10;

/// Collects the records of a [`PathIndex`].
#[derive(Debug, Default)]
pub struct IndexBuilder {
    nodes: BTreeMap<Vec<u8>, Node>,
}

/// What a layer says about a path, so far.
#[derive(Debug, Clone)]
pub(in crate::layer) enum Node {
    /// The path is deleted from the layers below.
    Whiteout,
    /// The path exists.
    Present {
        /// Its metadata. The path in it is empty: the key has it.
        entry: Box<Entry>,
        /// Whether it is a directory that hides its content below.
        opaque: bool,
        /// Whether the tar does not list it.
        implied: bool,
        /// Its kept content.
        content: Option<Vec<u8>>,
    },
}

impl Node {
    /// Returns the entry, unless the node is a deletion.
    pub(in crate::layer) fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Whiteout => None,
            Self::Present { entry, .. } => Some(entry),
        }
    }

    /// Returns whether the node is a directory.
    pub(in crate::layer) fn is_directory(&self) -> bool {
        self.entry().is_some_and(Entry::is_directory)
    }
}

/// Returns the sort key of `path`: `/` becomes NUL, which no path contains, so that the bytewise
/// order of keys is the index's order.
fn key(path: &[u8]) -> Vec<u8> {
    path.iter().map(|&byte| if byte == b'/' { 0 } else { byte }).collect()
}

fn path_of(key: &[u8]) -> Vec<u8> {
    key.iter().map(|&byte| if byte == 0 { b'/' } else { byte }).collect()
}

impl IndexBuilder {
    /// Records `entry`; it replaces what was recorded for its path, and what lay below that, unless
    /// both are directories. A directory over a deletion is opaque: the deletion stays in force.
    pub fn insert(&mut self, entry: Entry, content: Option<Vec<u8>>) {
        let path = entry.path.as_os_str().as_bytes();
        let key = key(path);
        let mut opaque = false;
        match self.nodes.get(&key) {
            Some(Node::Whiteout) => opaque = entry.is_directory(),
            Some(node) if node.is_directory() && entry.is_directory() => {
                opaque = matches!(node, Node::Present { opaque: true, .. });
            }
            Some(node) if node.is_directory() => self.remove(path),
            _ => {}
        }
        self.imply_parents(&key);
        let entry = Box::new(Entry { path: PathBuf::new(), ..entry });
        self.nodes.insert(key, Node::Present { entry, opaque, implied: false, content });
    }

    /// Records that `path` is deleted from the layers below. What this layer itself has at `path`
    /// stays, whatever the order (OCI image-spec, layer.md, "Whiteouts"): a directory turns opaque.
    pub fn whiteout(&mut self, path: &Path) {
        let key = key(path.as_os_str().as_bytes());
        self.imply_parents(&key);
        match self.nodes.entry(key) {
            Slot::Vacant(slot) => {
                slot.insert(Node::Whiteout);
            }
            Slot::Occupied(mut slot) => {
                if let Node::Present { entry, opaque, .. } = slot.get_mut() {
                    *opaque = entry.is_directory();
                }
            }
        }
    }

    /// Records that the directory at `path` hides its content in the layers below.
    pub fn opaque(&mut self, path: &Path) {
        let key = key(path.as_os_str().as_bytes());
        self.imply(&key);
        if let Some(Node::Present { entry, opaque, .. }) = self.nodes.get_mut(&key) {
            *opaque = entry.is_directory();
        }
    }

    /// Returns whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns the node at `path`.
    pub(in crate::layer) fn get(&self, path: &[u8]) -> Option<&Node> {
        self.nodes.get(&key(path))
    }

    /// Records that the directory at `path` is needed, unless it is listed.
    pub(in crate::layer) fn need(&mut self, path: &[u8]) {
        self.imply(&key(path));
    }

    /// Forgets `path` and everything below it.
    fn remove(&mut self, path: &[u8]) {
        let start = key(path);
        let mut end = start.clone();
        end.push(1);
        let doomed: Vec<_> =
            self.nodes.range(start.clone()..end).map(|(key, _)| key.clone()).collect();
        for key in doomed {
            self.nodes.remove(&key);
        }
    }

    /// Records the directory at `key`, and its parents, as needed but not listed.
    fn imply(&mut self, key: &[u8]) {
        let opaque = match self.nodes.get(key) {
            Some(node) if node.is_directory() => return,
            Some(Node::Whiteout) => true,
            _ => false,
        };
        self.imply_parents(key);
        let entry = Box::new(Entry::implied_directory(""));
        let node = Node::Present { entry, opaque, implied: true, content: None };
        self.nodes.insert(key.to_vec(), node);
    }

    fn imply_parents(&mut self, key: &[u8]) {
        if let Some(end) = key.iter().rposition(|byte| *byte == 0) {
            let parent = &key[..end];
            if !self.nodes.get(parent).is_some_and(Node::is_directory) {
                self.imply(parent);
            }
        } else if !key.is_empty() && !self.nodes.contains_key(&[][..]) {
            self.imply(b"");
        }
    }

    /// Returns the index of what was recorded.
    pub fn finish(mut self) -> Result<PathIndex> {
        self.imply(b"");
        let count = self.nodes.len();
        let mut records = Vec::with_capacity(count * super::RECORD);
        let mut heap = vec![0];
        for (key, node) in &self.nodes {
            write_record(&mut records, &mut heap, key, node)?;
        }
        let mut bytes = Vec::with_capacity(HEADER + records.len() + heap.len());
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&records);
        checksum.update(&heap);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&checksum.finalize().to_le_bytes());
        bytes.extend_from_slice(&(count as u64).to_le_bytes());
        bytes.extend_from_slice(&(heap.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&records);
        bytes.extend_from_slice(&heap);
        Ok(PathIndex { bytes, count })
    }
}

fn write_record(records: &mut Vec<u8>, heap: &mut Vec<u8>, key: &[u8], node: &Node) -> Result<()> {
    let path_at = store(heap, &path_of(key))?;
    let length = u16::try_from(key.len())
        .map_err(|_| Error::Limit { what: "the length of a path", limit: u64::from(u16::MAX) })?;
    let (mut kind, mut flags, mut payload, mut extra_at) = (0, 0, 0, 0);
    let whiteout = Entry::new("", EntryKind::Fifo, 0);
    let mut entry = &whiteout;
    if let Node::Present { entry: present, opaque, implied, content } = node {
        entry = present;
        (kind, payload) = kind_and_payload(heap, &entry.kind)?;
        flags = if *opaque { OPAQUE } else { 0 } | if *implied { IMPLIED } else { 0 };
        if !entry.xattrs.is_empty() || content.is_some() {
            extra_at = store(heap, &extra(entry, content.as_deref()))?;
        }
    }
    records.extend_from_slice(&path_at.to_le_bytes());
    records.extend_from_slice(&length.to_le_bytes());
    records.extend_from_slice(&[kind, flags]);
    for number in [entry.mode, entry.uid, entry.gid, extra_at] {
        records.extend_from_slice(&number.to_le_bytes());
    }
    records.extend_from_slice(&entry.mtime.to_le_bytes());
    records.extend_from_slice(&payload.to_le_bytes());
    Ok(())
}

fn kind_and_payload(heap: &mut Vec<u8>, kind: &EntryKind) -> Result<(u8, u64)> {
    let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    let mut target = |target: &Path| -> Result<u64> {
        let bytes = target.as_os_str().as_bytes();
        let at = store(heap, bytes)?;
        Ok(pair(u32::try_from(bytes.len()).unwrap_or(0), at))
    };
    Ok(match kind {
        EntryKind::Directory => (1, 0),
        EntryKind::File { size } => (2, *size),
        EntryKind::Symlink { target: path } => (3, target(path)?),
        EntryKind::HardLink { target: path } => (4, target(path)?),
        EntryKind::Fifo => (5, 0),
        EntryKind::CharDevice { major, minor } => (6, pair(*major, *minor)),
        EntryKind::BlockDevice { major, minor } => (7, pair(*major, *minor)),
    })
}

fn extra(entry: &Entry, content: Option<&[u8]>) -> Vec<u8> {
    // Lengths come from attributes (64 KiB at most) and from kept content (256 KiB at most).
    let number = |length: usize| u32::try_from(length).unwrap_or(0).to_le_bytes();
    let mut extra = number(entry.xattrs.len()).to_vec();
    for (name, value) in &entry.xattrs {
        extra.extend_from_slice(&number(name.len()));
        extra.extend_from_slice(&number(value.len()));
        extra.extend_from_slice(name);
        extra.extend_from_slice(value);
    }
    extra.extend_from_slice(&number(content.map_or(0, |content| content.len() + 1)));
    extra.extend_from_slice(content.unwrap_or_default());
    extra
}

/// Appends `bytes` to the heap and returns where they start.
fn store(heap: &mut Vec<u8>, bytes: &[u8]) -> Result<u32> {
    let limit = u64::from(u32::MAX);
    let at = heap.len();
    heap.extend_from_slice(bytes);
    u32::try_from(at).map_err(|_| Error::Limit { what: "the size of a path index", limit })
}

/// Returns the path that `bytes` are.
pub(in crate::layer) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
