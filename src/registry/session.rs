//! Requests to one repository of one registry: authorised, redirected, tried again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::Url;
use tokio::sync::Semaphore;

use super::answer::Answer;
use super::auth::{self, Freshness, Need, Pass, Refusal, Refused};
use super::body::Upload;
use super::challenge::{self, Bearer, Challenge};
use super::connections::{Connection, Connections};
use super::growing::Tail;
use super::host::{Access, Host};
use super::pace::{Cap, Lane};
use super::retry::Budget;
use super::throttle::Throttle;
use super::token::{self, Grants, TokenServer};
use super::{
    ClientOptions, Endpoint, Error, HostsError, Reach, Result, Role, limits, location, spread,
    warning,
};
use crate::event::Event;
use crate::image::{RegistryName, Repository};

/// Redirects followed for one request; registries use one or two.
pub(super) const MAX_REDIRECTS: usize = 10;

/// How often one request is authorised anew: for the challenge, for a scope that it demands, and
/// for a token that ended on the way.
const MAX_RENEWALS: usize = 3;

/// The longest scope that a challenge may demand. It goes into a URL, which servers bound as well.
const MAX_SCOPE_BYTES: usize = 4 << 10;

/// What all clones of a client share.
pub(super) struct Shared {
    pub(super) options: ClientOptions,
    pub(super) connections: Connections,
    /// Bounds what moves at once with all registries together.
    cap: Arc<Cap>,
    /// Holds transfers back to the rate that is allowed.
    pub(super) throttle: Arc<Throttle>,
    /// Where parts of blobs wait that came before it was their turn.
    pub(super) rooms: Arc<Semaphore>,
    hosts: Mutex<HashMap<HostKey, Arc<Host>>>,
    /// The warnings that the user has heard.
    said: Mutex<HashSet<String>>,
}

/// What tells hosts apart: two ways to reach one registry are two hosts.
type HostKey = (RegistryName, Result<Reach, HostsError>);

impl Shared {
    pub(super) fn new(options: ClientOptions) -> Self {
        let (ca_files, user_agent) = (options.ca_files.clone(), options.user_agent.clone());
        let connections = Connections::new(ca_files, user_agent, options.reachable);
        let cap = Arc::new(Cap::new(options.concurrency));
        let throttle = Arc::new(Throttle::new(options.bytes_per_second));
        Self {
            options,
            connections,
            cap,
            throttle,
            rooms: Arc::new(Semaphore::new(spread::ROOMS)),
            hosts: Mutex::default(),
            said: Mutex::default(),
        }
    }

    fn host(&self, endpoint: &Endpoint) -> Arc<Host> {
        let (name, reach) = (endpoint.repository.registry.clone(), endpoint.reach.clone());
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Host::new(name.clone(), reach.clone(), &self.cap);
        let key = (name.clone(), reach.clone());
        Arc::clone(hosts.entry(key).or_insert_with(|| Arc::new(make())))
    }

    /// Tells the user what they should know, once.
    pub(super) fn warn_once(&self, text: String) {
        let is_new = self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone());
        if is_new {
            self.options.events.emit(Event::Warning { text });
        }
    }

    /// Returns the HTTP client for `url`, to which `host` has led.
    pub(super) async fn client_for(
        &self,
        url: &Url,
        host: &Host,
        access: &Access,
        strand: usize,
    ) -> Result<reqwest::Client> {
        let connection = host.connection(url, access, &self.options.hosts)?;
        self.connections.client(url, Connection { strand, ..connection }).await
    }
}

/// What a request carries.
#[derive(Clone)]
pub(super) enum Body {
    Empty,
    Bytes(Bytes),
    Blob(Arc<Upload>),
    Growing(Arc<Tail>),
}

/// A request, complete but for its authorisation. It can be sent any number of times.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) scopes: Vec<String>,
    /// Which connection it uses; see [`Connection`].
    pub(super) strand: usize,
}

impl Request {
    pub(super) fn new(method: Method, url: Url, scopes: Vec<String>) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Body::Empty, scopes, strand: 0 }
    }

    /// Returns how sure it has to be that the token has not ended when this is sent.
    fn freshness(&self) -> Freshness {
        match self.body {
            Body::Empty | Body::Bytes(_) => Freshness::Believed,
            Body::Blob(_) | Body::Growing(_) => Freshness::Told,
        }
    }

    /// Returns what people are told is being tried.
    fn what(&self) -> String {
        format!("{} {}", self.method, location::redacted(&self.url))
    }
}

/// What a session is for; those who read and those who write may have different credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To read.
    Read,
    /// To write, and to read what a write has to know.
    Write,
}

/// One repository of one registry.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) host: Arc<Host>,
    pub(super) repository: Repository,
    pub(super) purpose: Purpose,
    pub(super) role: Role,
}

impl Session {
    pub(super) fn new(shared: &Arc<Shared>, endpoint: Endpoint, purpose: Purpose) -> Self {
        let host = shared.host(&endpoint);
        let Endpoint { repository, role, .. } = endpoint;
        Self { shared: Arc::clone(shared), host, repository, purpose, role }
    }

    /// Returns a fresh budget of tries: a small one for a mirror, behind which there is another
    /// place to ask.
    pub(super) fn budget(&self) -> Budget {
        let policy = self.shared.options.retry;
        Budget::new(match self.role {
            Role::Origin => policy,
            Role::Mirror => policy.of_mirror(),
        })
    }

    /// Says that a mirror served what `key`, a tag or digest, names.
    pub(super) fn served(&self, key: impl std::fmt::Display) {
        if self.role == Role::Mirror {
            let (mirror, content) = (self.repository.to_string(), key.to_string());
            tracing::debug!(mirror, content, "served by a mirror");
            self.shared.options.events.emit(Event::ServedByMirror { mirror, content });
        }
    }

    /// Returns the scope for `actions` (`pull` or `pull,push`) on the repository.
    pub(super) fn scope(&self, actions: &str) -> String {
        format!("repository:{}:{actions}", self.repository.name)
    }

    /// Returns the URL of `path` below the repository.
    pub(super) async fn url(&self, path: &str) -> Result<Url> {
        self.registry_url(&format!("{}/{path}", self.repository.name)).await
    }

    /// Returns the URL of `path` below the registry's `/v2/`.
    pub(super) async fn registry_url(&self, path: &str) -> Result<Url> {
        let access = self.host.access(&self.shared).await?;
        access.join(path).ok_or_else(|| Error::Protocol {
            method: Method::GET,
            url: path.to_owned(),
            reason: "the repository's name makes no URL",
        })
    }

    /// Sends a request of `path` until it succeeds, fails for good, or the budget is spent.
    /// Returns whatever answer there is that is not transient.
    pub(super) async fn send_with_retries(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        actions: &str,
        budget: &mut Budget,
    ) -> Result<Answer> {
        loop {
            let failed = match self.url(path).await {
                Ok(url) => {
                    let mut request = Request::new(method.clone(), url, vec![self.scope(actions)]);
                    request.headers = headers.clone();
                    match self.send(&request).await {
                        Ok(answer) if may_pass(&answer) => answer.into_error().await,
                        Ok(answer) => return Ok(answer),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            let what = format!("{method} {}/{path}", self.repository);
            budget.wait(&what, failed, &*self.shared.options.events).await?;
        }
    }

    /// Asks for the API's version, which only whom the registry knows is told.
    pub(super) async fn check(&self) -> Result<()> {
        let mut budget = self.budget();
        loop {
            let error = match self.try_check().await {
                Ok(answer) => match answer.expect_success().await {
                    Ok(_) => return Ok(()),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            let what = format!("GET {}/v2/", self.host.name);
            budget.wait(&what, error, &*self.shared.options.events).await?;
        }
    }

    /// Returns the `Authorization` of a request for `actions` on the repository; `None` when the
    /// registry asks for none.
    pub(super) async fn authorization(&self, actions: &str) -> Result<Option<HeaderValue>> {
        let mut budget = self.budget();
        loop {
            let error = match self.try_authorization(actions).await {
                Ok(header) => return Ok(header),
                Err(error) => error,
            };
            let what = format!("GET {}/v2/", self.host.name);
            budget.wait(&what, error, &*self.shared.options.events).await?;
        }
    }

    async fn try_authorization(&self, actions: &str) -> Result<Option<HeaderValue>> {
        let access = self.host.access(&self.shared).await?;
        self.host.ask_for_challenge(&self.shared, access).await?;
        let need = self.need(access, Freshness::Told, vec![self.scope(actions)]);
        let pass = self.host.auth.authorize(&need, None).await?;
        Ok(pass.map(|pass| pass.header.clone()))
    }

    fn need<'a>(
        &'a self,
        access: &'a Access,
        freshness: Freshness,
        scopes: Vec<String>,
    ) -> Need<'a> {
        let Self { shared, host, repository, purpose, role: _ } = self;
        Need { shared, host, access, repository, purpose: *purpose, freshness, scopes }
    }

    async fn try_check(&self) -> Result<Answer> {
        let access = self.host.access(&self.shared).await?;
        let url = access.join("").expect("the root joins");
        let answer = self.send(&Request::new(Method::GET, url, Vec::new())).await?;
        if location::is_same_origin(&answer.url, &access.base) {
            return Ok(answer);
        }
        // No login was sent there, so that its answer says nothing about one.
        Err(answer.protocol("another server answers for the registry"))
    }

    /// Waits before `request` is tried again after `error`, or returns it.
    pub(super) async fn wait(
        &self,
        request: &Request,
        error: Error,
        budget: &mut Budget,
    ) -> Result<()> {
        budget.wait(&request.what(), error, &*self.shared.options.events).await
    }

    /// Sends a request, when the registry is ready for one, and returns whatever answer comes.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer> {
        // A long body has a place of its own, which it may keep while it waits for its writer.
        let _permit = match request.body {
            Body::Empty | Body::Bytes(_) => Some(self.host.pace.enter(Lane::Requests).await),
            Body::Blob(_) | Body::Growing(_) => None,
        };
        self.host.opened(&*self.shared.options.events).await;
        let epoch = self.host.pace.epoch();
        let sent = self.send_now(request).await;
        self.host.heed(sent.as_ref(), epoch, &self.shared.options.retry);
        sent
    }

    /// Sends a request and returns whatever answer comes.
    ///
    /// With what is known of the registry's wishes it is authorised at once. Case 401: the
    /// challenge is taken from the answer, or from `/v2/` when it has none, and the request is
    /// sent once more, if that can make a difference; again when the new token turns out to be too
    /// narrow, or had ended on the way. Case 403 after the same token worked: it may have ended.
    /// Credentials only go to the registry's own origin.
    async fn send_now(&self, request: &Request) -> Result<Answer> {
        let access = self.host.access(&self.shared).await?;
        let auth = &self.host.auth;
        let scopes = auth.scopes(&request.method, &request.scopes);
        let mut need = self.need(access, request.freshness(), scopes);
        let mut turn = self.host.first_turn().await;
        let mut pass = auth.authorize(&need, None).await?;
        let mut answer = self.follow(request, access, &request.url, pass.as_deref()).await?;
        for round in 0..MAX_RENEWALS {
            if !location::is_same_origin(&answer.url, &access.base) {
                self.host.has_answered(turn.take());
                return self.ask_elsewhere(request, access, answer).await;
            }
            if answer.status() == StatusCode::FORBIDDEN && limits::is_limit(answer.headers()) {
                break;
            }
            let challenge = challenge::choose(answer.headers(), &answer.url);
            let refusal = refusal(answer.status(), challenge.as_ref(), pass.as_deref(), &need);
            let Some(refusal) = refusal else { break };
            if round > 0 && !is_news(challenge.as_ref(), pass.as_deref(), &need.scopes) {
                break;
            }
            self.learn(&answer, challenge, refusal, &mut need).await?;
            self.host.has_answered(turn.take());
            let refused = pass.clone().map(|pass| Refused { pass, refusal });
            let next = auth.authorize(&need, refused.as_ref()).await?;
            if next.as_ref().map(Arc::as_ptr) == pass.as_ref().map(Arc::as_ptr) {
                return Ok(answer);
            }
            pass = next;
            answer = self.follow(request, access, &request.url, pass.as_deref()).await?;
        }
        self.host.has_answered(turn.take());
        if answer.status().is_success() {
            if let Some(pass) = &pass {
                pass.works();
            }
            if need.scopes != request.scopes {
                auth.remember_scopes(&request.method, &request.scopes, need.scopes);
            }
        }
        Ok(answer)
    }

    /// Takes from a refusal what the registry wants to see.
    async fn learn(
        &self,
        answer: &Answer,
        challenge: Option<Challenge>,
        refusal: Refusal,
        need: &mut Need<'_>,
    ) -> Result<()> {
        match challenge {
            Some(challenge) => {
                if let Challenge::Bearer(bearer) = &challenge {
                    need.scopes = auth::merge(&need.scopes, demanded(answer, bearer)?);
                }
                self.host.auth.remember(challenge);
            }
            None if refusal == Refusal::Unauthorized => {
                tracing::debug!(url = location::redacted(&answer.url), "no challenge in a 401");
                self.host.ask_for_challenge(&self.shared, need.access).await?;
            }
            None => {}
        }
        Ok(())
    }

    /// Answers the challenge of another origin, to which a redirect has led: with a token that
    /// anybody gets there, or not at all.
    async fn ask_elsewhere(
        &self,
        request: &Request,
        access: &Access,
        answer: Answer,
    ) -> Result<Answer> {
        let is_read = matches!(request.method, Method::GET | Method::HEAD);
        let challenge = challenge::choose(answer.headers(), &answer.url);
        let (StatusCode::UNAUTHORIZED, true, Some(Challenge::Bearer(bearer))) =
            (answer.status(), is_read, challenge)
        else {
            return Ok(answer);
        };
        let url = answer.url.clone();
        let scopes = auth::merge(&[], demanded(&answer, &bearer)?);
        let (shared, host, bearer) = (&*self.shared, &*self.host, &bearer);
        let server = TokenServer { shared, host, access, base: &url, bearer };
        match token::fetch(&server, &scopes, None, &Grants::default()).await {
            Ok(pass) => self.follow(request, access, &url, Some(&pass)).await,
            Err(error) => {
                tracing::debug!(%error, "no token for anybody");
                Ok(answer)
            }
        }
    }

    /// Sends a request to `url` and follows redirects by hand, so that credentials stay at home and
    /// long bodies are opened again. `pass` is for the registry, or for `url` when that is elsewhere
    /// and the request was made for the registry.
    async fn follow(
        &self,
        request: &Request,
        access: &Access,
        url: &Url,
        pass: Option<&Pass>,
    ) -> Result<Answer> {
        let home = if *url == request.url { &access.base } else { url };
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let header = pass.map(|pass| &pass.header);
            let header = header.filter(|_| location::is_same_origin(&url, home));
            let answer = self.exchange(request, &url, access, header).await?;
            if location::is_same_origin(&url, &access.base) {
                self.host.manner.notice(answer.headers());
                for text in warning::texts(answer.headers()) {
                    self.shared.warn_once(format!("registry `{}` says: {text}", self.host.name));
                }
            }
            let follows = match answer.status().as_u16() {
                307 | 308 => true,
                301..=303 => matches!(request.method, Method::GET | Method::HEAD),
                _ => false,
            };
            if !follows {
                return Ok(answer);
            }
            let Some(target) = location::of(answer.headers(), &url) else {
                return Err(answer.protocol("the redirect says nowhere to go"));
            };
            location::check(&url, &target)?;
            url = target;
        }
        let (method, url) = (request.method.clone(), location::redacted(&request.url));
        Err(Error::Protocol { method, url, reason: "the redirects do not end" })
    }

    async fn exchange(
        &self,
        request: &Request,
        url: &Url,
        access: &Access,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer> {
        let client = self.shared.client_for(url, &self.host, access, request.strand).await?;
        let mut builder = client.request(request.method.clone(), url.clone());
        if location::is_same_origin(url, &access.base) {
            builder = builder.headers(self.host.headers());
        }
        // These take the place of what settings give.
        builder = builder.headers(request.headers.clone());
        if let Some(header) = authorization {
            builder = builder.headers(HeaderMap::from_iter([(AUTHORIZATION, header.clone())]));
        }
        let (method, url) = (request.method.clone(), url.clone());
        let patience = self.shared.options.retry.idle_timeout;
        match &request.body {
            // A POST or PUT without a body says so; some registries insist.
            Body::Empty if matches!(method, Method::POST | Method::PUT) => {
                Answer::wait(builder.header(CONTENT_LENGTH, 0), method, url, patience).await
            }
            Body::Empty => Answer::wait(builder, method, url, patience).await,
            Body::Bytes(bytes) => {
                Answer::wait(builder.body(bytes.clone()), method, url, patience).await
            }
            Body::Blob(upload) => upload.send(builder, method, url, patience).await,
            Body::Growing(tail) => tail.send(builder, method, url, patience).await,
        }
    }
}

/// Returns the scope that a challenge demands, which must be one that can be asked for.
fn demanded<'a>(answer: &Answer, bearer: &'a Bearer) -> Result<Option<&'a str>> {
    match bearer.scope.as_deref() {
        Some(scope) if scope.len() > MAX_SCOPE_BYTES => {
            Err(answer.protocol("the registry demands a token for a scope of more than 4 KiB"))
        }
        scope => Ok(scope),
    }
}

/// Returns how an answer refuses what a request was sent with, when another may help.
///
/// A 403 means a token that has ended only where the token worked before; a body that is dear to
/// send again follows a request that would have found that out.
fn refusal(
    status: StatusCode,
    challenge: Option<&Challenge>,
    pass: Option<&Pass>,
    need: &Need<'_>,
) -> Option<Refusal> {
    let is_insufficient = matches!(challenge, Some(Challenge::Bearer(it)) if it.is_insufficient);
    match status {
        StatusCode::UNAUTHORIZED => Some(Refusal::Unauthorized),
        StatusCode::FORBIDDEN if is_insufficient => Some(Refusal::Unauthorized),
        StatusCode::FORBIDDEN
            if need.freshness == Freshness::Believed && pass.is_some_and(Pass::has_worked) =>
        {
            Some(Refusal::Forbidden)
        }
        _ => None,
    }
}

/// Returns whether a refusal of what was just got says more than the one before: a scope that was
/// not asked for, or the end of a token that lives for moments.
fn is_news(challenge: Option<&Challenge>, pass: Option<&Pass>, scopes: &[String]) -> bool {
    let demands_more = matches!(challenge, Some(Challenge::Bearer(bearer))
        if auth::merge(scopes, bearer.scope.as_deref()).len() > scopes.len());
    demands_more || pass.is_some_and(|pass| pass.has_ended(Freshness::Told))
}

/// Returns whether an answer may be a failure that passes. What refuses the content of a `HEAD`
/// may be only that, and has no body to look into.
pub(super) fn may_pass(answer: &Answer) -> bool {
    is_worth_repeating(answer.status())
        || answer.status() == StatusCode::FORBIDDEN
            && (answer.method != Method::HEAD || limits::is_limit(answer.headers()))
}

/// Returns whether an answer of that status is treated as a failure that may pass.
pub(super) fn is_worth_repeating(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502..=504)
}
