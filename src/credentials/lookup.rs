//! Which credential opens a repository.

use super::attempt::{Attempt, Failure, Outcome, Place, Source};
use super::file::ConfigFile;
use super::helper::Helper;
use super::{Credential, Keyring, Locations, Lookup, Result, Secret, save};
use crate::image::Repository;

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
        let Locations { tokens, environment, auth_files, helper_timeout, .. } = &self.locations;
        let mut earlier = Locations { tokens: tokens.clone(), ..Locations::default() };
        if self.locations.only.is_none() {
            earlier.environment.clone_from(environment);
            earlier.auth_files.clone_from(auth_files);
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
        for source in self.locations.sources() {
            let failed = |error| Failure::at(source.place(None), error);
            let Some(config) = source.read().map_err(failed)? else {
                note(Attempt { place: source.place(None), outcome: Outcome::Absent });
                continue;
            };
            let found = self.search_in(source, &config, repository, note)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
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
        for key in helper.iter().flat_map(|_| save::keys_of(registry, source.form())) {
            let name = helper.unwrap_or_default();
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
                    (None, Outcome::PassedOver(error))
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
