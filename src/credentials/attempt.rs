//! The places where a credential is looked for, and what each said.

use std::fmt;
use std::path::{Path, PathBuf};

use super::file::ConfigFile;
use super::{Credential, Error, Locations, Result, Secret};

/// A place where a credential was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The variable `DOCKER_AUTH_CONFIG`, under this key when it has one.
    Environment(Option<String>),
    /// A file, under this key when it has one.
    File(PathBuf, Option<String>),
    /// The helper `docker-credential-<name>`, asked for this key.
    Helper {
        /// The helper's name.
        name: String,
        /// The key.
        key: String,
    },
}

/// What a place said. Never a secret.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// There is no such file.
    Absent,
    /// It has nothing for the repository.
    NoEntry,
    /// It has a password of this user.
    Password(String),
    /// It has an identity token.
    IdentityToken,
    /// It has a token for the registry.
    RegistryToken,
    /// It could not be asked; the lookup ends with this error.
    Failed(Error),
}

/// One place and what it said.
#[derive(Debug)]
pub struct Attempt {
    /// The place.
    pub place: Place,
    /// What it said.
    pub outcome: Outcome,
}

/// A place that could not be asked.
pub(super) struct Failure {
    pub(super) place: Place,
    pub(super) error: Error,
}

/// A place that holds a configuration.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    Environment(&'a Secret),
    File(&'a Path),
    Legacy(&'a Path),
}

impl Locations {
    /// Returns where to look, the most important first.
    pub(super) fn sources(&self) -> Vec<Source<'_>> {
        let mut sources = Vec::new();
        sources.extend(self.environment.as_ref().map(Source::Environment));
        sources.extend(self.auth_files.iter().map(|path| Source::File(path)));
        sources.extend(self.docker_config.as_deref().map(Source::File));
        sources.extend(self.legacy_docker_config.as_deref().map(Source::Legacy));
        sources
    }
}

impl<'a> Source<'a> {
    /// Reads the configuration; `None` when there is no such file.
    pub(super) fn read(self) -> Result<Option<ConfigFile>> {
        match self {
            Self::Environment(text) => ConfigFile::of_environment(text.expose()).map(Some),
            Self::File(path) | Self::Legacy(path) if !path.exists() => Ok(None),
            Self::File(path) => ConfigFile::read(path).map(Some),
            Self::Legacy(path) => ConfigFile::read_legacy(path).map(Some),
        }
    }

    /// Returns what errors call the configuration.
    pub(super) fn path(self) -> &'a Path {
        match self {
            Self::Environment(_) => Path::new("DOCKER_AUTH_CONFIG"),
            Self::File(path) | Self::Legacy(path) => path,
        }
    }

    pub(super) fn place(self, key: Option<String>) -> Place {
        match self {
            Self::Environment(_) => Place::Environment(key),
            Self::File(path) | Self::Legacy(path) => Place::File(path.to_owned(), key),
        }
    }
}

impl Outcome {
    pub(super) fn of(found: Option<&Credential>) -> Self {
        match found {
            None => Self::NoEntry,
            Some(Credential::Basic { username, .. }) => Self::Password(username.clone()),
            Some(Credential::IdentityToken(_)) => Self::IdentityToken,
            Some(Credential::RegistryToken(_)) => Self::RegistryToken,
        }
    }

    /// Returns whether the credential is there.
    #[must_use]
    pub fn is_found(&self) -> bool {
        match self {
            Self::Absent | Self::NoEntry | Self::Failed(_) => false,
            Self::Password(_) | Self::IdentityToken | Self::RegistryToken => true,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, key) = match self {
            Self::Environment(key) => ("DOCKER_AUTH_CONFIG".to_owned(), key.as_ref()),
            Self::File(path, key) => (path.display().to_string(), key.as_ref()),
            Self::Helper { name, key } => (format!("docker-credential-{name}"), Some(key)),
        };
        match key {
            Some(key) => write!(f, "{name}, `{key}`"),
            None => f.write_str(&name),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("no such file"),
            Self::NoEntry => f.write_str("no entry"),
            Self::Password(user) => write!(f, "user `{user}`"),
            Self::IdentityToken => f.write_str("an identity token"),
            Self::RegistryToken => f.write_str("a registry token"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}
