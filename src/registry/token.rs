//! Tokens from token servers (distribution, spec/auth/token.md and oauth.md).
//!
//! By the case. Nobody, or a user with a password: a `GET`, with the password as basic credentials;
//! where the server knows no `GET`, a `POST` of grant type `password`. An identity token: a `POST`
//! of grant type `refresh_token`; where the server knows no `POST`, a `GET` in which the identity
//! token stands for the password. A refresh token that comes with an answer is used from then on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use reqwest::Url;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use url::form_urlencoded;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::answer::Answer;
use super::auth::{Life, Pass};
use super::challenge::Bearer;
use super::host::{Access, Host};
use super::location::{self, redacted};
use super::session::Shared;
use super::{Error, Result};
use crate::credentials::{Credential, Secret};

/// What a token without `expires_in` lives for, and the least that one is believed to.
const LEAST_LIFETIME: Duration = Duration::from_secs(60);
/// A server's nonsense must not overflow the clock.
const MOST_LIFETIME: Duration = Duration::from_secs(86_400);
/// A token is renewed this long before its end, because clocks and networks differ; a short-lived
/// one after three quarters of its life.
const MARGIN: Duration = Duration::from_secs(10);
/// Most that is read of a token server's answer.
const MAX_TOKEN_BYTES: u64 = 1 << 20;
/// Most refresh tokens that are remembered to have been replaced.
const MAX_RENEWED: usize = 64;
/// The user name that stands for an identity token where a password is wanted (docker/cli).
const TOKEN_USERNAME: &str = "<token>";
/// How rpub calls itself to token servers.
const CLIENT_ID: &str = "rpub";

/// A token server, and who sends there.
pub(super) struct TokenServer<'a> {
    pub(super) shared: &'a Shared,
    pub(super) host: &'a Host,
    pub(super) access: &'a Access,
    /// The origin whose challenge names it.
    pub(super) base: &'a Url,
    pub(super) bearer: &'a Bearer,
}

/// What is known of a token server's ways.
#[derive(Default)]
pub(super) struct Grants {
    /// Whether it knows no `GET`.
    refuses_get: AtomicBool,
    /// Identity tokens and what replaced each.
    renewed: Mutex<Vec<(Secret, Secret)>>,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
}

/// Gets a token for `scopes`.
pub(super) async fn fetch(
    server: &TokenServer<'_>,
    scopes: &[String],
    credential: Option<&Credential>,
    grants: &Grants,
) -> Result<Pass> {
    let realm = realm(server.base, &server.bearer.realm, server.host.may_be_plain())?;
    let begun = Instant::now();
    let mut answer = match credential {
        Some(Credential::IdentityToken(token)) => {
            return by_identity_token(server, &realm, scopes, token, grants).await;
        }
        Some(Credential::Basic { username, password }) => {
            by_password(server, &realm, scopes, (username, password), grants).await?
        }
        Some(Credential::RegistryToken(_)) | None => {
            get(server, &realm, scopes, None).await?.expect_success().await?
        }
    };
    read_token(&mut answer).await?.pass(&answer, begun)
}

async fn by_password(
    server: &TokenServer<'_>,
    realm: &Url,
    scopes: &[String],
    login: (&str, &Secret),
    grants: &Grants,
) -> Result<Answer> {
    if !grants.refuses_get.load(Ordering::Relaxed) {
        let answer = get(server, realm, scopes, Some(login)).await?;
        if !is_unknown(answer.status()) {
            return answer.expect_success().await;
        }
    }
    let (username, password) = login;
    let form =
        [("grant_type", "password"), ("username", username), ("password", password.expose())];
    let answer = post(server, realm, scopes, &form).await?.expect_success().await?;
    grants.refuses_get.store(true, Ordering::Relaxed);
    Ok(answer)
}

/// Exchanges an identity token, or what replaced it. When another task has replaced it meanwhile,
/// the exchange is tried again with the new one.
async fn by_identity_token(
    server: &TokenServer<'_>,
    realm: &Url,
    scopes: &[String],
    identity: &Secret,
    grants: &Grants,
) -> Result<Pass> {
    let mut used = grants.newest(identity);
    loop {
        let begun = Instant::now();
        let form = [("grant_type", "refresh_token"), ("refresh_token", used.expose())];
        let answer = post(server, realm, scopes, &form).await?;
        let mut answer = match answer.status() {
            status if is_unknown(status) => {
                let login = Some((TOKEN_USERNAME, &used));
                get(server, realm, scopes, login).await?.expect_success().await?
            }
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED
                if grants.newest(identity) != used =>
            {
                used = grants.newest(identity);
                continue;
            }
            _ => answer.expect_success().await?,
        };
        let mut parsed = read_token(&mut answer).await?;
        if let Some(newer) = parsed.refresh_token.take().filter(|text| !text.is_empty()) {
            grants.replace(identity, Secret::new(newer));
        }
        return parsed.pass(&answer, begun);
    }
}

async fn get(
    server: &TokenServer<'_>,
    realm: &Url,
    scopes: &[String],
    login: Option<(&str, &Secret)>,
) -> Result<Answer> {
    let service = &server.bearer.service;
    let mut url = realm.clone();
    if service.is_some() || login.is_some() || !scopes.is_empty() {
        // Appends to what the realm has.
        let mut query = url.query_pairs_mut();
        query.extend_pairs(service.iter().map(|service| ("service", service)));
        query.extend_pairs(login.iter().map(|(username, _)| ("account", username)));
        query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
    }
    let client = server.shared.client_for(&url, server.host, server.access, 0).await?;
    let mut request = client.get(url.clone());
    if let Some(header) = login.and_then(|(username, password)| basic(username, password)) {
        request = request.header(AUTHORIZATION, header);
    }
    Answer::wait(request, Method::GET, url, server.shared.options.retry.idle_timeout).await
}

async fn post(
    server: &TokenServer<'_>,
    realm: &Url,
    scopes: &[String],
    grant: &[(&str, &str)],
) -> Result<Answer> {
    let scope = scopes.join(" ");
    let mut fields = vec![("client_id", CLIENT_ID)];
    fields.extend(server.bearer.service.iter().map(|service| ("service", service.as_str())));
    fields.extend((!scope.is_empty()).then_some(("scope", scope.as_str())));
    fields.extend_from_slice(grant);
    let form = form(&fields);
    let client = server.shared.client_for(realm, server.host, server.access, 0).await?;
    let request = client
        .post(realm.clone())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Bytes::from_owner(form));
    let patience = server.shared.options.retry.idle_timeout;
    Answer::wait(request, Method::POST, realm.clone(), patience).await
}

fn form(fields: &[(&str, &str)]) -> Zeroizing<String> {
    // Large enough for every character to be escaped: a buffer that grows leaves copies behind.
    let size = fields.iter().map(|(name, value)| name.len() + 3 * value.len() + 2).sum();
    let mut form = form_urlencoded::Serializer::new(String::with_capacity(size));
    Zeroizing::new(form.extend_pairs(fields).finish())
}

/// Returns whether the server does not know that kind of request.
fn is_unknown(status: StatusCode) -> bool {
    matches!(status.as_u16(), 404 | 405 | 501)
}

async fn read_token(answer: &mut Answer) -> Result<TokenAnswer> {
    let body = answer.read(MAX_TOKEN_BYTES).await?;
    let parsed = serde_json::from_slice(&body);
    if let Ok(mut body) = body.try_into_mut() {
        body.as_mut().zeroize();
    }
    parsed.map_err(|_| answer.protocol("the token server's answer holds no token"))
}

impl TokenAnswer {
    /// Returns what requests are sent with; `begun` is when the token was asked for.
    fn pass(&self, answer: &Answer, begun: Instant) -> Result<Pass> {
        let texts = [&self.token, &self.access_token];
        let text = texts.into_iter().flatten().find(|text| !text.is_empty());
        let header = text.and_then(|text| bearer(text));
        let header =
            header.ok_or_else(|| answer.protocol("the token server's answer holds no token"))?;
        Ok(Pass::new(header, Some(life(self.expires_in, begun))))
    }
}

/// Returns how long a token is used that was asked for at `begun` and said to live for so many
/// seconds. `issued_at` is left alone: it is of another clock.
fn life(expires_in: Option<u64>, begun: Instant) -> Life {
    let told = expires_in.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let told = told.unwrap_or(LEAST_LIFETIME).min(MOST_LIFETIME);
    let end = |life: Duration| begun + life.saturating_sub(MARGIN.min(life / 4));
    Life { told: end(told), believed: end(told.max(LEAST_LIFETIME)) }
}

/// Reads `expires_in`, which some servers write as a text or with a fraction.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Ok(text.split('.').next().and_then(|whole| whole.trim().parse().ok()))
}

impl Grants {
    fn newest(&self, identity: &Secret) -> Secret {
        let renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let found = renewed.iter().find(|(first, _)| first == identity);
        found.map_or(identity, |(_, newest)| newest).clone()
    }

    fn replace(&self, identity: &Secret, newer: Secret) {
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        renewed.retain(|(first, _)| first != identity);
        if renewed.len() >= MAX_RENEWED {
            renewed.remove(0);
        }
        renewed.push((identity.clone(), newer));
    }
}

/// Returns the token server that `base` names, when credentials may go there.
fn realm(base: &Url, realm: &str, is_insecure: bool) -> Result<Url> {
    let Ok(mut realm) = Url::parse(realm) else {
        let (method, url) = (Method::GET, redacted(base));
        return Err(Error::Protocol { method, url, reason: "its token server is not a URL" });
    };
    // Only URLs that cannot have them refuse.
    let _ = realm.set_username("");
    let _ = realm.set_password(None);
    realm.set_fragment(None);
    location::check(base, &realm)?;
    let is_near = realm.host() == base.host() || location::is_loopback(&realm) || is_insecure;
    if realm.scheme() != "https" && !(realm.scheme() == "http" && is_near) {
        let reason = "rpub asks for tokens of another host by https only";
        return Err(Error::Redirect { url: redacted(base), target: redacted(&realm), reason });
    }
    Ok(realm)
}

/// Returns the `Authorization` of a user.
pub(super) fn basic(username: &str, password: &Secret) -> Option<HeaderValue> {
    let size = username.len() + password.expose().len() + 1;
    let mut plain = Zeroizing::new(String::with_capacity(size));
    plain.extend([username, ":", password.expose()]);
    let mut text = Zeroizing::new(String::with_capacity("Basic ".len() + size.div_ceil(3) * 4));
    text.push_str("Basic ");
    STANDARD.encode_string(plain.as_bytes(), &mut text);
    sensitive(text)
}

/// Returns the `Authorization` of whoever has the token.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    let mut text = Zeroizing::new(String::with_capacity("Bearer ".len() + token.len()));
    text.extend(["Bearer ", token]);
    sensitive(text)
}

/// Returns a header that `Debug` does not show, wiped when its last copy is dropped; `None` for a
/// secret that no header can carry.
fn sensitive(text: Zeroizing<String>) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(text)).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorization_is_not_shown() {
        let header = basic("user", &Secret::new("password".to_owned())).unwrap();
        assert_eq!(format!("{header:?}"), "Sensitive");
        assert_eq!(header.as_bytes(), b"Basic dXNlcjpwYXNzd29yZA==");
        assert_eq!(bearer("a.b").unwrap().as_bytes(), b"Bearer a.b");
        assert_eq!(bearer("a\nb"), None);
    }

    /// Wire row A3: https stays https, and a registry elsewhere does not name an address of a
    /// private network, nor plain HTTP of another host.
    #[test]
    fn tokens_are_not_asked_for_anywhere() {
        let asked = |base: &str, text: &str, is_insecure| {
            realm(&Url::parse(base).unwrap(), text, is_insecure).map(String::from).ok()
        };
        let of = |text: &str| asked("https://r.example/", text, false);
        let is = |text: &str, url: &str| assert_eq!(of(text).as_deref(), Some(url), "{text}");
        is("https://auth.example/t?account=x", "https://auth.example/t?account=x");
        is("https://u:p@auth.example/t#f", "https://auth.example/t");
        for refused in [
            "http://r.example/t",
            "http://auth.example/t",
            "https://127.0.0.1/t",
            "https://localhost/t",
            "https://10.1.2.3/t",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/t",
            "https://[fd00::1]/t",
            "file:///etc/passwd",
            "token",
        ] {
            assert_eq!(of(refused), None, "{refused}");
            assert!(asked("https://r.example/", refused, true).is_none(), "{refused}");
        }
        let local = asked("http://127.0.0.1:5000/", "http://127.0.0.1:5001/t", false);
        assert_eq!(local.as_deref(), Some("http://127.0.0.1:5001/t"));
        assert_eq!(asked("http://r.example/", "http://auth.example/t", false), None);
        assert!(asked("http://r.example/", "http://auth.example/t", true).is_some());
        assert!(asked("https://10.0.0.1/", "https://10.0.0.1:8443/t", false).is_some());
    }

    /// Wire row A11: 60 seconds without a word, at least 60 believed, renewed early.
    #[test]
    fn tokens_are_renewed_before_their_end() {
        let begun = Instant::now();
        let lives = |expires_in| {
            let life = life(expires_in, begun);
            (life.told.duration_since(begun), life.believed.duration_since(begun))
        };
        let seconds = Duration::from_secs;
        assert_eq!(lives(None), (seconds(50), seconds(50)));
        assert_eq!(lives(Some(0)), (seconds(50), seconds(50)));
        assert_eq!(lives(Some(300)), (seconds(290), seconds(290)));
        assert_eq!(lives(Some(2)), (Duration::from_millis(1500), seconds(50)));
        assert_eq!(lives(Some(u64::MAX)).0, seconds(86_390));
    }

    /// Wire row A11: `expires_in` in every form that servers write.
    #[test]
    fn lifetimes_are_read_leniently() {
        let read = |text: &str| {
            let body = format!(r#"{{"token":"t","expires_in":{text}}}"#);
            serde_json::from_str::<TokenAnswer>(&body).unwrap().expires_in
        };
        assert_eq!(read("300"), Some(300));
        assert_eq!(read("\"300\""), Some(300));
        assert_eq!(read("300.5"), Some(300));
        assert_eq!(read("-1"), None);
        assert_eq!(read("null"), None);
        assert_eq!(read("[]"), None);
    }
}
