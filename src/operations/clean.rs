//! Freeing what nobody needs any more.

use std::path::PathBuf;

use crate::sandbox::{Worker, WorkerOptions};

use super::session::blocking;
use super::{Error, Session};

/// Frees what no image and no cache record reaches, and returns how many bytes of the store's own
/// that were. Does nothing while another command uses the store.
///
/// The caller must not hold the store ([`Session::hold_store`]).
///
/// # Errors
///
/// When the store is damaged or cannot be written.
pub async fn collect_garbage(session: &Session) -> Result<u64, Error> {
    let store = session.store.clone();
    blocking(move || {
        let Some(reclaimed) = store.try_collect_garbage()? else { return Ok(0) };
        remove_trees(reclaimed.snapshots);
        Ok::<_, Error>(reclaimed.bytes)
    })
    .await
}

/// Removes what killed builds have left of their steps. Does nothing while another command uses
/// the store, and costs nothing to speak of when nothing is left.
///
/// The caller must not hold the store ([`Session::hold_store`]).
///
/// # Errors
///
/// When the store cannot be read or written.
pub async fn remove_abandoned_steps(session: &Session) -> Result<(), Error> {
    let store = session.store.clone();
    blocking(move || {
        remove_trees(store.abandoned_steps()?);
        Ok::<_, Error>(())
    })
    .await
}

/// Removes trees whose files belong to mapped ids. What cannot be removed, for want of namespaces,
/// is out of the way and is tried again by the next collection.
pub(super) fn remove_trees(trees: Vec<PathBuf>) {
    if trees.is_empty() {
        return;
    }
    let removed = Worker::start(&WorkerOptions::default()).and_then(|worker| worker.remove(trees));
    if let Err(error) = removed {
        tracing::debug!(%error, "trees are left to the next collection");
    }
}
