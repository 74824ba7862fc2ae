//! Why an archive cannot be written.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::store;

/// The result of this room's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of writing archives and layouts.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The archive's own bytes could not be written.
    #[error("failed to write the archive")]
    Write(#[source] io::Error),
    /// A file of the layout could not be written.
    #[error("failed to write the image layout")]
    Layout(#[source] io::Error),
    /// The directory holds something that is no OCI image layout.
    #[error("`{path}` is not the index of an OCI image layout")]
    NotALayout {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}
