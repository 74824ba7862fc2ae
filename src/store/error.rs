//! What can go wrong in a store.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::blob::Mismatch;
use crate::image::{self, Digest};

/// The result of working on a store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of the store.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed; the message names the path.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The directory holds something else.
    #[error("`{path}` is neither an rpub store nor empty: `{found}` does not belong to a store")]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// One thing in it that no store has.
        found: PathBuf,
    },
    /// A later rpub made the store.
    #[error("the store `{path}` has format version {found}; this rpub knows {known}")]
    NewerVersion {
        /// The store.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The newest version this program reads.
        known: u64,
    },
    /// One of the store's own JSON files cannot be read.
    #[error("the store's file `{path}` is damaged")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A blob is not there.
    #[error("blob {0} is not in the store")]
    MissingBlob(Digest),
    /// A blob is larger than the reader allows.
    #[error("blob {digest} has {size} bytes, more than the {limit} expected at most")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Bytes written or read are not those of their digest.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// A stored manifest cannot be read.
    #[error("failed to read manifest {digest}")]
    Manifest {
        /// The manifest.
        digest: Digest,
        /// Why.
        #[source]
        source: image::Error,
    },
    /// Another process is writing the same partial blob.
    #[error("`{0}` is being written by another process")]
    Busy(PathBuf),
}
