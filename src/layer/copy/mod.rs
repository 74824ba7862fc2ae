//! COPY and ADD: from files to the entries of a layer, without a mount and without a copy in between.
//!
//! [`select()`] finds what the source arguments name, inside one tree or beside it; [`Selection::digest`]
//! gives the content key of it, which says whether a cached layer can be used; [`Selection::write`]
//! makes the layer's entries, given the [`View`](crate::layer::View) of the root file system they go
//! to. [`StatCache`] remembers file digests between runs. The rules are those of BuildKit (Dockerfile
//! reference, "COPY" and "ADD").
//!
//! Nothing outside the tree is ever opened: `..` stops at the tree's root, symbolic links in source
//! arguments are followed as if the tree were the root file system, and those inside copied
//! directories are kept as links.

mod archive;
mod destination;
mod digest;
mod error;
mod files;
mod filter;
mod listing;
mod mode;
mod pattern;
mod select;
mod stat_cache;
#[cfg(test)]
mod tests;
mod tree;
mod walk;
mod write;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ignore::Patterns;
use crate::layer::PathIndex;

pub use digest::Fingerprint;
pub use error::CopyError;
pub use listing::ListedFile;
pub use mode::{InvalidMode, ModeChange};
pub use select::{Selection, select};
pub use stat_cache::StatCache;

/// What COPY or ADD asks for, with everything expanded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRequest {
    /// What is copied, in order: of two files for one path the later counts.
    pub sources: Vec<CopyInput>,
    /// The absolute destination path. A trailing slash says that it is a directory.
    pub destination: String,
    /// The user and group of `--chown`.
    pub owner: Option<(u32, u32)>,
    /// The change of `--chmod`.
    pub mode: Option<ModeChange>,
    /// Whether the owners of the tree's files are kept when there is no `--chown`: yes from another
    /// stage or image, no from the build context, whose files belong to 0:0.
    pub keep_ownership: bool,
    /// Whether paths keep the directories that they are in: `--parents`.
    pub parents: bool,
    /// What is left out, as patterns of paths below each source: `--exclude`.
    pub exclude: Vec<String>,
    /// Whether files of the tree that are tars are extracted: ADD.
    pub extract: bool,
}

/// One source of a [`CopyRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyInput {
    /// A path or pattern, relative to the tree's root; a leading `/` and `..` stop there.
    Path(String),
    /// The same, without a meaning of `*`, `?`, `[` and `\`, nor `--parents` and `--exclude`.
    Exact(String),
    /// A file with this content, mode 0644, owned by 0:0: a here-document.
    Inline {
        /// The name that it gets in a directory.
        name: String,
        /// What is in it.
        content: String,
    },
    /// A file from elsewhere, owned by 0:0.
    File {
        /// The directory that it is in.
        directory: PathBuf,
        /// Its name in there and in the image.
        name: String,
        /// Whether it is extracted when it is a tar.
        extract: bool,
    },
    /// A directory from elsewhere with all that is in it, owned by 0:0. A destination that does not
    /// exist takes its mode.
    Directory(PathBuf),
}

impl CopyInput {
    /// Returns a path or pattern of the tree.
    #[must_use]
    pub fn path(path: impl Into<String>) -> Self {
        Self::Path(path.into())
    }
}

/// A directory that source arguments are looked up in.
#[derive(Debug, Clone, Copy)]
pub struct SourceTree<'a> {
    /// The directory: the build context, or a root file system.
    pub root: &'a Path,
    /// What of the tree is not there (`.dockerignore`). `None` keeps everything.
    pub ignored: Option<&'a Patterns>,
    /// Whose its files are, when that counts and the files themselves do not tell: what unpacking
    /// them without their owners found.
    pub owners: Option<&'a PathIndex>,
    /// What of the files' metadata counts.
    pub metadata: Metadata,
}

/// What of the metadata of a tree's files counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Metadata {
    /// All that a layer holds.
    #[default]
    All,
    /// What every checkout of the same files has, as git would say it: directories and files that
    /// their owner may execute have mode 0755, other files 0644; hard links are files of their own;
    /// there are no extended attributes.
    Portable,
}
