//! A layer's tar becomes a snapshot directory for overlayfs.

use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::layer::{Error, PathIndex, Result, TarReader};

pub(in crate::layer) mod directories;
pub(in crate::layer) mod metadata;
mod unpacker;

use unpacker::Unpacker;

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
    /// Four million entries are ten times the largest known images; a tebibyte is more than any.
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

/// How a deletion is recorded for overlayfs (overlayfs.rst, "whiteouts and opaque directories").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhiteoutForm {
    /// A character device 0/0; the other form where the system refuses one.
    Device,
    /// An empty file with `user.overlay.whiteout`, in a directory marked to have some (Linux 6.7).
    Xattr,
    /// Not at all: the tar is no layer but holds plain files. Names that would be deletions mean
    /// themselves, absolute ones count from the root, and device nodes are left out.
    Plain,
}

/// Something of the layer that could not be reproduced, and does not matter enough to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The path.
    pub path: PathBuf,
    /// What was left out, and why.
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

/// Unpacks the uncompressed `tar` into the empty directory `target`, and reads it to its end. Blocks.
///
/// - Deletions become overlayfs whiteouts and opaque directories (OCI image-spec, layer.md,
///   "Whiteouts"); those of aufs itself (`.wh..wh.plnk` and so on) are skipped.
/// - A name that leads through a link of the same layer is resolved inside the root by what the
///   layer says; no system call ever follows a link.
/// - Later entries replace earlier ones. Directories get owner, mode and times at the end.
/// - Device nodes become empty files: no user namespace may make them. The index keeps the truth.
/// - Parents that the tar does not list are made, mode 0755, owned by root; the index marks them as
///   implied, and [`implied_fixes`](crate::layer::implied_fixes) says what becomes of them.
///
/// # Errors
///
/// Those of [`TarReader::next_member`]; [`Error::UnsafePath`], [`Error::ParentNotDirectory`] and
/// [`Error::HardLinkOutside`] for layers that do not fit together; [`Error::Owner`] for ids that are
/// not mapped; [`Error::File`] for other system calls. The caller removes the incomplete `target`.
pub fn apply(tar: impl Read, target: &Path, options: &ApplyOptions) -> Result<Applied> {
    let open = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(target, flags, Mode::empty()).map_err(|errno| Error::File {
            action: "open",
            path: target.to_owned(),
            source: errno.into(),
        })
    };
    let mut reader = TarReader::new(tar);
    let mut unpacker = Unpacker::new(open()?, open()?, options);
    while let Some(member) = reader.next_member()? {
        unpacker.place(&member, &mut reader)?;
    }
    reader.drain()?;
    unpacker.finish()
}

#[cfg(test)]
mod tests;
