//! What can go wrong between rpub and a registry.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode};
use jiff::Timestamp;
use thiserror::Error;

use super::HostsError;
use super::hosts::DOCKER_HUB_HOST;
use super::limits::{self, RateLimit};
use crate::blob::Mismatch;
use crate::image::{self, DEFAULT_REGISTRY, RegistryName};
use crate::{credentials, image::Digest};

/// What kind of failure an [`Error`](enum@Error) is; decides exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The settings given are wrong.
    Settings,
    /// The registry wants other credentials, or forbids it.
    Denied,
    /// There is no such repository, manifest or blob.
    NotFound,
    /// The registry asks to come back later than rpub waits.
    RateLimited,
    /// The registry could not be reached, or failed.
    Network,
    /// Content does not match its digest.
    Integrity,
    /// The registry answered something that the protocol does not allow.
    Protocol,
    /// Local content could not be read.
    Local,
}

/// Errors of talking to a registry. No message holds a secret or the query of a URL.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry answered with an error status.
    #[error(transparent)]
    Status(Box<StatusError>),
    /// No answer came, or it broke off.
    #[error("{method} {url}: no complete answer")]
    Transport {
        /// The method.
        method: Method,
        /// The redacted URL.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The registry did nothing for too long.
    #[error("{method} {url}: nothing happened for {after:?}")]
    Stalled {
        /// The method.
        method: Method,
        /// The redacted URL.
        url: String,
        /// For how long.
        after: Duration,
    },
    /// The answer came too slowly to be waited for.
    #[error("{method} {url}: the answer is not complete after {} seconds", after.as_secs_f64())]
    Slow {
        /// The method.
        method: Method,
        /// The redacted URL.
        url: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The answer breaks the protocol.
    #[error("{method} {url}: {reason}")]
    Protocol {
        /// The method.
        method: Method,
        /// The redacted URL.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A redirect or upload location that must not be followed.
    #[error("{url} sends the request to {target}: {reason}")]
    Redirect {
        /// Who sends, redacted.
        url: String,
        /// Where to, redacted.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// The token server refused to give a token.
    #[error("no access token for `{registry}`")]
    Token {
        /// The registry.
        registry: RegistryName,
        /// The answer.
        #[source]
        source: Box<Error>,
    },
    /// Credentials could not be looked up.
    #[error("failed to look up credentials for `{registry}`")]
    Credentials {
        /// The registry.
        registry: RegistryName,
        /// Why.
        #[source]
        source: credentials::Error,
    },
    /// A blob is not what its descriptor says.
    #[error("{url}: content cannot be trusted")]
    Mismatch {
        /// The redacted URL.
        url: String,
        /// How it differs.
        #[source]
        source: Mismatch,
    },
    /// A manifest has another digest than the one asked for or pushed.
    #[error("{url}: manifest does not match its digest: expected {expected}, got {actual}")]
    ManifestDigest {
        /// The redacted URL.
        url: String,
        /// What was asked for or pushed.
        expected: Digest,
        /// What the registry has.
        actual: Digest,
    },
    /// The registry said that it took a manifest, and does not have it.
    #[error("{url}: the registry said that it took the manifest, but does not have it")]
    NotKept {
        /// The redacted URL.
        url: String,
        /// What it said when it was asked for it.
        #[source]
        source: Box<Error>,
    },
    /// A manifest cannot be read.
    #[error("{url}: unusable manifest")]
    Manifest {
        /// The redacted URL.
        url: String,
        /// Why.
        #[source]
        source: image::Error,
    },
    /// A body is larger than rpub reads.
    #[error("{url}: the body is larger than {limit} bytes")]
    TooLarge {
        /// The redacted URL.
        url: String,
        /// The most that is read.
        limit: u64,
    },
    /// The bytes to upload could not be read.
    #[error("failed to read blob {digest} for its upload")]
    Source {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A manifest is there, or gone, but the list of its subject's referrers does not say so.
    #[error("the list of what refers to {subject} could not be brought up to date")]
    Referrers {
        /// The subject.
        subject: Digest,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// Others changed the list of a manifest's referrers at the same time, again and again.
    #[error("the list of what refers to {subject} is being changed by too many others at once")]
    Raced {
        /// The subject.
        subject: Digest,
    },
    /// A growing blob was given up by whoever writes it.
    #[error("the blob was given up while it was sent")]
    Abandoned,
    /// The settings about the registry keep rpub from asking it.
    #[error(transparent)]
    Hosts(HostsError),
    /// The user wants no connection to anybody.
    #[error("{url} is not asked, because rpub is offline")]
    Offline {
        /// The redacted URL.
        url: String,
    },
    /// A client certificate cannot be used.
    #[error("failed to read the client certificate from `{path}`")]
    ClientCertificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file with certificates of authorities cannot be used.
    #[error("failed to read certificates from `{path}`")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The HTTP client could not be set up, as when the machine has no certificates at all.
    #[error("failed to set up TLS")]
    Tls(#[source] reqwest::Error),
}

impl Error {
    /// Returns which kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Status(error) => error.kind(),
            Self::Transport { .. }
            | Self::Stalled { .. }
            | Self::Slow { .. }
            | Self::Raced { .. } => Kind::Network,
            Self::Protocol { .. }
            | Self::Redirect { .. }
            | Self::TooLarge { .. }
            | Self::NotKept { .. }
            | Self::Manifest { .. } => Kind::Protocol,
            Self::Token { source, .. } | Self::Referrers { source, .. } => source.kind(),
            Self::Credentials { .. } => Kind::Denied,
            Self::Mismatch { .. } | Self::ManifestDigest { .. } => Kind::Integrity,
            Self::Source { .. } | Self::Abandoned => Kind::Local,
            Self::Hosts(_)
            | Self::Offline { .. }
            | Self::ClientCertificate { .. }
            | Self::CaFile { .. }
            | Self::Tls(_) => Kind::Settings,
        }
    }

    /// Returns the answer that refuses for a limit, when that is what this is.
    #[must_use]
    pub fn limited(&self) -> Option<&StatusError> {
        match self {
            Self::Status(error) => (error.limit != Limit::None).then_some(&**error),
            Self::Token { source, .. } => source.limited(),
            _ => None,
        }
    }

    /// Returns the status that the registry answered with, when it did.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status(error) => Some(error.status),
            Self::Token { source, .. } | Self::Referrers { source, .. } => source.status(),
            _ => None,
        }
    }
}

/// An answer with an error status (OCI distribution-spec, "Error Codes").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusError {
    /// The method.
    pub method: Method,
    /// The redacted URL.
    pub url: String,
    /// The status.
    pub status: StatusCode,
    /// Code and message pairs of the body; the codes in the registry's spelling.
    pub errors: Vec<(String, String)>,
    /// The registry's name for the request.
    pub request_id: Option<String>,
    /// Whether it is about how much the registry gives, or how often.
    pub limit: Limit,
    /// How long the registry asks to wait.
    pub retry_after: Option<Duration>,
    /// When the answer came.
    pub answered: Timestamp,
}

/// Whether an answer with an error status is about a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// It is not.
    None,
    /// Too much at once: it passes.
    Rate,
    /// What there is for a window of time is used up: trying again is of no use within it.
    Quota,
}

impl Limit {
    /// Returns what an answer with `status` is. `has_headers` tells whether its headers are those
    /// of a limit, `quota` what they say.
    ///
    /// Docker Hub calls its quota a "pull rate limit", GitHub refuses by 403 when it means 429.
    pub(super) fn of(
        status: StatusCode,
        errors: &[(String, String)],
        has_headers: bool,
        quota: Option<RateLimit>,
    ) -> Self {
        let says = |words: fn(&str) -> bool| errors.iter().any(|(_, message)| words(message));
        let is_limit = status == StatusCode::TOO_MANY_REQUESTS
            || errors.iter().any(|(code, _)| code.eq_ignore_ascii_case("TOOMANYREQUESTS"))
            || status == StatusCode::FORBIDDEN && (has_headers || says(limits::speaks_of_limit));
        let is_used_up = quota.is_some_and(|quota| quota.remaining == 0)
            || says(|message| message.to_lowercase().contains("pull rate limit"));
        match (is_limit, is_used_up) {
            (false, _) => Self::None,
            (true, false) => Self::Rate,
            (true, true) => Self::Quota,
        }
    }
}

impl StatusError {
    /// Returns whether the body names the error `code`.
    #[must_use]
    pub fn has_code(&self, code: &str) -> bool {
        self.errors.iter().any(|(have, _)| have.eq_ignore_ascii_case(code))
    }

    /// Returns whether the registry says that a tag must stay what it is: a status of its own (ECR
    /// 400, Harbor 412, GitLab 403, ACR 409), and some words.
    #[must_use]
    pub fn is_immutable_tag(&self) -> bool {
        let says = |text: &str| {
            let text = text.to_ascii_lowercase();
            ["immutable", "cannot be overwritten", "tag already exists", "overwrite tag"]
                .iter()
                .any(|words| text.contains(words))
        };
        self.method == Method::PUT
            && self.status.is_client_error()
            && self.errors.iter().any(|(_, message)| says(message))
    }

    /// Returns the name of the registry that answered.
    #[must_use]
    pub fn registry(&self) -> &str {
        match self.url.split('/').nth(2).unwrap_or_default() {
            DOCKER_HUB_HOST => DEFAULT_REGISTRY,
            host => host,
        }
    }

    fn kind(&self) -> Kind {
        match self.status.as_u16() {
            _ if self.limit != Limit::None => Kind::RateLimited,
            401 | 403 => Kind::Denied,
            404 => Kind::NotFound,
            408 | 500..=599 => Kind::Network,
            _ => Kind::Protocol,
        }
    }
}

impl std::error::Error for StatusError {}

impl fmt::Display for StatusError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.method, self.url, self.status)?;
        for (at, (code, message)) in self.errors.iter().enumerate() {
            formatter.write_str(if at == 0 { " (" } else { "; " })?;
            match (code.is_empty(), message.is_empty()) {
                (false, false) => write!(formatter, "{code}: {message}")?,
                _ => write!(formatter, "{code}{message}")?,
            }
        }
        if !self.errors.is_empty() {
            formatter.write_str(")")?;
        }
        if let Some(id) = &self.request_id {
            write!(formatter, " [request {id}]")?;
        }
        match self.retry_after.filter(|_| self.limit != Limit::None) {
            Some(wait) => write!(formatter, "; it lifts {}", limits::lifts(wait, self.answered)),
            None => Ok(()),
        }
    }
}
