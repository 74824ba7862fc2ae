//! `login`, `logout`, `whoami` and `auth`.

use std::path::PathBuf;

use crate::credentials::{
    Attempt, Credentials, Error as CredentialError, Locations, Login, LoginFile, Outcome, Place,
    Saved, Secret,
};
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

/// Which file logins are kept in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginPlace {
    /// The session's.
    Usual,
    /// This one, in the form of docker's `config.json`.
    DockerFile(PathBuf),
}

/// What became of a login or logout.
#[derive(Debug)]
pub struct LoginReport<T> {
    /// What was done.
    pub done: T,
    /// Why keyrings were passed over.
    pub passed_over: Vec<CredentialError>,
    /// Another place, whose credential counts for the registry.
    pub other: Option<Place>,
}

/// Saves a login.
///
/// # Errors
///
/// [`Kind::Denied`](super::Kind::Denied) when the registry refuses it; nothing is saved then.
pub async fn login(
    session: &Session,
    login: Login,
    place: LoginPlace,
    verify: Verify,
) -> Result<LoginReport<Saved>, Error> {
    if verify == Verify::Yes {
        let registry = &login.registry;
        let checked = session.client.check_login(registry, &login.username, &login.secret).await;
        checked.map_err(|error| {
            Error::from(error).about(format!("failed to log in to `{registry}`"))
        })?;
    }
    let credentials = at(session, place);
    blocking(move || {
        let saved = credentials.login(&login)?;
        let other = found_at(credentials.explain_earlier(&stand_in(login.registry)));
        Ok::<_, Error>(LoginReport { done: saved.saved, passed_over: saved.passed_over, other })
    })
    .await
}

/// Erases a login; returns the keys that it had.
pub async fn logout(
    session: &Session,
    registry: RegistryName,
    place: LoginPlace,
) -> Result<LoginReport<Vec<String>>, Error> {
    let credentials = at(session, place);
    blocking(move || {
        let done = credentials.logout(&registry)?;
        let other = found_at(credentials.explain(&stand_in(registry)));
        Ok::<_, Error>(LoginReport { done: done.keys, passed_over: done.passed_over, other })
    })
    .await
}

/// Erases every login; returns the keys that there were.
pub async fn logout_all(
    session: &Session,
    place: LoginPlace,
) -> Result<LoginReport<Vec<String>>, Error> {
    let credentials = at(session, place);
    blocking(move || {
        let done = credentials.logout_all()?;
        Ok::<_, Error>(LoginReport { done: done.keys, passed_over: done.passed_over, other: None })
    })
    .await
}

fn at(session: &Session, place: LoginPlace) -> Credentials {
    match place {
        LoginPlace::Usual => session.credentials.clone(),
        LoginPlace::DockerFile(path) => Credentials::new(Locations {
            only: Some(LoginFile::docker(path)),
            ..Locations::default()
        }),
    }
}

fn found_at(attempts: Vec<Attempt>) -> Option<Place> {
    attempts.into_iter().find(|attempt| attempt.outcome.is_found()).map(|attempt| attempt.place)
}

/// Returns a repository of `registry` for a lookup that is about all of it.
fn stand_in(registry: RegistryName) -> Repository {
    let name: RepositoryName = "login".parse().expect("a valid name");
    Repository { registry, name }
}

/// Returns where a credential for `repository` is looked for, and what each place says. Asks no
/// registry.
pub async fn explain_credential(
    session: &Session,
    repository: Repository,
    access: Access,
) -> Result<Vec<Attempt>, Error> {
    let credentials = match access {
        Access::Pull => session.credentials.clone(),
        Access::Push => session.push_credentials.clone(),
    };
    blocking(move || Ok::<_, Error>(credentials.explain(&repository))).await
}

/// Returns what is known of the user of `registry`: the place that has the login, and which it is.
/// `None` for nobody.
///
/// # Errors
///
/// When a place cannot be asked.
pub async fn whoami(session: &Session, registry: RegistryName) -> Result<Option<Attempt>, Error> {
    let attempts = explain_credential(session, stand_in(registry), Access::Pull).await?;
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
