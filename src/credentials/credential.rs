//! What opens a registry, and who may know it.

use super::{Result, Secret};
use crate::image::{RegistryName, Repository};

/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USERNAME: &str = "<token>";

/// Something that opens a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user with a password or personal token.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// An `OAuth2` refresh token, exchanged for access tokens (distribution, spec/auth/oauth.md).
    IdentityToken(Secret),
    /// A bearer token to be sent as it is.
    RegistryToken(Secret),
}

impl Credential {
    /// Returns what a user name and a secret mean: with the name `<token>` the secret is an identity
    /// token.
    #[must_use]
    pub fn of(username: &str, secret: Secret) -> Self {
        if username == TOKEN_USERNAME {
            Self::IdentityToken(secret)
        } else {
            Self::Basic { username: username.to_owned(), password: secret }
        }
    }
}

/// Finds the credential of a repository. Blocks.
pub trait Lookup: Send + Sync {
    /// Returns the credential, or `None` for anonymous access.
    ///
    /// # Errors
    ///
    /// When a file or helper that might hold it fails; "not found" is not an error.
    fn lookup(&self, repository: &Repository) -> Result<Option<Credential>>;
}

/// Knows no credentials.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

impl Lookup for Anonymous {
    fn lookup(&self, _repository: &Repository) -> Result<Option<Credential>> {
        Ok(None)
    }
}

/// Knows one credential, for one registry.
#[derive(Debug, Clone)]
pub struct Fixed {
    /// The registry.
    pub registry: RegistryName,
    /// What opens it.
    pub credential: Credential,
}

impl Lookup for Fixed {
    fn lookup(&self, repository: &Repository) -> Result<Option<Credential>> {
        Ok((repository.registry == self.registry).then(|| self.credential.clone()))
    }
}
