//! One member of a layer.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a layer says about one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path below the root: relative, without `.`, `..`, leading or trailing slashes; empty for the root itself.
    pub path: PathBuf,
    /// The kind, with what only this kind has.
    pub kind: EntryKind,
    /// Permission, set-id and sticky bits: `0o7777` at most.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The time of the last modification, in whole seconds since 1970.
    pub mtime: i64,
    /// Extended attributes by name, such as `security.capability`.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    /// Returns an entry owned by root, with no extended attributes and a modification time of 0.
    pub fn new(path: impl Into<PathBuf>, kind: EntryKind, mode: u32) -> Self {
        let (path, xattrs) = (path.into(), BTreeMap::new());
        Self { path, kind, mode, uid: 0, gid: 0, mtime: 0, xattrs }
    }

    /// Returns a directory with mode 0755, owned by root: what a parent that no layer lists becomes.
    pub fn implied_directory(path: impl Into<PathBuf>) -> Self {
        Self::new(path, EntryKind::Directory, 0o755)
    }

    /// Returns whether the entry is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == EntryKind::Directory
    }
}

/// The kinds of [`Entry`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// The size of its content in bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// What the link holds, as it is.
        target: PathBuf,
    },
    /// Another name of a file of the same layer.
    HardLink {
        /// That file's path, in the form of [`Entry::path`].
        target: PathBuf,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
}

impl EntryKind {
    /// Returns the kind's name, for messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File { .. } => "file",
            Self::Symlink { .. } => "symbolic link",
            Self::HardLink { .. } => "hard link",
            Self::Fifo => "fifo",
            Self::CharDevice { .. } => "character device",
            Self::BlockDevice { .. } => "block device",
        }
    }
}
