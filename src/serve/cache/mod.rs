//! The pull-through cache: what the store lacks is fetched from the registry that it is of, given to
//! the client meanwhile, and kept.
//!
//! **Manifests.** A digest never changes, so what is in the store is served without a question. A tag
//! is looked up by `HEAD` when that was not done for a while, and its manifest fetched when it is
//! new. Requests for one manifest take turns: however many clients, upstream is asked once.
//!
//! **Blobs.** A blob that is missing is fetched once, into the store; every client that wants it
//! reads the file while it grows, at its own pace. The last byte waits for the digest to be
//! verified. A fetch goes on when its clients go away, and on from where it was after a restart.
//!
//! **When upstream is away** (no answer, 5xx, 429, refusals), what is in the store is served all the
//! same, tags as they were last seen: the reply has a `Warning` header, and the server's user is
//! told once. Only an upstream that says that there is no such thing is believed at once.
//!
//! Clients cannot push. Whoever reaches the server reads what its credentials may read.

mod evict;
mod fetch;
mod fresh;
mod lists;
mod manifests;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::event::{Event, Sink};
use crate::image::{Digest, Reference, RegistryName, Repository};
use crate::store::Store;

use super::names::{self, Candidates};
use super::reply::{Code, Failure, Reply, With as _};
use super::upstream::{Asked, Upstream, UpstreamError, Why};
use fetch::Flights;
use fresh::{Freshness, Outages};

/// What a pull-through cache is made of.
pub struct CacheOptions {
    /// Where everything is kept.
    pub store: Store,
    /// Who is asked for what is missing.
    pub upstream: Arc<dyn Upstream>,
    /// The registries whose images are cached.
    pub registries: Vec<RegistryName>,
    /// For how long a tag is believed without asking again.
    pub revalidate: Duration,
    /// The most bytes that cached images may take.
    pub max_bytes: u64,
    /// What upstream is told in `Via` headers: a request with it comes from this very cache.
    pub via: String,
}

/// A pull-through cache.
pub(super) struct Cache {
    store: Store,
    upstream: Arc<dyn Upstream>,
    registries: Vec<RegistryName>,
    max_bytes: u64,
    via: String,
    events: Arc<dyn Sink>,
    freshness: Freshness,
    outages: Outages,
    turns: Turns<Reference>,
    flights: Flights,
    /// Sizes of blobs, from the manifests that passed.
    sizes: Sizes,
    /// Bytes of cached images, roughly: they are counted exactly when they seem too many, and at
    /// first they do.
    bytes: AtomicU64,
    /// When they were counted last; held while they are.
    evicting: tokio::sync::Mutex<Option<tokio::time::Instant>>,
}

/// What is served is not what upstream has now, for all that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stale {
    registry: RegistryName,
}

/// What upstream says, or that it is away.
#[derive(Debug)]
pub(super) enum Answer<T> {
    Fresh(T),
    Stale(Stale),
}

/// Whether there is something to serve when upstream does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fallback {
    There,
    None,
}

impl Cache {
    pub(super) fn new(options: CacheOptions, events: Arc<dyn Sink>) -> Self {
        let CacheOptions { store, upstream, registries, revalidate, max_bytes, via } = options;
        Self {
            store,
            upstream,
            registries: registries.into_iter().map(names::canonical).collect(),
            max_bytes,
            via,
            events,
            freshness: Freshness::new(revalidate),
            outages: Outages::default(),
            turns: Turns::default(),
            flights: Flights::default(),
            sizes: Sizes::default(),
            bytes: AtomicU64::new(evict::NOT_COUNTED),
            evicting: tokio::sync::Mutex::default(),
        }
    }

    /// Notes that an image is used: it is among the last to go. Blocks.
    pub(super) fn note_use(&self, image: &Digest) -> crate::store::Result<()> {
        self.store.note_use(image)
    }

    /// Returns whether a `Via` header names this cache: it is its own upstream's mirror.
    pub(super) fn is_named_in(&self, via: &str) -> bool {
        via.split(',').any(|hop| hop.split_whitespace().nth(1) == Some(&self.via))
    }

    /// Returns the repository of which upstream is asked; `None` when none is, because it is of no
    /// registry that is cached, or because the store has a likelier one.
    pub(super) fn place<'a>(
        &self,
        candidates: &'a Candidates,
        exists: impl Fn(&Repository) -> bool,
    ) -> Option<&'a Repository> {
        let is_cached = |repository: &Repository| self.registries.contains(&repository.registry);
        let first = candidates.0.iter().find(|one| is_cached(one) || exists(one))?;
        is_cached(first).then_some(first)
    }

    /// Waits for an answer, for not too long when there is something to serve instead; and keeps
    /// account of whether the registry is there. What somebody else was told since `since`, when
    /// this request came, holds for it too: requests that waited for each other fail together.
    async fn ask<T>(
        &self,
        registry: &RegistryName,
        fallback: Fallback,
        since: Instant,
        question: Asked<T>,
    ) -> Result<T, UpstreamError> {
        let answer = match fallback {
            Fallback::None => match self.outages.since(registry, since) {
                Some(error) => return Err(error),
                None => question.await,
            },
            Fallback::There => {
                let patience = self.outages.patience(registry, Instant::now())?;
                let slow = || UpstreamError {
                    why: Why::Away,
                    message: format!("no answer within {} seconds", patience.as_secs()),
                };
                let answer = tokio::time::timeout(patience, question).await;
                answer.unwrap_or_else(|_| Err(slow()))
            }
        };
        match &answer {
            Err(error) if error.why.is_of_registry() => self.is_away(registry, error),
            // A refusal is about one repository.
            Err(error) if error.why != Why::Missing => {}
            _ => self.is_back(registry),
        }
        answer
    }

    fn is_away(&self, registry: &RegistryName, error: &UpstreamError) {
        if self.outages.begin(registry, error, Instant::now()) {
            let text = format!("`{registry}` cannot be asked; serving what is cached: {error}");
            self.events.emit(Event::Warning { text });
        }
    }

    fn is_back(&self, registry: &RegistryName) {
        if self.outages.end(registry) {
            self.events.emit(Event::Note { text: format!("`{registry}` can be asked again") });
        }
    }
}

impl Why {
    /// Returns whether the registry as a whole is concerned.
    fn is_of_registry(self) -> bool {
        matches!(self, Self::Away | Self::Limited(_))
    }
}

impl Stale {
    /// Says it in the words of HTTP (RFC 7234, 5.5) and in those that clients of registries show
    /// (OCI distribution-spec, "Warnings").
    pub(super) fn mark(&self, reply: Reply) -> Reply {
        let registry = &self.registry;
        let text =
            format!("299 - \"{registry} cannot be asked: this is what it had when it last could\"");
        reply
            .with(http::header::WARNING, "110 - \"Response is Stale\"")
            .with(http::header::WARNING, &text)
    }
}

/// Says that upstream does not have it.
fn absent(registry: &RegistryName, missing: Code) -> Failure {
    Failure::new(missing, format!("`{registry}` has it not"))
}

/// Turns a failure of upstream into one of ours.
pub(super) fn failure(registry: &RegistryName, missing: Code, error: &UpstreamError) -> Failure {
    let say = |code, text: &str| Failure::new(code, format!("`{registry}` {text}"));
    let failure = match error.why {
        Why::Missing => return absent(registry, missing),
        Why::Denied => say(Code::Denied, "refuses to give it to this cache"),
        Why::Limited(wait) => {
            let seconds = wait.map_or(60, |wait| wait.as_secs().max(1)).to_string();
            let failure = say(Code::TooManyRequests, "gives no more for now");
            failure.with(http::header::RETRY_AFTER, &seconds)
        }
        Why::Away => say(Code::Unavailable, "cannot be asked, and it is not cached"),
        Why::Wrong => say(Code::Unavailable, "gave something else than was asked for"),
        Why::Local => Failure::new(Code::Internal, "the cache failed to keep it"),
    };
    failure.warn(error.to_string())
}

/// Things of which each is done by one at a time.
struct Turns<K>(Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>);

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Turns<K> {
    /// Waits until nobody else is at `key`; until the guard is dropped, others wait.
    async fn take(&self, key: &K) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = locked(&self.0);
            // Whoever waits or is at it has a handle too.
            if turns.len() > 1024 {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            Arc::clone(turns.entry(key.clone()).or_default())
        };
        turn.lock_owned().await
    }
}

/// Sizes of blobs. A blob whose size is not known is asked for by `HEAD`.
#[derive(Default)]
struct Sizes(Mutex<HashMap<Digest, u64>>);

impl Sizes {
    /// Most that are remembered; a hundred bytes each.
    const MOST: usize = 50_000;

    fn note(&self, parts: impl Iterator<Item = (Digest, u64)>) {
        let mut sizes = locked(&self.0);
        if sizes.len() > Self::MOST {
            sizes.clear();
        }
        sizes.extend(parts);
    }

    fn of(&self, digest: &Digest) -> Option<u64> {
        locked(&self.0).get(digest).copied()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
