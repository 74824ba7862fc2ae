//! Answers to challenges: basic credentials, and tokens (distribution, spec/auth/token.md, oauth.md).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method};
use reqwest::Url;
use serde::Deserialize;
use tokio::sync::OnceCell;
use zeroize::Zeroize;

use super::answer::Answer;
use super::challenge::{Bearer, Challenge};
use super::host::{Access, Host};
use super::location::{self, redacted};
use super::session::Shared;
use super::{Error, Result};
use crate::credentials::{Credential, Secret};
use crate::image::Repository;

/// What a token without `expires_in` lives for, and the least that one is believed to.
const LEAST_LIFETIME_SECONDS: u64 = 60;
/// A token is renewed this long before its end, because clocks and networks differ.
const MARGIN: Duration = Duration::from_secs(10);
/// Most that is read of a token server's answer.
const MAX_TOKEN_BYTES: u64 = 1 << 20;
/// When this many tokens are kept, those that have ended are dropped.
const MANY_TOKENS: usize = 64;

/// What one registry wants to see, and what is known that satisfies it.
#[derive(Default)]
pub(super) struct Auth {
    challenge: Mutex<Option<Challenge>>,
    tokens: Mutex<HashMap<Vec<String>, Slot>>,
    credentials: Mutex<HashMap<Repository, Arc<OnceCell<Option<Credential>>>>>,
}

/// Where one token is kept. Whoever fetches it holds the lock, and the others wait for it.
type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

struct Token {
    header: HeaderValue,
    until: Instant,
}

#[derive(Deserialize, Zeroize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

/// What a request needs to be authorised.
pub(super) struct Need<'a> {
    pub(super) shared: &'a Shared,
    pub(super) host: &'a Host,
    pub(super) access: &'a Access,
    /// The repository whose credential counts.
    pub(super) repository: &'a Repository,
    /// The scopes, the most important first: some token servers only read that one.
    pub(super) scopes: Vec<String>,
}

impl Auth {
    pub(super) fn remember(&self, challenge: Challenge) {
        *self.challenge.lock().unwrap_or_else(PoisonError::into_inner) = Some(challenge);
    }

    fn challenge(&self) -> Option<Challenge> {
        self.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the `Authorization` for a request, as far as the registry's wishes are known.
    ///
    /// `refused` is one that the registry has just refused; its token is thrown away.
    pub(super) async fn authorize(
        &self,
        need: &Need<'_>,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>> {
        let Some(challenge) = self.challenge() else { return Ok(None) };
        let credential = self.credential(need).await?;
        match (challenge, credential) {
            (_, Some(Credential::RegistryToken(token))) => Ok(sensitive("Bearer ", token.expose())),
            (Challenge::Basic, Some(Credential::Basic { username, password })) => {
                Ok(basic(&username, &password))
            }
            (Challenge::Basic, _) => Ok(None),
            (Challenge::Bearer(bearer), credential) => {
                self.token(need, &bearer, credential.as_ref(), refused).await.map(Some)
            }
        }
    }

    async fn credential(&self, need: &Need<'_>) -> Result<Option<Credential>> {
        let cell = {
            let mut known = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(need.repository.clone()).or_default())
        };
        let found = cell.get_or_try_init(async || {
            let lookup = Arc::clone(&need.shared.options.credentials);
            let repository = need.repository.clone();
            tokio::task::spawn_blocking(move || lookup.lookup(&repository))
                .await
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
                .map_err(|source| Error::Credentials {
                    registry: need.repository.registry.clone(),
                    source,
                })
        });
        found.await.cloned()
    }

    async fn token(
        &self,
        need: &Need<'_>,
        bearer: &Bearer,
        credential: Option<&Credential>,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue> {
        let slot = {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            if tokens.len() >= MANY_TOKENS {
                tokens.retain(|_, slot| {
                    slot.try_lock().map_or(true, |token| is_alive(token.as_ref()))
                });
            }
            Arc::clone(tokens.entry(need.scopes.clone()).or_default())
        };
        let mut kept = slot.lock().await;
        if let Some(token) = kept.as_ref()
            && is_alive(Some(token))
            && refused != Some(&token.header)
        {
            return Ok(token.header.clone());
        }
        let token = fetch(need, bearer, credential).await.map_err(|error| Error::Token {
            registry: need.repository.registry.clone(),
            source: Box::new(error),
        })?;
        let header = token.header.clone();
        *kept = Some(token);
        Ok(header)
    }
}

fn is_alive(token: Option<&Token>) -> bool {
    token.is_some_and(|token| token.until > Instant::now())
}

async fn fetch(need: &Need<'_>, bearer: &Bearer, credential: Option<&Credential>) -> Result<Token> {
    let realm = realm(need, bearer)?;
    match credential {
        Some(Credential::IdentityToken(token)) => {
            let answer = exchange(need, bearer, &realm, token).await?;
            match answer.response.status().as_u16() {
                // The server knows no OAuth2.
                404 | 405 => fetch_by_get(need, bearer, &realm, Some(("<token>", token))).await,
                _ => read_token(answer).await,
            }
        }
        Some(Credential::Basic { username, password }) => {
            fetch_by_get(need, bearer, &realm, Some((username, password))).await
        }
        _ => fetch_by_get(need, bearer, &realm, None).await,
    }
}

async fn fetch_by_get(
    need: &Need<'_>,
    bearer: &Bearer,
    realm: &Url,
    login: Option<(&str, &Secret)>,
) -> Result<Token> {
    let mut url = realm.clone();
    if bearer.service.is_some() || login.is_some() || !need.scopes.is_empty() {
        // Appends to what the realm has.
        let mut query = url.query_pairs_mut();
        query.extend_pairs(bearer.service.iter().map(|service| ("service", service)));
        query.extend_pairs(login.iter().map(|(username, _)| ("account", username)));
        query.extend_pairs(need.scopes.iter().map(|scope| ("scope", scope)));
    }
    let client = need.shared.client_for(&url, need.host, need.access).await?;
    let mut request = client.get(url.clone());
    if let Some(header) = login.and_then(|(username, password)| basic(username, password)) {
        request = request.header(http::header::AUTHORIZATION, header);
    }
    let patience = need.shared.options.retry.idle_timeout;
    let answer = Answer::wait(request, Method::GET, url, patience).await?;
    read_token(answer).await
}

async fn exchange(need: &Need<'_>, bearer: &Bearer, realm: &Url, token: &Secret) -> Result<Answer> {
    let scope = need.scopes.join(" ");
    let mut form = vec![
        ("grant_type", "refresh_token"),
        ("refresh_token", token.expose()),
        ("client_id", "rpub"),
    ];
    form.extend(bearer.service.iter().map(|service| ("service", service.as_str())));
    if !scope.is_empty() {
        form.push(("scope", &scope));
    }
    let client = need.shared.client_for(realm, need.host, need.access).await?;
    let request = client.post(realm.clone()).form(&form);
    let patience = need.shared.options.retry.idle_timeout;
    Answer::wait(request, Method::POST, realm.clone(), patience).await
}

async fn read_token(answer: Answer) -> Result<Token> {
    let mut answer = answer.expect_success().await?;
    let invalid = answer.protocol("the token server's answer holds no token");
    let body = answer.read(MAX_TOKEN_BYTES).await?;
    let Ok(mut parsed) = serde_json::from_slice::<TokenAnswer>(&body) else { return Err(invalid) };
    let text = if parsed.token.is_empty() { &parsed.access_token } else { &parsed.token };
    let header = if text.is_empty() { None } else { sensitive("Bearer ", text) };
    let lifetime = parsed.expires_in.unwrap_or_default().max(LEAST_LIFETIME_SECONDS);
    parsed.zeroize();
    // A day at most: a server's nonsense must not overflow the clock.
    let until = Instant::now() + Duration::from_secs(lifetime.min(86_400)).saturating_sub(MARGIN);
    Ok(Token { header: header.ok_or(invalid)?, until })
}

/// Returns the token server's URL, when credentials may go there.
fn realm(need: &Need<'_>, bearer: &Bearer) -> Result<Url> {
    let base = &need.access.base;
    let Ok(realm) = base.join(&bearer.realm) else {
        let (method, url) = (Method::GET, redacted(base));
        return Err(Error::Protocol { method, url, reason: "its token server is not a URL" });
    };
    location::check(base, &realm)?;
    let is_near =
        realm.host() == base.host() || location::is_loopback(&realm) || need.host.insecure;
    if realm.scheme() != "https" && !(realm.scheme() == "http" && is_near) {
        let reason = "rpub asks for tokens of another host by https only";
        return Err(Error::Redirect { url: redacted(base), target: redacted(&realm), reason });
    }
    Ok(realm)
}

fn basic(username: &str, password: &Secret) -> Option<HeaderValue> {
    let mut plain = format!("{username}:{}", password.expose());
    let mut encoded = STANDARD.encode(&plain);
    let header = sensitive("Basic ", &encoded);
    plain.zeroize();
    encoded.zeroize();
    header
}

/// Returns a header that `Debug` does not show; `None` for a secret that no header can carry.
fn sensitive(scheme: &str, secret: &str) -> Option<HeaderValue> {
    let mut text = format!("{scheme}{secret}");
    let mut header = HeaderValue::from_str(&text).ok();
    text.zeroize();
    if let Some(header) = &mut header {
        header.set_sensitive(true);
    }
    header
}

/// Returns `scopes` with what a challenge demands in front, unless they cover it already.
pub(super) fn merge(scopes: &[String], demanded: Option<&str>) -> Vec<String> {
    let demanded = demanded.into_iter().flat_map(str::split_ascii_whitespace);
    let mut merged: Vec<String> = demanded
        .filter(|wanted| !scopes.iter().any(|have| covers(have, wanted)))
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

    #[test]
    fn merges_what_is_demanded_in_front() {
        let own = ["repository:a/b:pull,push".to_owned()];
        assert_eq!(merge(&own, Some("repository:a/b:pull")), own);
        assert_eq!(merge(&own, None), own);
        let more = merge(&own, Some("repository:c:pull"));
        assert_eq!(more, ["repository:c:pull", "repository:a/b:pull,push"]);
    }

    #[test]
    fn authorization_is_not_shown() {
        let header = basic("user", &Secret::new("password".to_owned())).unwrap();
        assert_eq!(format!("{header:?}"), "Sensitive");
    }
}
