//! Where credentials are kept.

use std::path::PathBuf;
use std::time::Duration;

use super::{RegistryToken, Secret};

/// Where credentials are kept. Files that do not exist are passed over, but for [`Locations::only`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locations {
    /// Tokens for registries, which come before everything else.
    pub tokens: Vec<RegistryToken>,
    /// The one file that counts, where the user named one: none of the following does then.
    pub only: Option<LoginFile>,
    /// The value of `DOCKER_AUTH_CONFIG`: the JSON of a `config.json`, of which `auths` counts.
    pub environment: Option<Secret>,
    /// The `auth.json` files of the containers tools, most important first: `$REGISTRY_AUTH_FILE`,
    /// `$XDG_RUNTIME_DIR/containers/auth.json`, `$XDG_CONFIG_HOME/containers/auth.json`.
    pub auth_files: Vec<PathBuf>,
    /// Docker's `config.json`: `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`.
    pub docker_config: Option<PathBuf>,
    /// What docker had before: `~/.dockercfg`.
    pub legacy_docker_config: Option<PathBuf>,
    /// How long a helper may take.
    pub helper_timeout: Duration,
}

/// A file that logins are saved in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginFile {
    /// The file.
    pub path: PathBuf,
    /// Whose it is.
    pub form: Form,
}

/// Whose file it is; they differ in the key of Docker's own registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Docker's `config.json`.
    Docker,
    /// The containers tools' `auth.json`.
    Containers,
}

impl LoginFile {
    /// Returns docker's `config.json` at `path`.
    #[must_use]
    pub fn docker(path: PathBuf) -> Self {
        Self { path, form: Form::Docker }
    }

    /// Returns an `auth.json` at `path`.
    #[must_use]
    pub fn containers(path: PathBuf) -> Self {
        Self { path, form: Form::Containers }
    }
}

impl Default for Locations {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            only: None,
            environment: None,
            auth_files: Vec::new(),
            docker_config: None,
            legacy_docker_config: None,
            helper_timeout: Duration::from_secs(30),
        }
    }
}

impl Locations {
    /// Returns the file that a login is saved in.
    pub(super) fn login_file(&self) -> Option<LoginFile> {
        self.only.clone().or_else(|| self.docker_config.clone().map(LoginFile::docker))
    }
}
