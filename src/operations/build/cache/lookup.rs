//! Asking other machines' caches, and getting the layers that they name.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use crate::build::{CacheEntry, Caches, Layer, Plan};
use crate::image::{Content, Digest, ImageConfig, Manifest, Platform, Reference, Repository};
use crate::operations::fetch::fetch_blob;
use crate::operations::resolve::MAX_CONFIG_BYTES;
use crate::operations::{Error, Session};
use crate::registry;

use super::layout::Layout;
use super::{CacheFrom, entry, inline};

/// How many keys are looked up at once after the deepest one is unknown.
const AT_ONCE: usize = 16;

/// The caches of `--cache-from`.
pub(in crate::operations::build) struct CacheSources {
    session: Session,
    runtime: Handle,
    sources: Vec<Source>,
    /// Which repository holds a layer that an entry named.
    origins: Mutex<HashMap<Digest, Repository>>,
}

struct Source {
    from: CacheFrom,
    /// What people call it.
    name: String,
    platforms: Vec<Platform>,
    /// It could not be asked, which was said once.
    is_dead: AtomicBool,
    carried: OnceCell<BTreeMap<Digest, Vec<Layer>>>,
}

type Found = (Vec<Layer>, Option<Repository>);

impl CacheSources {
    /// Must be called within the runtime.
    pub(in crate::operations::build) fn new(
        session: &Session,
        from: &[CacheFrom],
        plan: &Plan,
    ) -> Arc<Self> {
        let platforms = plan.stages.iter().map(|stage| stage.platform.clone());
        let platforms: Vec<Platform> = platforms.collect();
        let sources = from.iter().map(|from| Source {
            from: from.clone(),
            name: match from {
                CacheFrom::Registry(reference) | CacheFrom::Inline(reference) => {
                    reference.familiar()
                }
                CacheFrom::Local(directory) => directory.display().to_string(),
            },
            platforms: platforms.clone(),
            is_dead: AtomicBool::new(false),
            carried: OnceCell::new(),
        });
        Arc::new(Self {
            session: session.clone(),
            runtime: Handle::current(),
            sources: sources.collect(),
            origins: Mutex::default(),
        })
    }

    /// Returns the repository that holds a layer of an entry that was found.
    pub(in crate::operations::build) fn origin(&self, blob: &Digest) -> Option<Repository> {
        self.lock_origins().get(blob).cloned()
    }

    fn lock_origins(&self) -> MutexGuard<'_, HashMap<Digest, Repository>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the last of `keys` that a source knows.
    async fn look_up(&self, keys: &[Digest]) -> Option<(usize, Found)> {
        let mut end = keys.len();
        let mut size = 1;
        while end > 0 {
            let start = end.saturating_sub(size);
            let asked = keys[start..end].iter().map(|key| self.ask_all(key));
            let answers = join_all(asked).await;
            let found = answers.into_iter().enumerate().rev();
            for (at, answer) in found {
                if let Some(answer) = answer {
                    return Some((start + at, answer));
                }
            }
            (end, size) = (start, AT_ONCE);
        }
        None
    }

    /// Asks every source for one key; the first that was named wins.
    async fn ask_all(&self, key: &Digest) -> Option<Found> {
        let answers = join_all(self.sources.iter().map(|source| self.ask(source, key))).await;
        answers.into_iter().flatten().next()
    }

    async fn ask(&self, source: &Source, key: &Digest) -> Option<Found> {
        if source.is_dead.load(Ordering::Relaxed) {
            return None;
        }
        let (reference, has_entries) = match &source.from {
            CacheFrom::Registry(reference) => (reference, true),
            CacheFrom::Inline(reference) => (reference, false),
            // Read without waiting for anybody: see `deepest`.
            CacheFrom::Local(_) => return None,
        };
        let entry = async {
            if has_entries {
                self.ask_entry(source, &reference.repository, key).await
            } else {
                None
            }
        };
        let carried = source.carried.get_or_init(|| self.carried(source, reference));
        let (entry, carried) = tokio::join!(entry, carried);
        let layers = entry.or_else(|| carried.get(key).cloned())?;
        Some((layers, Some(reference.repository.clone())))
    }

    async fn ask_entry(
        &self,
        source: &Source,
        repository: &Repository,
        key: &Digest,
    ) -> Option<Vec<Layer>> {
        let reference = Reference::tagged(repository.clone(), entry::tag(key));
        let manifest = match self.session.client.manifest(&reference).await {
            Ok(manifest) => manifest,
            Err(error) => {
                self.judge(source, error);
                return None;
            }
        };
        match entry::layers_of(&manifest, key) {
            Ok(layers) => Some(layers),
            Err(reason) => {
                let name = reference.familiar();
                self.session.warn(format!("the cache entry `{name}` is not used: {reason}"));
                None
            }
        }
    }

    /// A missing entry is the usual case; a source that cannot be asked is left alone from then on.
    fn judge(&self, source: &Source, error: registry::Error) {
        match error.kind() {
            registry::Kind::NotFound => {}
            registry::Kind::Integrity | registry::Kind::Protocol => {
                self.session
                    .warn(format!("an entry of the cache `{}` is not used: {error}", source.name));
            }
            _ => self.give_up(source, &Error::from(error)),
        }
    }

    fn give_up(&self, source: &Source, error: &Error) {
        if !source.is_dead.swap(true, Ordering::Relaxed) {
            let mut text = format!("the cache `{}` is not used: {error}", source.name);
            let mut cause = std::error::Error::source(error);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            self.session.warn(text);
        }
    }

    /// Returns what the image that a source names carries; nothing when there is no such image.
    async fn carried(
        &self,
        source: &Source,
        reference: &Reference,
    ) -> BTreeMap<Digest, Vec<Layer>> {
        if reference.tag.is_none() && reference.digest.is_none() {
            return BTreeMap::new();
        }
        let manifest = match self.session.client.manifest(reference).await {
            Ok(manifest) => manifest,
            Err(error) => {
                self.judge(source, error);
                return BTreeMap::new();
            }
        };
        let manifests = match &manifest.content {
            Content::Image(_) => vec![manifest],
            Content::Index(index) => {
                let chosen = source.platforms.iter().filter_map(|platform| index.choose(platform));
                let repository = &reference.repository;
                let by_digest = chosen
                    .map(|entry| Reference::by_digest(repository.clone(), entry.digest.clone()));
                let fetched = by_digest
                    .map(async |by_digest| self.session.client.manifest(&by_digest).await.ok());
                join_all(fetched).await.into_iter().flatten().collect()
            }
        };
        let mut carried = BTreeMap::new();
        for manifest in &manifests {
            match self.carried_by(&reference.repository, manifest).await {
                Ok(keys) => carried.extend(keys),
                Err(reason) => {
                    let name = &source.name;
                    self.session.warn(format!("what `{name}` carries is not used: {reason}"));
                }
            }
        }
        carried
    }

    async fn carried_by(
        &self,
        repository: &Repository,
        manifest: &Manifest,
    ) -> Result<BTreeMap<Digest, Vec<Layer>>, String> {
        let Some(image) = manifest.as_image() else { return Ok(BTreeMap::new()) };
        if image.annotations.is_empty() {
            return Ok(BTreeMap::new());
        }
        let limit = MAX_CONFIG_BYTES as u64;
        let config = self.session.client.fetch_blob_bytes(repository, &image.config, limit).await;
        let config = config.map_err(|error| error.to_string())?;
        let config = ImageConfig::parse(&config).map_err(|error| error.to_string())?;
        inline::carried(image, &config)
    }

    /// Returns the last of `keys` that a directory knows, its layers brought into the store.
    fn look_in_directories(&self, keys: &[Digest]) -> Option<(usize, Found)> {
        let mut best: Option<(usize, Found)> = None;
        for source in &self.sources {
            let CacheFrom::Local(directory) = &source.from else { continue };
            if source.is_dead.load(Ordering::Relaxed) {
                continue;
            }
            let first = best.as_ref().map_or(0, |(at, _)| at + 1);
            let found = Layout::open(directory).and_then(|layout| {
                let mut keys = keys.iter().enumerate().skip(first).rev();
                keys.find_map(|(at, key)| Some((at, layout.entry(key)?)))
                    .map(|(at, layers)| {
                        layout.bring(&self.session.store, &layers).map(|()| (at, (layers, None)))
                    })
                    .transpose()
            });
            match found {
                Ok(found) => best = found.or(best),
                Err(error) => self.give_up(source, &error),
            }
        }
        best
    }
}

impl Caches for CacheSources {
    fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    fn deepest(&self, keys: &[Digest]) -> Option<(usize, CacheEntry)> {
        let near = self.look_in_directories(keys);
        let from = near.as_ref().map_or(0, |(at, _)| at + 1);
        let far = self.runtime.block_on(self.look_up(&keys[from..]));
        let (at, (layers, repository)) = far.map(|(at, found)| (from + at, found)).or(near)?;
        if let Some(repository) = repository {
            let mut origins = self.lock_origins();
            for layer in &layers {
                origins.insert(layer.descriptor.digest.clone(), repository.clone());
            }
        }
        Some((at, CacheEntry { layers }))
    }

    fn holds(&self, blob: &Digest) -> bool {
        self.lock_origins().contains_key(blob)
    }

    fn fetch(
        &self,
        layer: &Layer,
        copy: File,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Some(repository) = self.origin(&layer.descriptor.digest) else {
            return Err("no cache holds it".into());
        };
        let fetch = fetch_blob(&self.session, &repository, &layer.descriptor, Some(copy));
        self.runtime.block_on(fetch).map_err(Into::into)
    }
}
