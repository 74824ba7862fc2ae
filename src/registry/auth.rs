//! What requests to one registry are authorised with: asked for once, kept, renewed.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderValue, Method};

use super::challenge::{Bearer, Challenge};
use super::host::{Access, Host};
use super::session::{Purpose, Shared};
use super::token::{self, Grants, TokenServer};
use super::{Error, Result};
use crate::credentials::{Credential, Lookup};
use crate::image::Repository;

/// Authorisations kept for one registry. A mirror of thousands of repositories needs one at a time
/// of most of them.
const MANY: usize = 256;
/// A registry that says 403 to what worked before is believed to mean an ended token, as Amazon's
/// does, at most this often: mostly it means what it says.
const BETWEEN_FORBIDDEN: Duration = Duration::from_secs(60);
/// Most scopes that a challenge can add to a request's own.
const MAX_DEMANDED: usize = 8;

/// What one registry wants to see, and what is known that satisfies it.
#[derive(Default)]
pub(super) struct Auth {
    challenge: Mutex<Option<Challenge>>,
    reader: Identity,
    writer: Identity,
    /// The scopes that requests turned out to need.
    demanded: Mutex<HashMap<Asked, Vec<String>>>,
}

/// A kind of request: its method and own scopes.
type Asked = (Method, Vec<String>);

/// Those who read and those who write may be different people: nothing is shared between them.
#[derive(Default)]
struct Identity {
    logins: Kept<Repository, Arc<Login>>,
    tokens: Kept<Vec<String>, Arc<Pass>>,
    grants: Grants,
}

/// What a lookup found.
struct Login {
    credential: Option<Credential>,
    /// The credential itself, for a registry that wants to see it.
    pass: Option<Arc<Pass>>,
    /// Whether a token server took it.
    has_worked: AtomicBool,
}

/// An `Authorization` that requests are sent with.
pub(super) struct Pass {
    pub(super) header: HeaderValue,
    life: Option<Life>,
    has_worked: AtomicBool,
}

/// How long a token is good for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    /// The end that the token server told of, a little earlier.
    pub(super) told: Instant,
    /// The end that is believed: token servers that tell of less than a minute mostly err.
    pub(super) believed: Instant,
}

/// How sure it has to be that a token has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// A refusal costs a round trip.
    Believed,
    /// A refusal costs the body that was sent for nothing.
    Told,
}

/// An authorisation that the registry did not take.
pub(super) struct Refused {
    pub(super) pass: Arc<Pass>,
    pub(super) refusal: Refusal,
}

/// How a registry refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It says what it wants.
    Unauthorized,
    /// It only says no.
    Forbidden,
}

/// What a request needs to be authorised.
pub(super) struct Need<'a> {
    pub(super) shared: &'a Shared,
    pub(super) host: &'a Host,
    pub(super) access: &'a Access,
    /// The repository whose credential counts.
    pub(super) repository: &'a Repository,
    pub(super) purpose: Purpose,
    pub(super) freshness: Freshness,
    /// The scopes, the most important first: some token servers only read that one.
    pub(super) scopes: Vec<String>,
}

impl Auth {
    pub(super) fn remember(&self, challenge: Challenge) {
        *lock(&self.challenge) = Some(challenge);
    }

    /// Returns the scopes to ask for: what was demanded the last time, else the request's own.
    pub(super) fn scopes(&self, method: &Method, own: &[String]) -> Vec<String> {
        let demanded = lock(&self.demanded);
        demanded.get(&(method.clone(), own.to_vec())).map_or_else(|| own.to_vec(), Clone::clone)
    }

    /// Remembers that such requests need `scopes`, so that the next one is not refused first.
    pub(super) fn remember_scopes(&self, method: &Method, own: &[String], scopes: Vec<String>) {
        let mut demanded = lock(&self.demanded);
        if demanded.len() >= MANY {
            demanded.clear();
        }
        demanded.insert((method.clone(), own.to_vec()), scopes);
    }

    /// Returns the `Authorization` for a request, as far as the registry's wishes are known.
    ///
    /// `refused` is one that the registry has just refused. It is returned again when there is
    /// nothing better.
    pub(super) async fn authorize(
        &self,
        need: &Need<'_>,
        refused: Option<&Refused>,
    ) -> Result<Option<Arc<Pass>>> {
        let Some(challenge) = lock(&self.challenge).clone() else { return Ok(None) };
        let identity = match need.shared.options.push_credentials {
            Some(_) if need.purpose == Purpose::Write => &self.writer,
            _ => &self.reader,
        };
        let login = identity.login(need, |login| {
            let pass = login.pass.as_ref();
            refused.filter(|refused| {
                refused.pass.has_worked() && pass.is_some_and(|it| Arc::ptr_eq(it, &refused.pass))
            })
        });
        let login = login.await?;
        match (challenge, &login.credential) {
            (_, Some(Credential::RegistryToken(_)))
            | (Challenge::Basic, Some(Credential::Basic { .. })) => Ok(login.pass.clone()),
            (Challenge::Basic, _) => Ok(None),
            (Challenge::Bearer(bearer), _) => {
                identity.token(need, &bearer, &login, refused).await.map(Some)
            }
        }
    }
}

impl Identity {
    /// Returns what opens the repository; looked up again when `refusal_of` says that what is
    /// known was refused: a helper may have a newer password.
    async fn login<'r>(
        &self,
        need: &Need<'_>,
        refusal_of: impl Fn(&Login) -> Option<&'r Refused>,
    ) -> Result<Arc<Login>> {
        let slot = self.logins.slot(need.repository, |_| true);
        let mut entry = slot.lock().await;
        if let Some(login) = &entry.value {
            let login = Arc::clone(login);
            match refusal_of(&login) {
                Some(refused) if entry.may_renew(refused.refusal) => {}
                _ => return Ok(login),
            }
        }
        let credential = look_up(need).await?;
        let login = match &entry.value {
            Some(known) if known.credential == credential => Arc::clone(known),
            _ => Arc::new(Login::new(credential)),
        };
        entry.value = Some(Arc::clone(&login));
        Ok(login)
    }

    async fn token(
        &self,
        need: &Need<'_>,
        bearer: &Bearer,
        login: &Arc<Login>,
        refused: Option<&Refused>,
    ) -> Result<Arc<Pass>> {
        let is_alive = |pass: &Arc<Pass>| !pass.has_ended(Freshness::Believed);
        let slot = self.tokens.slot(&need.scopes, is_alive);
        let mut entry = slot.lock().await;
        if let Some(pass) = entry.value.clone() {
            let keeps = match refused.filter(|refused| Arc::ptr_eq(&pass, &refused.pass)) {
                Some(refused) => !entry.may_renew(refused.refusal),
                None => !pass.has_ended(need.freshness),
            };
            if keeps {
                return Ok(pass);
            }
        }
        let pass = self.fetch(need, bearer, login).await.map_err(|error| Error::Token {
            registry: need.repository.registry.clone(),
            source: Box::new(error),
        })?;
        entry.value = Some(Arc::clone(&pass));
        Ok(pass)
    }

    /// Asks the token server; a second time when it refuses a password that it took before and
    /// there is a newer one.
    async fn fetch(
        &self,
        need: &Need<'_>,
        bearer: &Bearer,
        login: &Arc<Login>,
    ) -> Result<Arc<Pass>> {
        let Need { shared, host, access, .. } = need;
        let server = TokenServer { shared, host, access, base: &access.base, bearer };
        let fetch = async |login: &Login| {
            let credential = login.credential.as_ref();
            let pass = token::fetch(&server, &need.scopes, credential, &self.grants).await?;
            login.has_worked.store(true, Ordering::Relaxed);
            Ok(Arc::new(pass))
        };
        let error = match fetch(login).await {
            Err(error) if login.has_worked.load(Ordering::Relaxed) && is_denied(&error) => error,
            outcome => return outcome,
        };
        let credential = look_up(need).await?;
        if credential == login.credential {
            return Err(error);
        }
        let login = Arc::new(Login::new(credential));
        self.logins.slot(need.repository, |_| true).lock().await.value = Some(Arc::clone(&login));
        fetch(&login).await
    }
}

impl Login {
    fn new(credential: Option<Credential>) -> Self {
        let header = match &credential {
            Some(Credential::Basic { username, password }) => token::basic(username, password),
            Some(Credential::RegistryToken(token)) => token::bearer(token.expose()),
            Some(Credential::IdentityToken(_)) | None => None,
        };
        let pass = header.map(|header| Arc::new(Pass::new(header, None)));
        Self { credential, pass, has_worked: AtomicBool::new(false) }
    }
}

impl Pass {
    /// Returns an authorisation that ends with `life`, or never.
    pub(super) fn new(header: HeaderValue, life: Option<Life>) -> Self {
        Self { header, life, has_worked: AtomicBool::new(false) }
    }

    /// Remembers that a registry took it.
    pub(super) fn works(&self) {
        self.has_worked.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_worked(&self) -> bool {
        self.has_worked.load(Ordering::Relaxed)
    }

    /// Returns whether it is of no use any more.
    pub(super) fn has_ended(&self, freshness: Freshness) -> bool {
        self.life.is_some_and(|life| {
            let end = match freshness {
                Freshness::Believed => life.believed,
                Freshness::Told => life.told,
            };
            end <= Instant::now()
        })
    }
}

/// Values by their keys, at most [`MANY`], each fetched by one task while the others wait.
struct Kept<K, V>(Mutex<HashMap<K, Slot<V>>>);

type Slot<V> = Arc<tokio::sync::Mutex<Entry<V>>>;

struct Entry<V> {
    value: Option<V>,
    /// When it was last renewed because of a 403.
    forbidden: Option<Instant>,
}

impl<K: Clone + Eq + Hash, V> Kept<K, V> {
    /// Returns the place of `key`. When there are many, those go that are not `alive`, and then
    /// any that nobody uses.
    fn slot(&self, key: &K, alive: impl Fn(&V) -> bool) -> Slot<V> {
        let mut slots = lock(&self.0);
        if slots.len() >= MANY && !slots.contains_key(key) {
            let is_used = |slot: &Slot<V>| Arc::strong_count(slot) > 1;
            slots.retain(|_, slot| {
                is_used(slot)
                    || slot.try_lock().is_ok_and(|it| it.value.as_ref().is_some_and(&alive))
            });
            let mut left = MANY / 2;
            if slots.len() >= MANY {
                slots.retain(|_, slot| {
                    left = left.saturating_sub(1);
                    left > 0 || is_used(slot)
                });
            }
        }
        Arc::clone(slots.entry(key.clone()).or_default())
    }
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V> Default for Entry<V> {
    fn default() -> Self {
        Self { value: None, forbidden: None }
    }
}

impl<V> Entry<V> {
    /// Returns whether a refusal of what is kept makes it worth to ask for another.
    fn may_renew(&mut self, refusal: Refusal) -> bool {
        let may = refusal == Refusal::Unauthorized
            || self.forbidden.is_none_or(|then| then.elapsed() >= BETWEEN_FORBIDDEN);
        if may && refusal == Refusal::Forbidden {
            self.forbidden = Some(Instant::now());
        }
        may
    }
}

/// Asks files, helpers and keyrings, which may take long.
async fn look_up(need: &Need<'_>) -> Result<Option<Credential>> {
    let options = &need.shared.options;
    let lookup: Arc<dyn Lookup> = match (&options.push_credentials, need.purpose) {
        (Some(lookup), Purpose::Write) => Arc::clone(lookup),
        _ => Arc::clone(&options.credentials),
    };
    let repository = need.repository.clone();
    let found = tokio::task::spawn_blocking(move || lookup.lookup(&repository))
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    found
        .map_err(|source| Error::Credentials { registry: need.repository.registry.clone(), source })
}

fn is_denied(error: &Error) -> bool {
    error.status().is_some_and(|status| matches!(status.as_u16(), 400 | 401 | 403))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns `scopes` with what a challenge demands in front, unless they cover it already.
pub(super) fn merge(scopes: &[String], demanded: Option<&str>) -> Vec<String> {
    let demanded = demanded.into_iter().flat_map(str::split_ascii_whitespace);
    let mut merged: Vec<String> = demanded
        .filter(|wanted| !scopes.iter().any(|have| covers(have, wanted)))
        .take(MAX_DEMANDED)
        .map(str::to_owned)
        .collect();
    merged.extend_from_slice(scopes);
    merged
}

fn covers(have: &str, wanted: &str) -> bool {
    let (Some((have, may)), Some((want, needs))) = (have.rsplit_once(':'), wanted.rsplit_once(':'))
    else {
        return have == wanted;
    };
    have == want && needs.split(',').all(|need| may.split(',').any(|action| action == need))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wire row A6: what is newly demanded comes first, and what is had already is not repeated.
    #[test]
    fn merges_what_is_demanded_in_front() {
        let own = ["repository:a/b:pull,push".to_owned()];
        assert_eq!(merge(&own, Some("repository:a/b:pull")), own);
        assert_eq!(merge(&own, None), own);
        let more = merge(&own, Some("repository:c:pull"));
        assert_eq!(more, ["repository:c:pull", "repository:a/b:pull,push"]);
        let endless = "repository:x:pull repository:y:pull ".repeat(1000);
        assert_eq!(merge(&own, Some(&endless)).len(), MAX_DEMANDED + 1);
    }

    /// Wire row A9: nothing is kept for ever, however many repositories are asked for.
    #[test]
    fn a_bounded_number_is_kept() {
        let kept = Kept::<u32, bool>::default();
        let used = kept.slot(&0, |_| true);
        for key in 1..2000 {
            kept.slot(&key, |alive| *alive).try_lock().unwrap().value = Some(key % 2 == 0);
            assert!(lock(&kept.0).len() <= MANY);
        }
        assert!(Arc::ptr_eq(&used, &kept.slot(&0, |_| true)), "what is in use stays");
    }

    /// Wire row A12: a body is only sent with a token that lives by its server's word; other requests
    /// are tried.
    #[test]
    fn a_body_wants_a_fresh_token() {
        let now = Instant::now();
        let life = Life { told: now, believed: now + Duration::from_secs(50) };
        let pass = Pass::new(HeaderValue::from_static("Bearer x"), Some(life));
        assert!(pass.has_ended(Freshness::Told) && !pass.has_ended(Freshness::Believed));
        let basic = Pass::new(HeaderValue::from_static("Basic x"), None);
        assert!(!basic.has_ended(Freshness::Told));
    }

    /// Wire row A13: a 403 is worth a new token, but not all the time.
    #[test]
    fn a_403_renews_once_a_minute() {
        let mut entry = Entry::<()>::default();
        assert!(entry.may_renew(Refusal::Forbidden));
        assert!(!entry.may_renew(Refusal::Forbidden));
        assert!(entry.may_renew(Refusal::Unauthorized));
        entry.forbidden = Instant::now().checked_sub(BETWEEN_FORBIDDEN);
        assert!(entry.may_renew(Refusal::Forbidden));
    }
}
