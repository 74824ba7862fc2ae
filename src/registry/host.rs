//! What is known about one registry: how to reach it, what it asks for, how much may move at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use jiff::Timestamp;
use reqwest::Url;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::answer::{Answer, transport};
use super::auth::Auth;
use super::challenge;
use super::connections::{Route, Security};
use super::limits::{self, RateLimit};
use super::location::{self, redacted};
use super::manner::Manner;
use super::pace::{Cap, Epoch, Pace};
use super::session::Shared;
use super::{Error, Result, RetryPolicy, retry};
use crate::event::{Event, Sink};
use crate::image::{DEFAULT_REGISTRY, RegistryName};

/// Where Docker's registry answers.
pub(super) const DOCKER_HUB_HOST: &str = "registry-1.docker.io";
/// What an answer to `GET /v2/` shows that comes from a registry.
const API_VERSION: &str = "docker-distribution-api-version";
/// How long finding out whether a registry speaks TLS may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// One registry.
pub(super) struct Host {
    pub(super) name: RegistryName,
    pub(super) insecure: bool,
    access: OnceCell<Access>,
    pub(super) auth: Auth,
    /// How it wants to be treated.
    pub(super) manner: Manner,
    pub(super) pace: Pace,
    /// What the registry said last of its quota.
    quota: std::sync::Mutex<Option<RateLimit>>,
    /// Whether the registry has answered, so that its challenge is known if it has one.
    is_known: AtomicBool,
    first: Mutex<()>,
}

/// How a registry is reached.
#[derive(Debug, Clone)]
pub(super) struct Access {
    /// Scheme, host and port.
    pub(super) base: Url,
    pub(super) security: Security,
}

impl Host {
    pub(super) fn new(name: RegistryName, insecure: bool, cap: &Arc<Cap>) -> Self {
        Self {
            manner: Manner::new(name.clone()),
            name,
            insecure,
            access: OnceCell::new(),
            auth: Auth::default(),
            pace: Pace::new(cap),
            quota: std::sync::Mutex::default(),
            is_known: AtomicBool::new(false),
            first: Mutex::default(),
        }
    }

    /// Returns what the registry said last of its quota.
    pub(super) fn quota(&self) -> Option<RateLimit> {
        self.quota.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits while the registry has asked for a pause.
    pub(super) async fn opened(&self, events: &dyn Sink) {
        let name = self.name.to_string();
        self.pace.opened(|delay| events.emit(Event::Waiting { what: name.clone(), delay })).await;
    }

    /// Takes from an answer, or a failure, to a request of `epoch` what it says of limits: the
    /// whole registry is asked for less, or for nothing for a while.
    pub(super) fn heed(&self, sent: Result<&Answer, &Error>, epoch: Epoch, policy: &RetryPolicy) {
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                if matches!(error, Error::Transport { .. }) && retry::is_transient(error) {
                    self.pace.slow_down(epoch);
                }
                return;
            }
        };
        if let Some(quota) = RateLimit::read(answer.headers()) {
            *self.quota.lock().unwrap_or_else(PoisonError::into_inner) = Some(quota);
        }
        let is_busy = match answer.status() {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => true,
            StatusCode::FORBIDDEN => limits::is_limit(answer.headers()),
            _ => false,
        };
        if is_busy {
            self.pace.slow_down(epoch);
            let wait = limits::wait(answer.headers(), Timestamp::now());
            // Longer ones are an error, which says until when.
            if let Some(wait) = wait.filter(|wait| *wait <= policy.max_wait) {
                self.pace.pause(wait);
            }
        }
    }

    /// Waits while another request is the first one: each would see the same challenge. The guard
    /// is for [`Host::has_answered`]; `None` when the challenge, or that there is none, is known.
    pub(super) async fn first_turn(&self) -> Option<MutexGuard<'_, ()>> {
        if self.is_known.load(Ordering::Acquire) {
            return None;
        }
        let turn = self.first.lock().await;
        (!self.is_known.load(Ordering::Acquire)).then_some(turn)
    }

    /// Lets the others go on. A first request that failed drops its guard only.
    pub(super) fn has_answered(&self, turn: Option<MutexGuard<'_, ()>>) {
        self.is_known.store(true, Ordering::Release);
        drop(turn);
    }

    /// Returns how to reach the registry; asks it the first time when that is not certain.
    ///
    /// A registry elsewhere is reached by verified TLS. One on this machine mostly speaks plain
    /// HTTP, so that is asked first; a server that wants TLS answers 400 or hangs up, and is then
    /// asked by TLS. One that settings call insecure is asked by unverified TLS, then by HTTP.
    pub(super) async fn access(&self, shared: &Shared) -> Result<&Access> {
        self.access.get_or_try_init(async || self.find_access(shared).await).await
    }

    async fn find_access(&self, shared: &Shared) -> Result<Access> {
        let tls = if self.insecure { Security::Unverified } else { Security::Verified };
        let is_local = self.name.is_loopback();
        if !is_local && !self.insecure {
            return self.by(tls);
        }
        let has_port = self.name.host() != self.name.as_str();
        let (first, second) =
            if is_local { (Security::Plain, tls) } else { (tls, Security::Plain) };
        let chosen = match self.probe(shared, self.by(first)?).await {
            Ok(answer) if answer.status() != StatusCode::BAD_REQUEST => first,
            // Both schemes would use the same port.
            Err(error) if is_local && has_port && is_unreachable(&error) => return Err(error),
            // A server of TLS says 400 to plain HTTP, or sends what is not HTTP.
            other => match self.probe(shared, self.by(second)?).await {
                Ok(_) => second,
                Err(error) if is_certificate_error(&error) => return Err(error),
                Err(error) => match other {
                    Ok(_) => first,
                    Err(_) => return Err(error),
                },
            },
        };
        if self.insecure && !is_local {
            let how = if chosen == Security::Plain { "plain HTTP" } else { "unverified TLS" };
            let text = format!("registry `{}` is used by {how}", self.name);
            shared.options.events.emit(Event::Warning { text });
        }
        self.by(chosen)
    }

    fn by(&self, security: Security) -> Result<Access> {
        let scheme = if security == Security::Plain { "http" } else { "https" };
        let name = match self.name.as_str() {
            DEFAULT_REGISTRY => DOCKER_HUB_HOST,
            name => name,
        };
        let text = format!("{scheme}://{name}/");
        let base = Url::parse(&text).map_err(|_| Error::Protocol {
            method: Method::GET,
            url: text.clone(),
            reason: "the registry's name makes no URL",
        })?;
        Ok(Access { base, security })
    }

    /// Asks for the API's version, without credentials, and keeps the challenge.
    async fn probe(&self, shared: &Shared, access: Access) -> Result<Answer> {
        let url = access.base.join("v2/").expect("a constant path joins");
        let client = shared.connections.client(access.security, route(&url)).await?;
        let patience = PROBE_TIMEOUT.min(shared.options.retry.idle_timeout);
        let sent = tokio::time::timeout(patience, client.get(url.clone()).send()).await;
        let Ok(sent) = sent else {
            let (method, url) = (Method::GET, redacted(&url));
            return Err(Error::Stalled { method, url, after: patience });
        };
        let response = sent.map_err(|error| transport(&Method::GET, &url, error))?;
        let challenge = challenge::choose(response.headers(), &url);
        // Another server's 200 says nothing about what its other paths want.
        let is_open =
            response.status().is_success() && response.headers().contains_key(API_VERSION);
        if challenge.is_some() || is_open {
            self.is_known.store(true, Ordering::Release);
        }
        if let Some(challenge) = challenge {
            self.auth.remember(challenge);
        }
        let patience = shared.options.retry.idle_timeout;
        Ok(Answer::new(response, Method::GET, url, patience))
    }

    /// Asks for the API's version as anybody, and returns whatever answer comes.
    pub(super) async fn greet(&self, shared: &Shared) -> Result<Answer> {
        let access = self.access(shared).await?;
        self.probe(shared, access.clone()).await
    }

    /// Asks for the API's version only to learn the challenge: some registries refuse a request
    /// without saying what they want.
    pub(super) async fn ask_for_challenge(&self, shared: &Shared, access: &Access) -> Result<()> {
        self.probe(shared, access.clone()).await.map(drop)
    }
}

/// Returns whether a connection to `url` may use a proxy.
pub(super) fn route(url: &Url) -> Route {
    if location::is_loopback(url) { Route::Direct } else { Route::Proxied }
}

/// Returns whether nobody answered at all, which the other scheme would not change.
fn is_unreachable(error: &Error) -> bool {
    match error {
        Error::Transport { source, .. } => {
            source.is_connect() && retry::tls_error(source).is_none()
        }
        _ => true,
    }
}

fn is_certificate_error(error: &Error) -> bool {
    matches!(error, Error::Transport { source, .. } if retry::is_certificate(source))
}
