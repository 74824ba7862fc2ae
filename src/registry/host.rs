//! What is known about one registry: how to reach it, what it asks for, how much may move at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use reqwest::Url;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::answer::{Answer, transport};
use super::auth::Auth;
use super::challenge;
use super::connections::{Connection, Route, Security};
use super::hosts::{Reach, TlsFiles, authority};
use super::limits::{self, RateLimit};
use super::location::{self, redacted};
use super::manner::Manner;
use super::pace::{Cap, Epoch, Pace};
use super::session::Shared;
use super::{Error, Hosts, HostsError, Result, RetryPolicy, retry};
use crate::event::{Event, Sink};
use crate::image::RegistryName;

/// What an answer to `GET /v2/` shows that comes from a registry.
const API_VERSION: &str = "docker-distribution-api-version";
/// How long finding out whether a registry speaks TLS may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// One registry.
pub(super) struct Host {
    pub(super) name: RegistryName,
    /// How settings want it to be reached, or why it must not be.
    reach: Result<Reach, HostsError>,
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
    /// The API's root, mostly `v2/` at the base.
    root: Url,
    /// The registry that the host is told to stand in for.
    namespace: Option<RegistryName>,
}

impl Access {
    /// Returns the URL of `path` below the API's root; `None` when it makes none.
    pub(super) fn join(&self, path: &str) -> Option<Url> {
        let mut url = self.root.join(path).ok()?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace.as_str());
        }
        Some(url)
    }
}

impl Host {
    pub(super) fn new(
        name: RegistryName,
        reach: Result<Reach, HostsError>,
        cap: &Arc<Cap>,
    ) -> Self {
        Self {
            manner: Manner::new(name.clone()),
            name,
            reach,
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

    /// Returns whether the user allows what is sent to be read on its way.
    pub(super) fn may_be_plain(&self) -> bool {
        self.reach.as_ref().is_ok_and(|reach| reach.transport.may_be_plain())
    }

    /// Returns the headers that requests to it carry beside those of the protocol.
    pub(super) fn headers(&self) -> HeaderMap {
        self.reach.as_ref().map(|reach| reach.headers.to_map()).unwrap_or_default()
    }

    /// Returns what connections to `url`, to which this host has led, are made by.
    ///
    /// The host's own settings count for its own origin. Elsewhere, as for the token server, its
    /// authorities are trusted, but its client certificate is not shown.
    pub(super) fn connection(
        &self,
        url: &Url,
        access: &Access,
        hosts: &Hosts,
    ) -> Result<Connection> {
        let mut connection = Connection::to(url, hosts);
        let reach = self.settings()?;
        if location::is_same_origin(url, &access.base) {
            connection.security = access.security;
            connection.tls = reach.tls.clone();
        } else {
            let is_unverified = reach.transport.ways(false).contains(&Security::Unverified);
            if connection.security == Security::Plain {
                return Ok(connection);
            }
            if is_unverified && url.host() == access.base.host() {
                connection.security = Security::Unverified;
            }
            connection.tls = hosts.certificates_at(url).map_err(Error::Hosts)?;
            connection.tls.authorities.extend_from_slice(&reach.tls.authorities);
        }
        if connection.security == Security::Plain {
            connection.tls = TlsFiles::default();
        }
        connection.connect_timeout = reach.connect_timeout.unwrap_or(connection.connect_timeout);
        if let Some(proxy) = &reach.proxy
            && connection.resolved.is_none()
        {
            connection.route = Route::Proxy(proxy.clone());
        }
        Ok(connection)
    }

    fn settings(&self) -> Result<&Reach> {
        self.reach.as_ref().map_err(|error| Error::Hosts(error.clone()))
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
        let reach = self.settings()?;
        let is_local = self.name.is_loopback();
        let chosen = match *reach.transport.ways(is_local) {
            [first, second] => self.choose(shared, first, second).await?,
            [only, ..] => only,
            [] => Security::Verified,
        };
        let how = match chosen {
            Security::Verified => None,
            Security::Unverified => Some("TLS without verifying its certificate"),
            Security::Plain => (!is_local).then_some("plain HTTP"),
        };
        if let Some(how) = how {
            shared.warn_once(format!("registry `{}` is used by {how}", self.name));
        }
        self.by(chosen)
    }

    async fn choose(&self, shared: &Shared, first: Security, second: Security) -> Result<Security> {
        let is_local = self.name.is_loopback();
        let has_port = self.name.host() != self.name.as_str();
        Ok(match self.probe(shared, self.by(first)?).await {
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
        })
    }

    fn by(&self, security: Security) -> Result<Access> {
        let scheme = if security == Security::Plain { "http" } else { "https" };
        let reach = self.settings()?;
        let (authority, root) = match &reach.base {
            Some(base) => (base.authority.as_str(), base.root.as_str()),
            None => (authority(&self.name), "/v2/"),
        };
        let text = format!("{scheme}://{authority}/");
        let urls = Url::parse(&text).and_then(|base| Ok((base.clone(), base.join(root)?)));
        let (base, root) = urls.map_err(|_| Error::Protocol {
            method: Method::GET,
            url: text.clone(),
            reason: "the registry's name makes no URL",
        })?;
        Ok(Access { base, security, root, namespace: reach.namespace.clone() })
    }

    /// Asks for the API's version, without credentials, and keeps the challenge.
    async fn probe(&self, shared: &Shared, access: Access) -> Result<Answer> {
        let url = access.root.clone();
        let client = shared.client_for(&url, self, &access, 0).await?;
        let request = client.get(url.clone()).headers(self.headers());
        let patience = PROBE_TIMEOUT.min(shared.options.retry.idle_timeout);
        let sent = tokio::time::timeout(patience, request.send()).await;
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
