//! What the requests share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::event::Sink;
use crate::image::RegistryName;
use crate::store::{BlobWriter, SharedLock, Store};

use super::reply::Failure;
use super::{Result, ServeOptions};

/// How long after the last request the store's lock is kept: a client that was told that a blob is
/// there comes back with the manifest.
const LOCK_IDLE: Duration = Duration::from_secs(60);
/// How long an upload may rest with its file open; later it is opened and hashed again.
const UPLOAD_IDLE: Duration = Duration::from_secs(600);

pub(super) struct State {
    pub(super) store: Store,
    pub(super) registry_name: RegistryName,
    pub(super) read_only: bool,
    pub(super) events: Arc<dyn Sink>,
    lock: Mutex<Option<(Arc<SharedLock>, Instant)>>,
    uploads: Mutex<HashMap<String, Upload>>,
}

/// An upload's writer; `None` while its file is closed. The lock is held during a request.
pub(super) type Slot = Arc<tokio::sync::Mutex<Option<BlobWriter>>>;

struct Upload {
    slot: Slot,
    used: Instant,
}

impl State {
    pub(super) fn new(options: ServeOptions) -> Self {
        let ServeOptions { store, registry_name, read_only, events } = options;
        let (lock, uploads) = (Mutex::default(), Mutex::default());
        Self { store, registry_name, read_only, events, lock, uploads }
    }

    pub(super) async fn check_store(self: &Arc<Self>) -> Result<()> {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || store.images());
        read.await.expect("reading index.json does not panic")?;
        Ok(())
    }

    /// Runs `work` where it may block.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let state = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&state)).await {
            Ok(result) => result,
            Err(error) => Err(Failure::internal(&error)),
        }
    }

    /// Keeps garbage collection away until the result is dropped, and for a while after.
    pub(super) async fn use_store(self: &Arc<Self>) -> Result<Arc<SharedLock>, Failure> {
        if let Some((lock, used)) = locked(&self.lock).as_mut() {
            *used = Instant::now();
            return Ok(Arc::clone(lock));
        }
        let lock = Arc::new(self.blocking(|state| Ok(state.store.lock_shared()?)).await?);
        *locked(&self.lock) = Some((Arc::clone(&lock), Instant::now()));
        Ok(lock)
    }

    /// Returns the place of an upload's writer, which may be empty.
    pub(super) fn upload(&self, id: &str) -> Slot {
        let mut uploads = locked(&self.uploads);
        let fresh = || Upload { slot: Slot::default(), used: Instant::now() };
        let upload = uploads.entry(id.to_owned()).or_insert_with(fresh);
        upload.used = Instant::now();
        Arc::clone(&upload.slot)
    }

    /// Forgets an upload; its file is the business of the writer.
    pub(super) fn forget_upload(&self, id: &str) {
        locked(&self.uploads).remove(id);
    }

    /// Gives back what has not been used for a while.
    pub(super) fn tidy(&self) {
        let mut lock = locked(&self.lock);
        if lock.as_ref().is_some_and(|(_, used)| used.elapsed() > LOCK_IDLE) {
            *lock = None;
        }
        locked(&self.uploads).retain(|_, upload| {
            // A request under way has a second handle on the slot.
            Arc::strong_count(&upload.slot) > 1 || upload.used.elapsed() < UPLOAD_IDLE
        });
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
