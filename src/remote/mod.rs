//! Gets files by http(s) and git to a directory of this machine, and keeps them for the next time.
//!
//! Blocking. Connections come through [`Web`], secrets through [`Secrets`]; which plan needs what,
//! and registries, do not belong here. Main types: [`Fetcher`], [`Tree`], [`GitSettings`], [`Error`].
//! What is got follows BuildKit's `source/http` and `source/git`.
//!
//! In the store, format version 1:
//!
//! ```text
//! remote/http/<digest of the URL>/record.json      what the last answer was: validators, digest
//! remote/http/<digest of the URL>/<id>/<name>      its file, mode 0600; never changed
//! remote/git/<digest of the remote>/repository/    a bare repository of fetched commits
//! remote/git/<digest of the remote>/trees/<id>/    checked out files of a commit; never changed
//! remote/trees/<digest of the archive>/files/      an unpacked archive; never changed
//! remote/trees/<digest of the archive>/index       whose its files are: a path index of `layer`
//! ```
//!
//! No URL and no credential is written there, only digests of URLs. (A kept `.git` names its
//! remote, without credentials.)

mod error;
mod fetcher;
mod git;
mod http;
mod tree;
mod web;

pub use error::{Error, Kind};
pub use fetcher::{Fetcher, NoSecrets, Secrets};
pub use git::{GitSettings, GitTree};
pub use http::{FileName, RemoteFile};
pub use tree::{SNIFFED_BYTES, TemporaryTree, Tree, is_archive};
pub use web::{Content, Head, Web, WebRequest};

/// What the functions of this room return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests;
