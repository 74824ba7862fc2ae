//! COPY and ADD: from files of a tree to the entries of a layer, without a mount and without a copy
//! in between.
//!
//! [`select()`] finds what the source arguments name, inside one tree; [`Selection::digest`] gives the
//! content key of it, which says whether a cached layer can be used; [`Selection::write`] makes the
//! layer's entries, given the [`View`](crate::layer::View) of the root file system they go to.
//! [`StatCache`] remembers file digests between runs. The rules are those of BuildKit (Dockerfile
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
mod mode;
mod pattern;
mod select;
mod stat_cache;
#[cfg(test)]
mod tests;
mod tree;
mod walk;
mod write;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use error::CopyError;
pub use mode::{InvalidMode, ModeChange};
pub use select::{Selection, select};
pub use stat_cache::StatCache;

/// What COPY or ADD asks for, with everything expanded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRequest {
    /// The source arguments, relative to the tree's root; a leading `/` and `..` stop there.
    pub sources: Vec<String>,
    /// The absolute destination path. A trailing slash says that it is a directory.
    pub destination: String,
    /// The user and group of `--chown`.
    pub owner: Option<(u32, u32)>,
    /// The change of `--chmod`.
    pub mode: Option<ModeChange>,
    /// Whether the sources' owners are kept when there is no `--chown`: yes from another stage or
    /// image, no from the build context, whose files belong to 0:0.
    pub keep_ownership: bool,
    /// Whether sources that are tars are extracted: ADD.
    pub extract: bool,
}

/// A directory that source arguments are looked up in.
#[derive(Clone, Copy)]
pub struct SourceTree<'a> {
    /// The directory: the build context, or a root file system.
    pub root: &'a Path,
    /// Decides what of the tree is there at all (`.dockerignore`), given a path relative to the root
    /// and whether it is a directory. `None` keeps everything.
    pub ignored: Option<&'a Filter<'a>>,
}

/// Decides whether a path of a tree takes part.
pub type Filter<'a> = dyn Fn(&Path, bool) -> Ignore + Sync + 'a;

/// What a [`Filter`] says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignore {
    /// It takes part.
    Keep,
    /// It does not, but something below it may; a directory is then there if such a thing is.
    Skip,
    /// It does not, and nothing below it does.
    SkipTree,
}
