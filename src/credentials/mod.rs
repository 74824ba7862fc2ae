//! Finds, stores and erases the secrets that open registries. No HTTP and no environment.
//!
//! Paths come in as [`Locations`]; everything blocks. [`Credentials`] reads docker's `config.json`
//! and the `auth.json` of the containers tools, and asks credential helpers by docker's helper
//! protocol. Login and logout change docker's file, or the helper that it names. Secrets are
//! [`Secret`]s: they print as `****` and are wiped when dropped.

mod attempt;
mod error;
mod file;
mod helper;
mod lookup;
mod save;
mod secret;

pub use attempt::{Attempt, Outcome, Place};
pub use error::Error;
pub use lookup::{Anonymous, Credential, Credentials, Fixed, Locations, Lookup, Saved};
pub use secret::Secret;

/// What the functions of this room return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
