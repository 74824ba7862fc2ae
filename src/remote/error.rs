//! What can go wrong with getting things from elsewhere.

use std::io;

use thiserror::Error;

use crate::{layer, store};

/// Errors of getting files and repositories.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// An address that cannot be used.
    #[error("invalid address `{address}`: {reason}")]
    Address {
        /// The address, without credentials.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A request failed.
    #[error("failed to get `{url}`")]
    Get {
        /// The URL, without credentials and query.
        url: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A server broke the protocol.
    #[error("`{url}`: {reason}")]
    Answer {
        /// The URL, without credentials and query.
        url: String,
        /// What it did.
        reason: &'static str,
    },
    /// The content is not what it was said to be.
    #[error("digest mismatch for `{what}`: it is {actual}, expected {expected}")]
    Checksum {
        /// The URL, without credentials and query, or the remote.
        what: String,
        /// What the user said.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// More than is accepted.
    #[error("`{what}` is larger than {limit} bytes")]
    TooLarge {
        /// What.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// A secret could not be read.
    #[error("failed to read the secret `{id}`")]
    Secret {
        /// Which.
        id: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An archive cannot be unpacked.
    #[error("failed to unpack `{what}`")]
    Unpack {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: layer::Error,
    },
    /// There is no `git`.
    #[error("failed to run `git`, which git repositories need")]
    NoGit(#[source] io::Error),
    /// `git` failed.
    #[error("`git {action}` failed for `{remote}`: {message}")]
    Git {
        /// What it was to do.
        action: String,
        /// The repository, without credentials.
        remote: String,
        /// The last lines that it wrote.
        message: String,
        /// What kind of failure that is.
        kind: Kind,
    },
    /// `git` took too long.
    #[error("`git {action}` did not finish within {seconds} seconds for `{remote}`")]
    GitTimeout {
        /// What it was to do.
        action: String,
        /// The repository, without credentials.
        remote: String,
        /// How long it had.
        seconds: u64,
    },
    /// The repository has no such branch, tag or commit.
    #[error("repository `{remote}` does not contain ref {reference}")]
    NoReference {
        /// The repository, without credentials.
        remote: String,
        /// What was asked for.
        reference: String,
    },
    /// The repository has no such directory.
    #[error("`{directory}` is no directory of repository `{remote}`{reason}")]
    NoDirectory {
        /// The repository, without credentials.
        remote: String,
        /// The directory.
        directory: String,
        /// More about it, or nothing.
        reason: &'static str,
    },
    /// A file could not be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The user wants no connection to anybody.
    #[error("`{what}` is not asked, because rpub is offline")]
    Offline {
        /// The URL, without credentials and query, or the remote.
        what: String,
    },
    /// The user interrupted, or another step failed.
    #[error("canceled")]
    Canceled,
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// What was asked for makes no sense.
    User,
    /// It is not there.
    NotFound,
    /// Access was refused.
    Denied,
    /// The network or the other side failed.
    Network,
    /// Content is not what it was said to be.
    Integrity,
    /// This machine failed or lacks something.
    Local,
    /// It was stopped.
    Canceled,
    /// Nobody is asked.
    Offline,
}

impl Error {
    /// Returns which kind of failure this is. That of [`Error::Get`] is its source's to say.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Address { .. } | Self::Unpack { .. } | Self::Secret { .. } => Kind::User,
            Self::Get { .. }
            | Self::Answer { .. }
            | Self::GitTimeout { .. }
            | Self::TooLarge { .. } => Kind::Network,
            Self::Checksum { .. } => Kind::Integrity,
            Self::Git { kind, .. } => *kind,
            Self::NoReference { .. } | Self::NoDirectory { .. } => Kind::NotFound,
            Self::NoGit(_) | Self::Io(_) | Self::Store(_) => Kind::Local,
            Self::Canceled => Kind::Canceled,
            Self::Offline { .. } => Kind::Offline,
        }
    }
}
