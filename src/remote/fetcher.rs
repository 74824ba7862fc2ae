//! What getting things needs of the outside.

use crate::credentials::Secret;
use crate::store::Store;

use super::{Error, GitSettings, Result, Web};

/// Knows the build's secrets.
pub trait Secrets: Send + Sync {
    /// Returns the secret called `id`, or `None` when there is none. Blocks.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be read.
    fn secret(&self, id: &str) -> Result<Option<Secret>, Box<dyn std::error::Error + Send + Sync>>;
}

/// Knows no secret.
#[derive(Debug, Clone, Copy)]
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn secret(
        &self,
        _id: &str,
    ) -> Result<Option<Secret>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(None)
    }
}

/// Gets files and repositories.
#[derive(Clone, Copy)]
pub struct Fetcher<'a> {
    /// Where they are kept.
    pub store: &'a Store,
    /// The way to HTTP servers.
    pub web: &'a dyn Web,
    /// The build's secrets.
    pub secrets: &'a dyn Secrets,
    /// How `git` is run.
    pub git: &'a GitSettings,
    /// Says whether to stop.
    pub is_canceled: &'a (dyn Fn() -> bool + Sync),
    /// Whether nobody is asked: what is here counts, however old.
    pub is_offline: bool,
}

impl Fetcher<'_> {
    /// Returns a secret without the line end that files have.
    pub(super) fn secret(&self, id: &str) -> Result<Option<Secret>> {
        let secret = self
            .secrets
            .secret(id)
            .map_err(|source| Error::Secret { id: id.to_owned(), source })?;
        Ok(secret.map(|secret| {
            let text = secret.expose();
            let trimmed = text.trim_end_matches(['\n', '\r']);
            if trimmed.len() == text.len() { secret } else { Secret::new(trimmed.to_owned()) }
        }))
    }
}
