//! Who answers there: is it a registry, how is it reached, what does it want to see.

use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::answer::Answer;
use super::challenge::{self, Challenge};
use super::connections::Security;
use super::location::redacted;
use super::{Client, Quirks, RegistryKind, Result};
use crate::image::{RegistryName, Repository, RepositoryName};

/// The header that says that a registry answers; not all send it.
const API_VERSION: &str = "docker-distribution-api-version";

/// How a connection to a registry is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TLS whose certificate is verified.
    VerifiedTls,
    /// TLS with any certificate.
    UnverifiedTls,
    /// Not at all.
    Plain,
}

/// What a registry wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing.
    Nothing,
    /// User and password.
    Basic,
    /// A token from the server at this URL.
    Token(String),
}

/// What is there to know of a registry without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// Where it answers, without its query.
    pub url: String,
    /// How it is reached.
    pub transport: Transport,
    /// The version of HTTP.
    pub http: String,
    /// What kind it is, as far as its name or its answer gives it away.
    pub kind: RegistryKind,
    /// What it wants to see.
    pub wanted: Wanted,
    /// How long one question takes on a connection that is open already.
    pub latency: Duration,
}

impl Client {
    /// Asks `registry` for the API's version, as anybody.
    ///
    /// # Errors
    ///
    /// When nobody answers, or somebody who is no registry.
    ///
    /// # Panics
    ///
    /// Never: the name of the repository that stands in is valid.
    pub async fn ping(&self, registry: &RegistryName) -> Result<Ping> {
        // The name only stands in for the repository whose registry is looked for.
        let name: RepositoryName = "ping".parse().expect("a valid name");
        let session = self.origin(&Repository { registry: registry.clone(), name });
        let (host, shared) = (&session.host, &session.shared);
        let access = host.access(shared).await?;
        let first = host.greet(shared).await?;
        let wanted = wanted(&first)?;
        let begun = Instant::now();
        let second = host.greet(shared).await?;
        let latency = begun.elapsed();
        let by_name = Quirks::of_host(&host.name);
        let quirks = match by_name.kind {
            RegistryKind::Unknown => Quirks::of_answer(second.headers()).unwrap_or(by_name),
            _ => by_name,
        };
        Ok(Ping {
            url: redacted(&second.url),
            transport: match access.security {
                Security::Verified => Transport::VerifiedTls,
                Security::Unverified => Transport::UnverifiedTls,
                Security::Plain => Transport::Plain,
            },
            http: format!("{:?}", second.response.version()),
            kind: quirks.kind,
            wanted,
            latency,
        })
    }
}

/// Returns what a registry wants to see; an error when the answer is not that of a registry
/// (OCI distribution-spec, "Determining Support").
fn wanted(answer: &Answer) -> Result<Wanted> {
    let says_registry = !answer.header(API_VERSION).is_empty();
    let is_page = answer.header(CONTENT_TYPE).starts_with("text/html");
    match (answer.status(), challenge::choose(answer.headers(), &answer.url)) {
        (StatusCode::OK, _) if says_registry || !is_page => Ok(Wanted::Nothing),
        (StatusCode::UNAUTHORIZED, Some(Challenge::Basic)) => Ok(Wanted::Basic),
        (StatusCode::UNAUTHORIZED, Some(Challenge::Bearer(bearer))) => {
            let realm = bearer.realm.split(['?', '#']).next().unwrap_or_default().to_owned();
            Ok(Wanted::Token(realm))
        }
        (StatusCode::UNAUTHORIZED, None) if says_registry => Ok(Wanted::Basic),
        _ => Err(answer.protocol("whoever answers is no registry")),
    }
}
