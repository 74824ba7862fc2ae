//! Finds, stores and erases the secrets that open registries. No HTTP and no environment.
//!
//! Paths come in as [`Locations`]; everything blocks. [`Credentials`] reads docker's `config.json`
//! and the `auth.json` of the containers tools, and asks credential helpers by docker's helper
//! protocol and [`Keyring`]s. Login and logout change docker's file, or the helper or keyring that
//! it stands for. Secrets are [`Secret`]s: they print as `****` and are wiped when dropped.

mod attempt;
mod credential;
mod error;
mod file;
mod helper;
mod keyring;
mod locations;
mod login;
mod lookup;
mod save;
mod secret;
mod token;

pub use attempt::{Attempt, Outcome, Place};
pub use credential::{Anonymous, Credential, Fixed, Lookup};
pub use error::Error;
pub use keyring::Keyring;
pub use locations::{Form, Locations, LoginFile};
pub use login::{LoggedOut, Login, Saved, SavedLogin};
pub use lookup::Credentials;
pub use secret::Secret;
pub use token::{RegistryToken, TokenSource};

/// What the functions of this room return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests;
