//! Where a cache gets what it lacks. Who speaks to registries implements it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use thiserror::Error;

use crate::image::{Descriptor, Digest, Manifest, Reference, Repository};

use super::growth::Growth;

/// A question under way.
pub type Asked<T> = BoxFuture<'static, Result<T, UpstreamError>>;

/// Registries that a cache asks.
pub trait Upstream: Send + Sync {
    /// Returns what a tag names; `None` when only the manifest itself tells.
    fn resolve(&self, reference: Reference) -> Asked<Option<Descriptor>>;

    /// Returns a manifest, whose digest is verified when the reference has one.
    fn manifest(&self, reference: Reference) -> Asked<Manifest>;

    /// Returns the size of a blob.
    fn blob_size(&self, repository: Repository, digest: Digest) -> Asked<u64>;

    /// Brings a blob into the store, on from what is there of it. `growth` is told how much of it
    /// is in the file that [`Store::open_arriving`](crate::store::Store::open_arriving) opens. When
    /// it returns, the blob is verified and whole.
    fn fetch(&self, repository: Repository, descriptor: Descriptor, growth: Growth) -> Asked<()>;

    /// Returns the tags after `last`, so many at most.
    fn tags(
        &self,
        repository: Repository,
        last: Option<String>,
        limit: usize,
    ) -> Asked<Vec<String>>;

    /// Returns what refers to a manifest.
    fn referrers(&self, repository: Repository, subject: Digest) -> Asked<Vec<Descriptor>>;
}

/// Why upstream did not give what it was asked for.
#[derive(Debug, Clone, Error)]
#[error("{message}")]
pub struct UpstreamError {
    /// What that means for who asks.
    pub why: Why,
    /// What happened, with its causes. No secret.
    pub message: String,
}

/// What it means that upstream did not give what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It does not have it.
    Missing,
    /// It refuses.
    Denied,
    /// It gives no more for now; for how long, when it says so.
    Limited(Option<Duration>),
    /// It does not answer, or fails.
    Away,
    /// What it gave is not what was asked for.
    Wrong,
    /// It is this machine that fails, as when its disk is full.
    Local,
}
