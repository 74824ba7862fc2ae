//! What ends the server.

use thiserror::Error;

use super::{ContentError, TlsError};

/// The result of serving.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors that keep the server from running. What is wrong with one request is its reply's matter.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// What is to be served cannot be read.
    #[error("failed to read the images to serve")]
    Content(#[source] ContentError),
    /// The files for TLS cannot be used.
    #[error("failed to set up TLS")]
    Tls(#[from] TlsError),
}
