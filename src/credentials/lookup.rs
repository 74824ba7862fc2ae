//! Which credential opens a repository.

use std::path::PathBuf;
use std::time::Duration;

use super::attempt::{Attempt, Failure, Outcome, Place};
use super::file::ConfigFile;
use super::helper::Helper;
use super::{Error, Result, Secret, save};
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
    /// An `OAuth2` refresh token, exchanged for access tokens (distribution, spec/auth/oauth.md).
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

impl Default for Locations {
    fn default() -> Self {
        Self {
            environment: None,
            auth_files: Vec::new(),
            docker_config: None,
            legacy_docker_config: None,
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
        let path = self.locations.docker_config.as_deref().ok_or(Error::NoFile)?;
        let mut config = ConfigFile::read(path)?;
        let helper = config.helper(registry).map(str::to_owned);
        if let Some(name) = helper {
            self.helper(&name).store(save::key_of(registry), username, password)?;
            save::set(&mut config, registry, None);
            save::write(path, &config)?;
            return Ok(Saved::Helper(name));
        }
        save::set(&mut config, registry, Some((username, password)));
        save::write(path, &config)?;
        Ok(Saved::File(path.to_owned()))
    }

    /// Erases the login of `registry` from docker's file and its helper; returns whether there was one.
    ///
    /// # Errors
    ///
    /// When the file or the helper cannot be read or written.
    pub fn logout(&self, registry: &RegistryName) -> Result<bool> {
        let path = self.locations.docker_config.as_deref().ok_or(Error::NoFile)?;
        let mut config = ConfigFile::read(path)?;
        let in_helper = match config.helper(registry) {
            // Helpers do not agree on whether erasing the unknown is an error, so ask first.
            Some(name) => {
                let (helper, key) = (self.helper(name), save::key_of(registry));
                helper.find(key)?.is_some() && helper.erase(key)?
            }
            None => false,
        };
        let in_file = save::remove(&mut config, registry);
        if in_file {
            save::write(path, &config)?;
        }
        Ok(in_helper || in_file)
    }

    /// Erases every login from docker's file and from the helpers that it names; returns the keys
    /// that there were, without repeats.
    ///
    /// # Errors
    ///
    /// When the file or a helper cannot be read or written.
    pub fn logout_all(&self) -> Result<Vec<String>> {
        let path = self.locations.docker_config.as_deref().ok_or(Error::NoFile)?;
        let mut config = ConfigFile::read(path)?;
        let mut keys = save::remove_all(&mut config);
        for (name, own_key) in config.helpers() {
            let helper = self.helper(name);
            let known = match own_key {
                Some(key) => vec![key.to_owned()],
                // The helper for all knows what the file only marks, and perhaps more.
                None => keys.clone(),
            };
            for key in known {
                if helper.find(&key)?.is_some() && helper.erase(&key)? && !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        if !keys.is_empty() {
            save::write(path, &config)?;
        }
        Ok(keys)
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
            let Failure { place, error } = failure;
            attempts.push(Attempt { place, outcome: Outcome::Failed(error) });
        }
        attempts
    }

    fn helper(&self, name: &str) -> Helper {
        Helper::new(name, self.locations.helper_timeout)
    }

    /// Asks place after place until one has the credential; tells `note` of each.
    fn search(
        &self,
        repository: &Repository,
        note: &mut dyn FnMut(Attempt),
    ) -> Result<Option<Credential>, Failure> {
        for source in self.locations.sources() {
            let failed = |error| Failure { place: source.place(None), error };
            let Some(config) = source.read().map_err(failed)? else {
                note(Attempt { place: source.place(None), outcome: Outcome::Absent });
                continue;
            };
            if let Some(name) = config.helper(&repository.registry) {
                let key = save::key_of(&repository.registry).to_owned();
                let place = Place::Helper { name: name.to_owned(), key: key.clone() };
                let found = match self.helper(name).find(&key) {
                    Ok(found) => found,
                    Err(error) => return Err(Failure { place, error }),
                };
                note(Attempt { place, outcome: Outcome::of(found.as_ref()) });
                if found.is_some() {
                    return Ok(found);
                }
            }
            let found = config.credential(source.path(), repository).map_err(failed)?;
            let (key, found) = found.unzip();
            note(Attempt { place: source.place(key), outcome: Outcome::of(found.as_ref()) });
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;
    use std::time::Instant;

    use super::*;
    use crate::image::Reference;

    fn at(path: &Path) -> Credentials {
        Credentials::new(Locations {
            docker_config: Some(path.to_owned()),
            helper_timeout: Duration::from_millis(500),
            ..Locations::default()
        })
    }

    fn repository(text: &str) -> Repository {
        text.parse::<Reference>().unwrap().repository
    }

    #[test]
    fn login_keeps_unknown_keys_follows_links_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real.json");
        let link = directory.path().join("config.json");
        fs_err::write(&real, r#"{"psFormat":"x","auths":{"docker.io":{"auth":"YTpi"}}}"#).unwrap();
        symlink("real.json", &link).unwrap();
        let registry: RegistryName = "docker.io".parse().unwrap();
        let secret = Secret::new("p:w".to_owned());
        let saved = at(&link).login(&registry, "user", &secret).unwrap();
        assert_eq!(saved, Saved::File(link.clone()));
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(real.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs_err::read_to_string(&real).unwrap();
        assert!(text.contains("psFormat") && !text.contains("\"docker.io\""), "{text}");
        let expected = Credential::Basic { username: "user".to_owned(), password: secret };
        assert_eq!(at(&link).lookup(&repository("alpine")).unwrap(), Some(expected));
        assert!(at(&link).logout(&registry).unwrap());
        assert!(!at(&link).logout(&registry).unwrap());
        assert_eq!(at(&link).lookup(&repository("alpine")).unwrap(), None);
        assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn login_makes_the_directory_and_a_broken_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/config.json");
        let registry: RegistryName = "localhost:5000".parse().unwrap();
        at(&path).login(&registry, "u", &Secret::new("p".to_owned())).unwrap();
        assert!(at(&path).lookup(&repository("localhost:5000/x")).unwrap().is_some());
        fs_err::write(&path, "{").unwrap();
        assert!(matches!(at(&path).lookup(&repository("x")), Err(Error::Json { .. })));
        assert!(at(&path).login(&registry, "u", &Secret::new("p".to_owned())).is_err());
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "{");
    }

    /// The program is named by its path, because tests cannot change the search path.
    fn run_helper(script: &str) -> Result<Option<Credential>> {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("docker-credential-test");
        fs_err::write(&program, format!("{script}\n")).unwrap();
        Helper::script(&program, Duration::from_secs(2)).find("r.example")
    }

    #[test]
    fn helpers_answer_refuse_and_hang() {
        let good =
            r#"read key; echo "{\"ServerURL\":\"$key\",\"Username\":\"u\",\"Secret\":\"p\"}""#;
        let password = Secret::new("p".to_owned());
        let expected = Credential::Basic { username: "u".to_owned(), password };
        assert_eq!(run_helper(good).unwrap(), Some(expected));
        let token = r#"echo '{"Username":"<token>","Secret":"t"}'"#;
        assert!(matches!(run_helper(token).unwrap(), Some(Credential::IdentityToken(_))));
        let missing = "echo 'credentials not found in native keychain'; exit 1";
        assert_eq!(run_helper(missing).unwrap(), None);
        let broken = run_helper("echo 'no keyring'; exit 1").unwrap_err();
        assert!(broken.to_string().ends_with("failed to get: no keyring"), "{broken}");
        let begun = Instant::now();
        assert!(matches!(run_helper("sleep 20"), Err(Error::HelperTimeout { .. })));
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn places_are_asked_in_order_and_the_first_wins() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs_err::write(path("auth.json"), r#"{"auths":{"r.example/team":{"auth":"YTpi"}}}"#)
            .unwrap();
        fs_err::write(path("config.json"), r#"{"auths":{"r.example":{"identitytoken":"t"}}}"#)
            .unwrap();
        fs_err::write(path("dockercfg"), r#"{"old.example":{"auth":"bzpw"}}"#).unwrap();
        let environment = r#"{"auths":{"env.example":{"auth":"ZTpw"}},"credsStore":"ignored"}"#;
        let credentials = Credentials::new(Locations {
            environment: Some(Secret::new(environment.to_owned())),
            auth_files: vec![path("absent.json"), path("auth.json")],
            docker_config: Some(path("config.json")),
            legacy_docker_config: Some(path("dockercfg")),
            ..Locations::default()
        });
        let user = |name: &str| match credentials.lookup(&repository(name)).unwrap() {
            Some(Credential::Basic { username, .. }) => username,
            other => format!("{other:?}"),
        };
        assert_eq!(user("env.example/x"), "e");
        assert_eq!(user("r.example/team/app"), "a");
        assert_eq!(user("r.example/other"), "Some(IdentityToken(****))");
        assert_eq!(user("old.example/x"), "o");
        assert_eq!(user("else.example/x"), "None");
        let attempts = credentials.explain(&repository("r.example/team/app"));
        let told: Vec<String> = attempts
            .iter()
            .map(|Attempt { place, outcome }| format!("{place}: {outcome}"))
            .collect();
        let root = directory.path().display();
        let expected = [
            "DOCKER_AUTH_CONFIG: no entry".to_owned(),
            format!("{root}/absent.json: no such file"),
            format!("{root}/auth.json, `r.example/team`: user `a`"),
        ];
        assert_eq!(told, expected);
        fs_err::write(path("auth.json"), "{").unwrap();
        let attempts = credentials.explain(&repository("r.example/team/app"));
        assert!(matches!(attempts.last().unwrap().outcome, Outcome::Failed(Error::Json { .. })));
    }

    #[test]
    fn logging_out_of_all_leaves_the_other_settings() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        fs_err::write(
            &path,
            r#"{"a":1,"auths":{"r.example":{"auth":"YTpi"},"https://index.docker.io/v1/":{}}}"#,
        )
        .unwrap();
        let keys = at(&path).logout_all().unwrap();
        assert_eq!(keys, ["r.example", "https://index.docker.io/v1/"]);
        assert_eq!(at(&path).logout_all().unwrap(), Vec::<String>::new());
        let text = fs_err::read_to_string(&path).unwrap();
        assert!(text.contains("\"a\": 1") && !text.contains("r.example"), "{text}");
    }

    #[test]
    fn a_missing_helper_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        fs_err::write(&path, r#"{"credsStore":"surely-not-installed"}"#).unwrap();
        let error = at(&path).lookup(&repository("x")).unwrap_err();
        assert!(matches!(error, Error::HelperStart { .. }), "{error}");
    }
}
