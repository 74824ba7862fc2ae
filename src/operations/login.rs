//! `login` and `logout`.

use crate::credentials::{Saved, Secret};
use crate::image::RegistryName;

use super::session::blocking;
use super::{Error, Session};

/// Whether a login is tried out before it is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// It is.
    Yes,
    /// It is saved as given.
    No,
}

/// Saves a login and returns where.
///
/// # Errors
///
/// [`Kind::Denied`](super::Kind::Denied) when the registry refuses it; nothing is saved then.
pub async fn login(
    session: &Session,
    registry: RegistryName,
    username: String,
    password: Secret,
    verify: Verify,
) -> Result<Saved, Error> {
    if verify == Verify::Yes {
        session.client.check_login(&registry, &username, &password).await.map_err(|error| {
            Error::from(error).about(format!("failed to log in to `{registry}`"))
        })?;
    }
    let credentials = session.credentials.clone();
    blocking(move || credentials.login(&registry, &username, &password)).await
}

/// Erases a login; returns whether there was one.
pub async fn logout(session: &Session, registry: RegistryName) -> Result<bool, Error> {
    let credentials = session.credentials.clone();
    blocking(move || credentials.logout(&registry)).await
}
