//! Why an archive cannot be read or written.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::blob::Mismatch;
use crate::image::{self, Digest};

/// The result of this room's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of reading and writing images in files.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed; the message names the path where there is one.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file or directory is something else.
    #[error("`{path}` holds no images: {reason}")]
    NotAnArchive {
        /// The file or directory.
        path: PathBuf,
        /// What it is, or lacks.
        reason: &'static str,
    },
    /// A directory is no OCI image layout, or one of another version.
    #[error("`{path}`: {reason}")]
    NotALayout {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
        /// The system's own words.
        #[source]
        source: Option<io::Error>,
    },
    /// A compressed tar cannot be unpacked to a temporary file.
    #[error("`{path}` is compressed and cannot be unpacked")]
    Unpack {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file ends too early.
    #[error("`{path}` is cut short: it ends at byte {at}, in the middle of its content")]
    Cut {
        /// The file.
        path: PathBuf,
        /// Its size.
        at: u64,
    },
    /// Bytes of the file are not as they were written.
    #[error("`{path}` is damaged at byte {at}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong there.
        what: String,
    },
    /// A later rpub made the bundle.
    #[error("`{path}` is a bundle of version {found}; this rpub knows version {known}")]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The newest version this program reads.
        known: u64,
    },
    /// A JSON file of the archive cannot be read.
    #[error("`{name}` of `{path}` cannot be read")]
    Json {
        /// The archive.
        path: PathBuf,
        /// The file in it.
        name: String,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest or config of the archive cannot be read.
    #[error("the manifest {digest} in `{path}` cannot be read")]
    Manifest {
        /// The archive.
        path: PathBuf,
        /// The manifest.
        digest: Digest,
        /// Why.
        #[source]
        source: image::Error,
    },
    /// A blob is not there.
    #[error("`{path}` has no blob {digest}")]
    Missing {
        /// The archive.
        path: PathBuf,
        /// The blob.
        digest: Digest,
    },
    /// A delta bundle was made without the blob, because the other side had it.
    #[error("`{path}` leaves out blob {digest}: it was made for who has {against}")]
    LeftOut {
        /// The bundle.
        path: PathBuf,
        /// The blob.
        digest: Digest,
        /// The inventory that the bundle was made against.
        against: String,
    },
    /// Docker's `manifest.json` names what is not there.
    #[error("`{path}` has no file `{name}`, which its manifest.json names")]
    MissingFile {
        /// The archive.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// Something is larger than the reader allows.
    #[error("{what} of `{path}` has {size} bytes, more than the {limit} expected at most")]
    TooLarge {
        /// The archive.
        path: PathBuf,
        /// What.
        what: String,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// There are more members in the tar than the reader allows.
    #[error("`{path}` has more than {limit} members")]
    TooMany {
        /// The archive.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// Bytes read or written are not those of their digest.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The archive has no such image.
    #[error("it has no image `{wanted}`")]
    NoImage {
        /// What was asked for; empty for "the only one".
        wanted: String,
        /// The names of those that it has.
        has: Vec<String>,
    },
    /// The archive has several images that are meant.
    #[error("it has {count} images")]
    Several {
        /// How many.
        count: usize,
        /// Their names.
        has: Vec<String>,
    },
    /// Another process is writing the file.
    #[error("`{0}` is being written by another process")]
    Busy(PathBuf),
    /// Docker's format names images of one platform each.
    #[error("{0} is no image of one platform, and docker's archives take no others")]
    NotOneImage(Digest),
    /// A descriptor claims more bytes than a tar can hold beside others.
    #[error("blob {digest} would have {size} bytes")]
    Huge {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
    },
    /// What was written before failed, so that nothing can follow.
    #[error("an earlier blob was not written whole")]
    Broken,
}

impl Error {
    /// Returns the error of reading through a [`crate::blob::VerifyingReader`].
    pub(super) fn of_reading(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Mismatch>()) {
            Some(mismatch) => Self::Mismatch(mismatch.clone()),
            None => Self::Io(error),
        }
    }
}

/// What is wrong with a tar, before it is said of which file.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    Cut(u64),
    Damaged { at: u64, what: &'static str },
}

impl Fault {
    pub(super) fn in_file(self, path: &Path) -> Error {
        let path = path.to_owned();
        match self {
            Self::Io(error) => Error::Io(error),
            Self::Cut(at) => Error::Cut { path, at },
            Self::Damaged { at, what } => Error::Damaged { path, at, what: what.to_owned() },
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
