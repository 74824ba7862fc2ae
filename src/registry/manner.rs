//! How one registry wants to be treated: what its kind is known for, and what was learnt from it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
use tokio::sync::OnceCell;

use super::memory::Learnt;
use super::quirks::{Quirks, RangedPatch, RegistryKind};
use super::session::Shared;
use crate::image::RegistryName;

/// The manner of one registry.
pub(super) struct Manner {
    registry: RegistryName,
    quirks: Mutex<&'static Quirks>,
    /// Whether a mount came to nothing in this run.
    mounts_in_vain: AtomicBool,
    /// Read from the memory at the first upload.
    learnt: OnceCell<Mutex<Learnt>>,
}

impl Manner {
    pub(super) fn new(registry: RegistryName) -> Self {
        let quirks = Mutex::new(Quirks::of_host(&registry));
        Self { registry, quirks, mounts_in_vain: AtomicBool::new(false), learnt: OnceCell::new() }
    }

    /// Returns what the registry's kind is known for.
    pub(super) fn quirks(&self) -> &'static Quirks {
        *self.quirks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the kind from an answer when it is not known yet.
    pub(super) fn notice(&self, headers: &HeaderMap) {
        let mut quirks = self.quirks.lock().unwrap_or_else(PoisonError::into_inner);
        if quirks.kind == RegistryKind::Unknown
            && let Some(kind) = Quirks::of_answer(headers)
        {
            *quirks = kind;
        }
    }

    /// Returns whether a mount is worth trying before the registry is asked what it has.
    pub(super) fn may_mount_at_once(&self) -> bool {
        !self.mounts_in_vain.load(Ordering::Relaxed)
    }

    /// Says that a mount came to nothing: not every question is to cost one more.
    pub(super) fn mounts_not_at_once(&self) {
        self.mounts_in_vain.store(true, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn pretend(&self, kind: &'static Quirks) {
        *self.quirks.lock().unwrap_or_else(PoisonError::into_inner) = kind;
    }

    /// Returns what becomes of uploads in several parts.
    pub(super) async fn ranged_patch(&self, shared: &Shared) -> RangedPatch {
        if self.learnt(shared).await.refuses_ranges {
            return RangedPatch::Unusable;
        }
        self.quirks().ranged_patch
    }

    /// Returns the largest body that may be sent, when there is a limit.
    pub(super) async fn max_body(&self, shared: &Shared) -> Option<u64> {
        let learnt = self.learnt(shared).await.max_body;
        learnt.into_iter().chain(self.quirks().max_body).min()
    }

    async fn learnt(&self, shared: &Shared) -> Learnt {
        let cell = self.cell(shared).await;
        *cell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn cell(&self, shared: &Shared) -> &Mutex<Learnt> {
        let read = async || {
            let (memory, registry) = (shared.options.memory.clone(), self.registry.clone());
            let read = tokio::task::spawn_blocking(move || memory.learnt(&registry)).await;
            Mutex::new(read.unwrap_or_default())
        };
        self.learnt.get_or_init(read).await
    }

    /// Learns something, for this run and the next ones.
    pub(super) async fn learn(&self, shared: &Shared, change: impl FnOnce(&mut Learnt)) {
        let news = {
            let cell = self.cell(shared).await;
            let mut learnt = cell.lock().unwrap_or_else(PoisonError::into_inner);
            let before = *learnt;
            change(&mut learnt);
            if *learnt == before {
                return;
            }
            *learnt
        };
        tracing::debug!(registry = %self.registry, ?news, "learnt how to send to a registry");
        let (memory, registry) = (shared.options.memory.clone(), self.registry.clone());
        let kept = tokio::task::spawn_blocking(move || memory.learn(&registry, news)).await;
        kept.unwrap_or_else(|error| tracing::debug!(%error, "not remembered"));
    }
}
