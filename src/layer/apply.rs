//! Tar to snapshot.
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::layer::{PathIndex, Result};

/// How [`apply`] works.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// Whether owners are set.
    pub ownership: Ownership,
    /// How deletions are recorded.
    pub whiteouts: WhiteoutForm,
    /// The greatest number of entries.
    pub max_entries: u64,
    /// The greatest total of content in bytes.
    pub max_bytes: u64,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        let (ownership, whiteouts) = (Ownership::Set, WhiteoutForm::Device);
        Self { ownership, whiteouts, max_entries: 4_000_000, max_bytes: 1 << 40 }
    }
}

/// What happens to the owners that a tar gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// They are set.
    Set,
    /// They are only kept in the index: there is a single id.
    Ignore,
}

/// How a deletion is recorded for overlayfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhiteoutForm {
    /// A character device 0/0; the other form where the system refuses one.
    Device,
    /// An empty file with `user.overlay.whiteout` (Linux 6.7).
    Xattr,
}

/// Something of the layer that could not be reproduced, and does not matter enough to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The path.
    pub path: PathBuf,
    /// What was left out.
    pub what: String,
}

/// What [`apply`] did.
#[derive(Debug)]
pub struct Applied {
    /// What the layer holds.
    pub index: PathIndex,
    /// The bytes of file content.
    pub bytes: u64,
    /// What was left out, at most a hundred.
    pub warnings: Vec<Warning>,
}

/// Unpacks the uncompressed `tar` into the empty directory `target`. Blocks.
pub fn apply(_tar: impl Read, _target: &Path, _options: &ApplyOptions) -> Result<Applied> {
    todo!()
}
