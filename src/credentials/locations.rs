//! Where credentials are kept.

use std::path::PathBuf;
use std::time::Duration;

use super::{RegistryToken, Secret};

/// The name among the helpers of `registries.conf` that means the files
/// (containers-registries.conf(5), "Credential helpers").
const FILES: &str = "containers-auth.json";

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
    /// The helpers that `registries.conf` wants asked before the files.
    pub early_helpers: Vec<String>,
    /// The helpers that it wants asked after them.
    pub late_helpers: Vec<String>,
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
            early_helpers: Vec::new(),
            late_helpers: Vec::new(),
            helper_timeout: Duration::from_secs(30),
        }
    }
}

impl Locations {
    /// Takes over the `credential-helpers` of `registries.conf`: those before the name that means
    /// the files are asked before these, all others after.
    pub(super) fn set_helpers(&mut self, names: &[String]) {
        let mut parts = names.splitn(2, |name| name == FILES);
        let first = parts.next().unwrap_or_default();
        let (early, late) = parts.next().map_or((&[][..], first), |rest| (first, rest));
        self.early_helpers = early.to_vec();
        self.late_helpers = late.iter().filter(|name| *name != FILES).cloned().collect();
    }

    /// Returns the file that a login is saved in.
    pub(super) fn login_file(&self) -> Option<LoginFile> {
        self.only.clone().or_else(|| self.docker_config.clone().map(LoginFile::docker))
    }
}
