//! What the requests share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::header::VIA;

use crate::event::{Event, Sink};
use crate::image::{RegistryName, Repository};
use crate::store::{BlobWriter, SharedLock, Store};

use super::cache::Cache;
use super::content::Content;
use super::find::Indexes;
use super::handler::Head;
use super::names::{self, Candidates};
use super::reply::{Code, Failure};
use super::tls::Tls;
use super::{Error, Result, ServeOptions, Served};

/// How long after the last request the store's lock is kept: a client that was told that a blob is
/// there comes back with the manifest.
const LOCK_IDLE: Duration = Duration::from_secs(60);
/// How long an upload may rest with its file open; later it is opened and hashed again.
const UPLOAD_IDLE: Duration = Duration::from_secs(600);

pub(super) struct State {
    pub(super) content: Arc<dyn Content>,
    /// Where pushes go; `None` when none are taken.
    pub(super) pushes: Option<Store>,
    /// What gets what is missing.
    pub(super) cache: Option<Arc<Cache>>,
    /// The registries that a name without one may be of; what is pushed is of the first.
    pub(super) registries: Vec<RegistryName>,
    pub(super) indexes: Indexes,
    pub(super) tls: Option<Tls>,
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
    /// Looks whether there is anything that can be served, and reads the files for TLS.
    pub(super) async fn open(options: ServeOptions) -> Result<Arc<Self>> {
        let open = move || {
            let tls = options.tls.clone().map(Tls::read).transpose()?;
            let state = Self { tls, ..Self::new(options) };
            state.content.images().map_err(Error::Content)?;
            Ok(Arc::new(state))
        };
        tokio::task::spawn_blocking(open).await.expect("reading files does not panic")
    }

    fn new(options: ServeOptions) -> Self {
        let ServeOptions { served, registries, tls: _, events } = options;
        let (content, pushes, cache): (Arc<dyn Content>, _, _) = match served {
            Served::Store(store) => (Arc::new(store.clone()), Some(store), None),
            Served::ReadOnly(content) => (content, None, None),
            Served::Cache(options) => {
                let store = options.store.clone();
                let cache = Cache::new(options, Arc::clone(&events));
                (Arc::new(store), None, Some(Arc::new(cache)))
            }
        };
        Self {
            content,
            pushes,
            cache,
            registries: registries.into_iter().map(names::canonical).collect(),
            indexes: Indexes::default(),
            tls: None,
            events,
            lock: Mutex::default(),
            uploads: Mutex::default(),
        }
    }

    /// Returns who is asked for what is missing, and of which repository; `None` when nobody is.
    pub(super) async fn upstream(
        self: &Arc<Self>,
        head: &Head,
        candidates: &Candidates,
    ) -> Result<Option<(Arc<Cache>, Repository)>, Failure> {
        let Some(cache) = self.cache.clone() else { return Ok(None) };
        if head.headers(VIA).any(|via| cache.is_named_in(via)) {
            return Ok(None);
        }
        let candidates = candidates.clone();
        self.blocking(move |state| {
            let images = state.content.images()?;
            let exists = |wanted: &Repository| {
                images.iter().any(|i| i.name.as_ref().is_some_and(|n| n.repository == *wanted))
            };
            let place = cache.place(&candidates, exists).cloned();
            Ok(place.map(|place| (cache, place)))
        })
        .await
    }

    /// Returns the store that pushes go to.
    pub(super) fn store(&self) -> Result<&Store, Failure> {
        let read_only = || Failure::new(Code::Unsupported, "this registry is read-only");
        self.pushes.as_ref().ok_or_else(read_only)
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

    /// Keeps garbage collection away from where pushes go until the result is dropped, and for a
    /// while after. Reading needs no lock: what is open stays readable.
    pub(super) async fn use_store(self: &Arc<Self>) -> Result<Option<Arc<SharedLock>>, Failure> {
        if self.pushes.is_none() {
            return Ok(None);
        }
        if let Some((lock, used)) = locked(&self.lock).as_mut() {
            *used = Instant::now();
            return Ok(Some(Arc::clone(lock)));
        }
        let lock = Arc::new(self.blocking(|state| Ok(state.store()?.lock_shared()?)).await?);
        *locked(&self.lock) = Some((Arc::clone(&lock), Instant::now()));
        Ok(Some(lock))
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

    /// Gives back what has not been used for a while, and looks for new certificates.
    pub(super) async fn tidy(self: &Arc<Self>) {
        if let Some(cache) = &self.cache {
            cache.bound();
        }
        if self.tls.is_some() {
            let refresh = |state: &Self| Ok(state.tls.as_ref().map_or(Ok(()), Tls::refresh)?);
            if let Err(failure) = self.blocking(refresh).await {
                let text = failure.warning.unwrap_or_default();
                let text = format!("the certificate stays what it was: {text}");
                self.events.emit(Event::Warning { text });
            }
        }
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
