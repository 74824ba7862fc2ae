//! The places where a credential is looked for, and what each said.

use std::error::Error as _;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::ConfigFile;
use super::{Credential, Error, Form, Keyring, Locations, Result, Secret};

/// A place where a credential was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// This variable of the environment, which holds a token.
    Variable(String),
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
    /// A keyring, which a file's empty entry stands for.
    Keyring(Keyring),
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
    /// It could not be asked, and was passed over.
    PassedOver(Arc<Error>),
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

impl Failure {
    pub(super) fn at(place: Place, error: Error) -> Box<Self> {
        Box::new(Self { place, error })
    }
}

/// A place that holds a configuration.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    Environment(&'a Secret),
    File(&'a Path, Form),
    Legacy(&'a Path),
    /// A file that the user named, which is there.
    Named(&'a Path, Form),
}

/// What a lookup does next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    /// Reads a configuration.
    Read(Source<'a>),
    /// Asks a helper that `registries.conf` names.
    Ask(&'a str),
}

impl Locations {
    /// Returns where to look, the most important first.
    pub(super) fn steps(&self) -> Vec<Step<'_>> {
        if let Some(file) = &self.only {
            return vec![Step::Read(Source::Named(&file.path, file.form))];
        }
        let containers = self.auth_files.iter().map(|path| Source::File(path, Form::Containers));
        let docker = self.docker_config.iter().map(|path| Source::File(path, Form::Docker));
        let legacy = self.legacy_docker_config.as_deref().map(Source::Legacy);
        let files = containers.chain(docker).chain(legacy);
        let mut steps = Vec::new();
        steps.extend(self.environment.as_ref().map(Source::Environment).map(Step::Read));
        steps.extend(self.early_helpers.iter().map(|name| Step::Ask(name)));
        steps.extend(files.map(Step::Read));
        steps.extend(self.late_helpers.iter().map(|name| Step::Ask(name)));
        steps
    }
}

impl<'a> Source<'a> {
    /// Reads the configuration; `None` when there is no such file.
    pub(super) fn read(self) -> Result<Option<ConfigFile>> {
        match self {
            Self::Environment(text) => ConfigFile::of_environment(text.expose()).map(Some),
            Self::File(path, _) | Self::Legacy(path) if !path.exists() => Ok(None),
            Self::Named(path, _) if !path.exists() => {
                let source = std::io::Error::from(std::io::ErrorKind::NotFound);
                Err(Error::File { action: "read", path: path.to_owned(), source })
            }
            Self::File(path, _) | Self::Named(path, _) => ConfigFile::read(path).map(Some),
            Self::Legacy(path) => ConfigFile::read_legacy(path).map(Some),
        }
    }

    /// Returns whose keys it has.
    pub(super) fn form(self) -> Form {
        match self {
            Self::File(_, form) | Self::Named(_, form) => form,
            Self::Environment(_) | Self::Legacy(_) => Form::Docker,
        }
    }

    /// Returns what errors call the configuration.
    pub(super) fn path(self) -> &'a Path {
        match self {
            Self::Environment(_) => Path::new("DOCKER_AUTH_CONFIG"),
            Self::File(path, _) | Self::Named(path, _) | Self::Legacy(path) => path,
        }
    }

    pub(super) fn place(self, key: Option<String>) -> Place {
        match self {
            Self::Environment(_) => Place::Environment(key),
            Self::File(..) | Self::Named(..) | Self::Legacy(_) => {
                Place::File(self.path().to_owned(), key)
            }
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
            Self::Absent | Self::NoEntry | Self::PassedOver(_) | Self::Failed(_) => false,
            Self::Password(_) | Self::IdentityToken | Self::RegistryToken => true,
        }
    }
}

impl Place {
    /// Returns what it is called, and the key that it was asked for.
    #[must_use]
    pub fn parts(&self) -> (String, Option<&str>) {
        match self {
            Self::Variable(name) => (name.clone(), None),
            Self::Environment(key) => ("DOCKER_AUTH_CONFIG".to_owned(), key.as_deref()),
            Self::File(path, key) => (path.display().to_string(), key.as_deref()),
            Self::Helper { name, key } => (format!("docker-credential-{name}"), Some(key)),
            Self::Keyring(keyring) => (keyring.to_string(), None),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (name, Some(key)) => write!(f, "{name}, `{key}`"),
            (name, None) => f.write_str(&name),
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
            Self::PassedOver(error) => with_cause(error, f),
            Self::Failed(error) => with_cause(error, f),
        }
    }
}

/// Writes an error, and what it comes from.
fn with_cause(error: &Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{error}")?;
    error.source().map_or(Ok(()), |source| write!(f, ": {source}"))
}
