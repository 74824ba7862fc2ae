//! `login`, `logout`, `whoami` and `auth`.

use crate::credentials::{Attempt, Outcome, Saved, Secret};
use crate::image::{RegistryName, Repository, RepositoryName};

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

/// Erases every login; returns the keys that there were.
pub async fn logout_all(session: &Session) -> Result<Vec<String>, Error> {
    let credentials = session.credentials.clone();
    blocking(move || credentials.logout_all()).await
}

/// Returns where a credential for `repository` is looked for, and what each place says. Asks no
/// registry.
pub async fn explain_credential(
    session: &Session,
    repository: Repository,
) -> Result<Vec<Attempt>, Error> {
    let credentials = session.credentials.clone();
    blocking(move || Ok::<_, Error>(credentials.explain(&repository))).await
}

/// Returns what is known of the user of `registry`: the place that has the login, and which it is.
/// `None` for nobody.
///
/// # Errors
///
/// When a place cannot be asked.
///
/// # Panics
///
/// Never: the name of the repository that it asks for is valid.
pub async fn whoami(session: &Session, registry: RegistryName) -> Result<Option<Attempt>, Error> {
    // Stands in for the repository that a lookup is made for, as in a login.
    let name: RepositoryName = "login".parse().expect("a valid name");
    let attempts = explain_credential(session, Repository { registry, name }).await?;
    match attempts.into_iter().next_back() {
        Some(Attempt { outcome: Outcome::Failed(error), .. }) => Err(error.into()),
        last => Ok(last.filter(|attempt| attempt.outcome.is_found())),
    }
}

/// What a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To pull.
    Pull,
    /// To pull and push.
    Push,
}

/// Returns the `Authorization` that a request to `repository` needs; `None` when it needs none.
pub async fn authorization(
    session: &Session,
    repository: &Repository,
    access: Access,
) -> Result<Option<Secret>, Error> {
    let actions = match access {
        Access::Pull => "pull",
        Access::Push => "pull,push",
    };
    Ok(session.client.authorization(repository, actions).await?)
}
