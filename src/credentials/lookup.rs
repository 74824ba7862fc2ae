//! Which credential opens a repository.

use std::path::PathBuf;
use std::time::Duration;

use super::{Result, Secret, file, helper, save};
use crate::image::{RegistryName, Repository};

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
    /// An OAuth2 refresh token, exchanged for access tokens (distribution, spec/auth/oauth.md).
    IdentityToken(Secret),
    /// A bearer token to be sent as it is.
    RegistryToken(Secret),
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

/// Where credentials are kept. Files that do not exist are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locations {
    /// The `auth.json` files of the containers tools, most important first: `$REGISTRY_AUTH_FILE`,
    /// `$XDG_RUNTIME_DIR/containers/auth.json`, `$XDG_CONFIG_HOME/containers/auth.json`.
    pub auth_files: Vec<PathBuf>,
    /// Docker's `config.json`: `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`.
    pub docker_config: Option<PathBuf>,
    /// How long a helper may take.
    pub helper_timeout: Duration,
}

impl Default for Locations {
    fn default() -> Self {
        Self {
            auth_files: Vec::new(),
            docker_config: None,
            helper_timeout: Duration::from_secs(30),
        }
    }
}

/// Where a login was saved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// In this file, unencrypted.
    File(PathBuf),
    /// With the helper `docker-credential-<name>`.
    Helper(String),
}

/// The credentials in files and helpers.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    locations: Locations,
}

impl Credentials {
    /// Returns the credentials at `locations`. Reads nothing yet.
    #[must_use]
    pub fn new(locations: Locations) -> Self {
        Self { locations }
    }

    /// Saves a login in docker's file, or with the helper that the file names for `registry`.
    ///
    /// # Errors
    ///
    /// When the file or the helper cannot be read or written.
    pub fn login(
        &self,
        registry: &RegistryName,
        username: &str,
        password: &Secret,
    ) -> Result<Saved> {
        todo!()
    }

    /// Erases the login of `registry` from docker's file and its helper; returns whether there was one.
    ///
    /// # Errors
    ///
    /// When the file or the helper cannot be read or written.
    pub fn logout(&self, registry: &RegistryName) -> Result<bool> {
        todo!()
    }
}

impl Lookup for Credentials {
    fn lookup(&self, repository: &Repository) -> Result<Option<Credential>> {
        todo!()
    }
}
