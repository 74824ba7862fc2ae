//! Which credential opens a repository.

use std::sync::Arc;

use super::attempt::{Attempt, Failure, Outcome, Place, Source, Step};
use super::file::ConfigFile;
use super::helper::Helper;
use super::{Credential, Error, Form, Keyring, Locations, Lookup, Result, Secret, save};
use crate::image::{RegistryName, Repository};

/// The credentials in files, helpers and keyrings.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    pub(super) locations: Locations,
}

/// Who is told of each place that is asked.
type Note<'a> = dyn FnMut(Attempt) + 'a;

impl Credentials {
    /// Returns the credentials at `locations`. Reads nothing yet.
    #[must_use]
    pub fn new(locations: Locations) -> Self {
        Self { locations }
    }

    /// Takes over the `credential-helpers` of `registries.conf`, in their order; the name
    /// `containers-auth.json` among them means the files. Without that name, the files come first.
    #[must_use]
    pub fn with_helpers(mut self, names: &[String]) -> Self {
        self.locations.set_helpers(names);
        self
    }

    /// Returns the headers that docker's file wants sent to registries, `HttpHeaders`. Values may be
    /// secrets.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn http_headers(&self) -> Result<Vec<(String, Secret)>> {
        let Some(path) = &self.locations.docker_config else { return Ok(Vec::new()) };
        Ok(ConfigFile::read(path)?.http_headers())
    }

    /// Returns every place that a lookup for `repository` asks, in order, and what it said; the last
    /// one has the credential, or failed. No secret is in it.
    #[must_use]
    pub fn explain(&self, repository: &Repository) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        if let Err(failure) = self.search(repository, &mut |attempt| attempts.push(attempt)) {
            let Failure { place, error } = *failure;
            attempts.push(Attempt { place, outcome: Outcome::Failed(error) });
        }
        attempts
    }

    /// Returns what the places say that come before the one where logins are saved.
    #[must_use]
    pub fn explain_earlier(&self, repository: &Repository) -> Vec<Attempt> {
        let Locations { tokens, environment, auth_files, early_helpers, helper_timeout, .. } =
            &self.locations;
        let mut earlier = Locations { tokens: tokens.clone(), ..Locations::default() };
        if self.locations.only.is_none() {
            earlier.environment.clone_from(environment);
            earlier.auth_files.clone_from(auth_files);
            earlier.early_helpers.clone_from(early_helpers);
            earlier.helper_timeout = *helper_timeout;
        }
        Self::new(earlier).explain(repository)
    }

    pub(super) fn helper(&self, name: &str) -> Helper {
        Helper::new(name, self.locations.helper_timeout)
    }

    /// Asks place after place until one has the credential; tells `note` of each.
    fn search(
        &self,
        repository: &Repository,
        note: &mut Note<'_>,
    ) -> Result<Option<Credential>, Box<Failure>> {
        let mut tokens = self.locations.tokens.iter();
        if let Some(token) = tokens.find(|token| token.registry == repository.registry) {
            let failed = |error| Failure::at(token.place(), error);
            let found = Some(Credential::RegistryToken(token.read().map_err(failed)?));
            note(Attempt { place: token.place(), outcome: Outcome::of(found.as_ref()) });
            return Ok(found);
        }
        let registry = &repository.registry;
        let mut passed_over = None;
        for step in self.locations.steps() {
            let found = match step {
                Step::Read(source) => self.search_at(source, repository, note)?,
                Step::Ask(name) => match self.ask(name, registry, Form::Containers, note) {
                    Ok(found) => found,
                    Err(failure) => {
                        let Failure { place, error } = *failure;
                        let error = Arc::new(error);
                        tracing::debug!(%error, "helper passed over");
                        let outcome = Outcome::PassedOver(Arc::clone(&error));
                        note(Attempt { place: place.clone(), outcome });
                        passed_over.get_or_insert((place, error));
                        None
                    }
                },
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        // Who has a login in that helper would else be taken for nobody.
        passed_over
            .map_or(Ok(None), |(place, error)| Err(Failure::at(place, Error::PassedOver(error))))
    }

    /// Asks a helper by the keys that it may know the registry by.
    fn ask(
        &self,
        name: &str,
        registry: &RegistryName,
        form: Form,
        note: &mut Note<'_>,
    ) -> Result<Option<Credential>, Box<Failure>> {
        for key in save::keys_of(registry, form) {
            let place = Place::Helper { name: name.to_owned(), key: key.to_owned() };
            let found = match self.helper(name).find(key) {
                Ok(found) => found,
                Err(error) => return Err(Failure::at(place, error)),
            };
            note(Attempt { place, outcome: Outcome::of(found.as_ref()) });
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Reads a configuration and asks it, if it is there.
    fn search_at(
        &self,
        source: Source<'_>,
        repository: &Repository,
        note: &mut Note<'_>,
    ) -> Result<Option<Credential>, Box<Failure>> {
        let failed = |error| Failure::at(source.place(None), error);
        let Some(config) = source.read().map_err(failed)? else {
            note(Attempt { place: source.place(None), outcome: Outcome::Absent });
            return Ok(None);
        };
        self.search_in(source, &config, repository, note)
    }

    /// Asks one configuration: its helper, its own entries, and the keyrings where an empty entry
    /// stands for them. Who has no such entry pays nothing for keyrings.
    fn search_in(
        &self,
        source: Source<'_>,
        config: &ConfigFile,
        repository: &Repository,
        note: &mut Note<'_>,
    ) -> Result<Option<Credential>, Box<Failure>> {
        let registry = &repository.registry;
        let helper = config.helper(registry);
        if let Some(name) = helper {
            let found = self.ask(name, registry, source.form(), note)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let failed = |error| Failure::at(source.place(None), error);
        let found = config.credential(source.path(), repository).map_err(failed)?;
        let (key, found) = found.unzip();
        note(Attempt { place: source.place(key), outcome: Outcome::of(found.as_ref()) });
        if found.is_some() || helper.is_some() || !config.has_marker(registry) {
            return Ok(found);
        }
        for keyring in Keyring::ALL {
            let (found, outcome) = match keyring.find(registry) {
                Ok(found) => (found.clone(), Outcome::of(found.as_ref())),
                Err(error) => {
                    tracing::debug!(%error, "keyring passed over");
                    (None, Outcome::PassedOver(Arc::new(error)))
                }
            };
            note(Attempt { place: Place::Keyring(keyring), outcome });
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

impl Lookup for Credentials {
    fn lookup(&self, repository: &Repository) -> Result<Option<Credential>> {
        self.search(repository, &mut |_| {}).map_err(|failure| failure.error)
    }
}
