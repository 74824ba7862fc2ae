//! What can go wrong with credentials.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::Keyring;

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
    /// A helper failed, or answered something else than the protocol has.
    #[error("credential helper `{program}` failed to {action}: {message}")]
    Helper {
        /// The program.
        program: String,
        /// `get`, `store`, `erase` or `list`.
        action: &'static str,
        /// What it was asked about.
        key: String,
        /// The first line that it printed, or what is wrong with its answer.
        message: String,
    },
    /// A helper did not end in time and was killed.
    #[error("credential helper `{program}` did not answer within {} seconds", timeout.as_secs())]
    HelperTimeout {
        /// The program.
        program: String,
        /// What it was asked about.
        key: String,
        /// How long it had.
        timeout: Duration,
    },
    /// No place has a login, and a helper of `registries.conf`, which may have one, was passed over.
    #[error("no login was found, but a helper of `registries.conf` could not be asked")]
    PassedOver(#[source] Arc<Error>),
    /// A keyring could not be used.
    #[error("the {keyring} cannot be used")]
    Keyring {
        /// Which.
        keyring: Keyring,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A keyring gave no answer.
    #[error("the {keyring} did not answer within {} seconds", timeout.as_secs())]
    KeyringTimeout {
        /// Which.
        keyring: Keyring,
        /// How long it had.
        timeout: Duration,
    },
}

impl Error {
    /// Returns what the user may do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::HelperStart { program, source } if source.kind() == io::ErrorKind::NotFound => {
                Some(format!(
                    "install `{program}`, or take it out of `credsStore` and `credHelpers` in the \
                     credentials file"
                ))
            }
            Self::PassedOver(cause) => match &**cause {
                Self::HelperStart { program, source }
                    if source.kind() == io::ErrorKind::NotFound =>
                {
                    Some(format!(
                        "install `{program}`, or take it out of `credential-helpers` in \
                         `registries.conf`"
                    ))
                }
                cause => cause.remedy(),
            },
            Self::Helper { program, action: "get", key, .. }
            | Self::HelperTimeout { program, key, .. } => {
                Some(format!("see what it says to `echo {key} | {program} get`"))
            }
            _ => None,
        }
    }
}
