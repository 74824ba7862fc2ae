//! Where a repository is really to be found: `registries.conf`.

use super::Result;
use crate::image::{RegistryName, Repository};

/// The registries that settings say something about (containers-registries.conf(5), version 2).
#[derive(Debug, Clone, Default)]
pub struct Hosts {}

/// One place to ask for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The repository there, under the name that it has there.
    pub repository: Repository,
    /// Whether unverified TLS and plain HTTP are allowed.
    pub insecure: bool,
}

impl Hosts {
    /// Parses the text of a `registries.conf`.
    ///
    /// # Errors
    ///
    /// When it is not TOML of that form, or names an impossible registry.
    pub fn parse(text: &str) -> Result<Self> {
        todo!()
    }

    /// Allows unverified TLS and plain HTTP for `registry`.
    pub fn allow_insecure(&mut self, registry: RegistryName) {
        todo!()
    }

    /// Returns where to pull from, mirrors first.
    #[must_use]
    pub fn for_pull(&self, repository: &Repository) -> Vec<Endpoint> {
        todo!()
    }

    /// Returns where to push to.
    #[must_use]
    pub fn for_push(&self, repository: &Repository) -> Endpoint {
        todo!()
    }
}
