//! What can go wrong with credentials.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Errors of finding, storing and erasing credentials.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("failed to {action} credentials file `{path}`")]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not JSON of the expected form.
    #[error("credentials file `{path}` is not valid JSON")]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The variable `DOCKER_AUTH_CONFIG` is not JSON of the expected form.
    #[error("the variable DOCKER_AUTH_CONFIG is not valid JSON")]
    Environment(#[source] serde_json::Error),
    /// The `auth` of an entry is not base64 of `username:password`.
    #[error("credentials file `{path}` has a malformed `auth` for `{key}`")]
    Auth {
        /// The file.
        path: PathBuf,
        /// The entry's key.
        key: String,
    },
    /// There is no place to write to.
    #[error(
        "no credentials file is known: neither a docker configuration nor a home directory is set"
    )]
    NoFile,
    /// A helper could not be run.
    #[error("failed to run credential helper `{program}`")]
    HelperStart {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A helper failed.
    #[error("credential helper `{program}` failed to {action}: {message}")]
    Helper {
        /// The program.
        program: String,
        /// `get`, `store` or `erase`.
        action: &'static str,
        /// The first line it printed.
        message: String,
    },
    /// A helper did not end in time and was killed.
    #[error("credential helper `{program}` did not answer within {} seconds", timeout.as_secs())]
    HelperTimeout {
        /// The program.
        program: String,
        /// How long it had.
        timeout: Duration,
    },
}
