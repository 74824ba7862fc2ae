//! Saving and erasing logins.
//!
//! A login is saved where docker would: with the helper that the file names for the registry, else
//! in a keyring when the user asks for one, or did so before, else in the file itself. The file has
//! an empty entry for what is kept elsewhere.

use std::path::PathBuf;

use super::file::{self, ConfigFile};
use super::lookup::Credentials;
use super::{Error, Keyring, LoginFile, Result, Secret, save};
use crate::image::RegistryName;

/// A login to save.
#[derive(Debug, Clone)]
pub struct Login {
    /// The registry.
    pub registry: RegistryName,
    /// The user; `<token>` for an identity token.
    pub username: String,
    /// The password or token.
    pub secret: Secret,
    /// Whether the user wants it in a keyring.
    pub in_keyring: bool,
}

/// Where a login was saved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// In this file, unencrypted.
    File(PathBuf),
    /// With the helper `docker-credential-<name>`.
    Helper(String),
    /// In a keyring.
    Keyring(Keyring),
}

/// A login that was saved.
#[derive(Debug)]
pub struct SavedLogin {
    /// Where to.
    pub saved: Saved,
    /// Why keyrings were passed over.
    pub passed_over: Vec<Error>,
}

/// What a logout did.
#[derive(Debug, Default)]
pub struct LoggedOut {
    /// The keys of what was erased.
    pub keys: Vec<String>,
    /// Why keyrings, which may still have the login, could not be asked.
    pub passed_over: Vec<Error>,
}

impl Credentials {
    /// Saves a login.
    ///
    /// # Errors
    ///
    /// When the file or the helper cannot be read or written.
    pub fn login(&self, login: &Login) -> Result<SavedLogin> {
        let LoginFile { path, form } = self.login_file()?;
        let _turn = save::turn(&path)?;
        let mut config = ConfigFile::read(&path)?;
        let Login { registry, username, secret, .. } = login;
        let helper = config.helper(registry).map(str::to_owned);
        let in_keyring = login.in_keyring || config.has_marker(registry);
        let mut passed_over = Vec::new();
        let saved = if let Some(name) = helper {
            self.helper(&name).store(save::key_of(registry, form), username, secret)?;
            Saved::Helper(name)
        } else if in_keyring && let Some(keyring) = store_in_keyring(login, &mut passed_over) {
            Saved::Keyring(keyring)
        } else {
            Saved::File(path.clone())
        };
        let in_file = matches!(saved, Saved::File(_)).then_some((username.as_str(), secret));
        save::set(&mut config, registry, form, in_file);
        save::write(&path, &config)?;
        Ok(SavedLogin { saved, passed_over })
    }

    /// Erases the login of `registry` from the file, its helper and the keyrings.
    ///
    /// # Errors
    ///
    /// When the file or the helper cannot be read or written.
    pub fn logout(&self, registry: &RegistryName) -> Result<LoggedOut> {
        let LoginFile { path, form } = self.login_file()?;
        let _turn = save::turn(&path)?;
        let mut config = ConfigFile::read(&path)?;
        let mut done = LoggedOut::default();
        if let Some(name) = config.helper(registry) {
            for key in save::keys_of(registry, form) {
                done.keys.extend(self.helper(name).erase(key)?.then(|| key.to_owned()));
            }
        } else if config.has_marker(registry) {
            erase_from_keyrings(registry, &mut done);
        }
        let keys = save::remove(&mut config, registry);
        if !keys.is_empty() {
            save::write(&path, &config)?;
        }
        done.add(keys);
        Ok(done)
    }

    /// Erases every login from the file, from the helpers that it names and from the keyrings.
    ///
    /// # Errors
    ///
    /// When the file or a helper cannot be read or written.
    pub fn logout_all(&self) -> Result<LoggedOut> {
        let LoginFile { path, .. } = self.login_file()?;
        let _turn = save::turn(&path)?;
        let mut config = ConfigFile::read(&path)?;
        let mut done = LoggedOut::default();
        let markers: Vec<String> = config.markers().map(str::to_owned).collect();
        for key in markers {
            if let Ok(registry) = file::registry_of(&key).parse::<RegistryName>()
                && config.helper(&registry).is_none()
            {
                erase_from_keyrings(&registry, &mut done);
            }
        }
        let keys = save::remove_all(&mut config);
        for (name, own_key) in config.helpers() {
            let helper = self.helper(name);
            let known = match own_key {
                Some(key) => vec![key.to_owned()],
                // Old helpers have no list; the file's markers are what is known then.
                None => helper.list().unwrap_or_else(|_| keys.clone()),
            };
            for key in known {
                if helper.erase(&key)? {
                    done.add(vec![key]);
                }
            }
        }
        if !keys.is_empty() {
            save::write(&path, &config)?;
        }
        done.add(keys);
        Ok(done)
    }

    fn login_file(&self) -> Result<LoginFile> {
        self.locations.login_file().ok_or(Error::NoFile)
    }
}

impl LoggedOut {
    /// Adds keys that are not there yet.
    fn add(&mut self, keys: Vec<String>) {
        for key in keys {
            if !self.keys.contains(&key) {
                self.keys.push(key);
            }
        }
    }
}

/// Saves a login in the first keyring that takes it, and takes care that no other has an old one.
fn store_in_keyring(login: &Login, passed_over: &mut Vec<Error>) -> Option<Keyring> {
    let mut taken = None;
    for keyring in Keyring::ALL {
        if taken.is_some() {
            if let Err(error) = keyring.erase(&login.registry) {
                tracing::debug!(%error, "nothing erased");
            }
            continue;
        }
        match keyring.store(&login.registry, &login.username, &login.secret) {
            Ok(()) => taken = Some(keyring),
            Err(error) => passed_over.push(error),
        }
    }
    taken
}

fn erase_from_keyrings(registry: &RegistryName, done: &mut LoggedOut) {
    let mut failed = Vec::new();
    let mut is_erased = false;
    for keyring in Keyring::ALL {
        match keyring.erase(registry) {
            Ok(erased) => is_erased |= erased,
            Err(error) => failed.push(error),
        }
    }
    // It was in one of them; that another is absent does not matter then.
    if !is_erased {
        done.passed_over.append(&mut failed);
    }
}
