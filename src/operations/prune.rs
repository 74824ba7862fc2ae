//! `df` and `prune`: what the store takes, and giving back what only makes later builds faster.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::build::recorded_layer;
use crate::image::{DiffId, Digest};
use crate::layer::disk_use;
use crate::sandbox::{Worker, WorkerOptions};
use crate::store::{CacheInstance, ExclusiveLock, ImageEntry, Reaching, Store, Usage};

use super::clean::remove_trees;
use super::session::blocking;
use super::{Error, Kind, Session};

/// What to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneRequest {
    /// How much is looked at.
    pub scope: PruneScope,
    /// Only what was not used for so long.
    pub unused_for: Option<Duration>,
    /// Keep the latest used, up to this many bytes of cache.
    pub keep_bytes: Option<u64>,
    /// Whether anything is removed.
    pub mode: PruneMode,
}

/// What pruning looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneScope {
    /// What no named image needs.
    Unneeded,
    /// All that can be made or got again. Named images stay.
    All,
}

/// Whether anything is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneMode {
    /// It is.
    Remove,
    /// It is only said what would be.
    DryRun,
}

/// What was, or would be, removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The things, the longest unused first.
    pub items: Vec<PrunedItem>,
    /// The bytes of disk that they took.
    pub bytes: u64,
}

/// One thing that was, or would be, removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunedItem {
    /// What it is: `layer`, `snapshot`, `cache mount`, `download`, `image`.
    pub kind: &'static str,
    /// Which.
    pub id: String,
    /// Its bytes of disk.
    pub bytes: u64,
    /// When it was used last.
    pub last_used: SystemTime,
}

/// Something that can be removed.
struct Candidate {
    item: PrunedItem,
    what: What,
}

enum What {
    /// Records and the layer that they name.
    Records(Vec<Digest>),
    Snapshot(PathBuf),
    CacheMount(CacheInstance),
    Download(PathBuf),
    Image(Digest),
}

/// Returns what the store takes on disk, by kind.
///
/// # Errors
///
/// When it cannot be read.
pub async fn disk_usage(session: &Session) -> Result<Usage, Error> {
    let store = session.store.clone();
    blocking(move || store.usage(measure)).await
}

/// Removes what `request` says. Waits until no other command uses the store.
///
/// The caller must not hold the store ([`Session::hold_store`]).
///
/// # Errors
///
/// When the store is damaged or cannot be written.
pub async fn prune(session: &Session, request: PruneRequest) -> Result<Pruned, Error> {
    let store = session.store.clone();
    let session = session.clone();
    blocking(move || {
        let lock = if let Some(lock) = store.try_lock_exclusive()? {
            lock
        } else {
            session.note("waiting until other commands leave the store");
            store.lock_exclusive()?
        };
        prune_alone(&store, lock, request)
    })
    .await
}

/// Keeps the cache within `max_bytes`: removes what was unused for longest. Does nothing while
/// another command uses the store, nor where it did so shortly before.
///
/// The caller must not hold the store ([`Session::hold_store`]).
///
/// # Errors
///
/// Those of [`prune`].
pub async fn bound_cache(session: &Session, max_bytes: Option<u64>) -> Result<(), Error> {
    let store = session.store.clone();
    blocking(move || {
        let max_bytes = match max_bytes {
            Some(bytes) => bytes,
            None => default_bytes(&store)?,
        };
        if !store.is_bound_due(CHECK_INTERVAL)? {
            return Ok(());
        }
        let Some(lock) = store.try_lock_exclusive()? else { return Ok(()) };
        let usage = store.usage(measure)?;
        if usage.cache_bytes() <= max_bytes {
            return Ok(());
        }
        let request = PruneRequest {
            scope: PruneScope::All,
            unused_for: None,
            keep_bytes: Some(max_bytes),
            mode: PruneMode::Remove,
        };
        prune_alone(&store, lock, request).map(drop)
    })
    .await
}

/// How often builds look whether the cache is too large: looking reads every directory of it.
const CHECK_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// The least and the most that the cache may take when nothing was said.
const DEFAULT_BYTES: std::ops::RangeInclusive<u64> = (10 << 30)..=(100 << 30);

/// Returns a fifth of the file system, within [`DEFAULT_BYTES`].
fn default_bytes(store: &Store) -> Result<u64, Error> {
    Ok((file_system_bytes(store)? / 5).clamp(*DEFAULT_BYTES.start(), *DEFAULT_BYTES.end()))
}

/// Returns how large the file system is that the store is on. Blocks.
pub(super) fn file_system_bytes(store: &Store) -> Result<u64, Error> {
    let stat = rustix::fs::statvfs(store.root()).map_err(|error| {
        let message = "failed to find out how large the store's file system is";
        Error::new(Kind::Internal, message).because(std::io::Error::from(error))
    })?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}

/// Measures trees, by the worker where some belong to mapped ids.
fn measure(trees: Vec<PathBuf>) -> Result<Vec<u64>, Error> {
    let own: std::io::Result<Vec<u64>> = trees.iter().map(|tree| disk_use(tree)).collect();
    match own {
        Ok(sizes) => Ok(sizes),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let worker = Worker::start(&WorkerOptions::default())?;
            Ok(worker.measure(trees)?)
        }
        Err(error) => Err(Error::new(Kind::Internal, "failed to measure the store").because(error)),
    }
}

fn prune_alone(store: &Store, lock: ExclusiveLock, request: PruneRequest) -> Result<Pruned, Error> {
    let before = store.usage(measure)?;
    let mut candidates = candidates(store, request.scope)?;
    candidates.sort_by_key(|candidate| candidate.item.last_used);
    let chosen = choose(candidates, before.cache_bytes(), request);
    if request.mode == PruneMode::DryRun {
        let items: Vec<PrunedItem> = chosen.into_iter().map(|chosen| chosen.item).collect();
        let bytes = items.iter().map(|item| item.bytes).sum();
        return Ok(Pruned { items, bytes });
    }
    let mut items = Vec::new();
    let mut trees = Vec::new();
    for Candidate { item, what } in chosen {
        match what {
            What::Records(keys) => {
                keys.iter().try_for_each(|key| store.remove_cache_record(key))?;
            }
            What::Snapshot(path) => trees.push(store.remove_snapshot(&path)?),
            What::CacheMount(instance) => trees.extend(store.remove_cache(&instance)?),
            What::Download(path) => trees.push(store.remove_remote(&path)?),
            What::Image(digest) => {
                let is_it =
                    |image: &ImageEntry| image.name.is_none() && image.descriptor.digest == digest;
                store.retain_images(|image| !is_it(image))?;
            }
        }
        items.push(item);
    }
    let reclaimed = store.collect_garbage_alone(&lock)?;
    trees.extend(reclaimed.snapshots);
    trees.sort();
    trees.dedup();
    // Out of everybody's way by now: nobody need wait for the rest.
    drop(lock);
    remove_trees(trees);
    let after = store.usage(measure)?;
    let bytes = before.total_bytes().saturating_sub(after.total_bytes());
    Ok(Pruned { items, bytes })
}

/// Returns the candidates that go: old enough, and as many as it takes.
fn choose(candidates: Vec<Candidate>, cache_bytes: u64, request: PruneRequest) -> Vec<Candidate> {
    let now = SystemTime::now();
    let mut left = cache_bytes;
    let old_enough = candidates.into_iter().filter(|candidate| {
        request.unused_for.is_none_or(|age| {
            now.duration_since(candidate.item.last_used).is_ok_and(|unused| unused >= age)
        })
    });
    old_enough
        .take_while(|candidate| {
            let goes = request.keep_bytes.is_none_or(|keep| left > keep);
            left = left.saturating_sub(candidate.item.bytes);
            goes
        })
        .collect()
}

fn candidates(store: &Store, scope: PruneScope) -> Result<Vec<Candidate>, Error> {
    let named = store.reached_by_images(Reaching::Named)?;
    let mut candidates = recorded(store, scope, &named)?;
    // What is to be measured, and for which candidate.
    let mut trees: Vec<(usize, PathBuf)> = Vec::new();
    for (path, diff_id, made) in store.snapshots()? {
        let same = |other: &Candidate| {
            matches!(other.what, What::Records(_)) && other.item.id == diff_id.hex()
        };
        let recorded = candidates.iter().position(same);
        let is_needed = named.contains(&diff_id);
        match recorded {
            // It goes with the records: nothing else keeps it.
            Some(at) if !is_needed => trees.push((at, path)),
            _ if is_needed && scope == PruneScope::Unneeded => {}
            recorded => {
                let used = recorded.map_or(made, |at| candidates[at].item.last_used);
                trees.push((candidates.len(), path.clone()));
                let id = diff_id.hex().to_owned();
                candidates.push(Candidate::new("snapshot", id, used, What::Snapshot(path)));
            }
        }
    }
    for instance in store.cache_instances()? {
        trees.push((candidates.len(), instance.directory.clone()));
        let (id, used) = (instance.id.clone(), instance.last_used);
        candidates.push(Candidate::new("cache mount", id, used, What::CacheMount(instance)));
    }
    for (path, used) in store.remote_entries()? {
        trees.push((candidates.len(), path.clone()));
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let id = name.unwrap_or_default();
        candidates.push(Candidate::new("download", id, used, What::Download(path)));
    }
    let sizes = measure(trees.iter().map(|(_, path)| path.clone()).collect())?;
    for ((at, _), bytes) in trees.into_iter().zip(sizes) {
        candidates[at].item.bytes += bytes;
    }
    candidates.extend(dangling(store)?);
    Ok(candidates)
}

/// Returns the images without a name.
fn dangling(store: &Store) -> Result<Vec<Candidate>, Error> {
    let images = store.images()?.into_iter();
    let images = images.filter(|image| image.name.is_none() && image.subject.is_none());
    let candidates = images.map(|image| {
        let made = image.tagged.map_or(SystemTime::UNIX_EPOCH, SystemTime::from);
        let digest = image.descriptor.digest;
        Candidate::new("image", digest.to_string(), made, What::Image(digest))
    });
    Ok(candidates.collect())
}

impl Candidate {
    fn new(kind: &'static str, id: String, last_used: SystemTime, what: What) -> Self {
        Self { item: PrunedItem { kind, id, bytes: 0, last_used }, what }
    }
}

/// Returns what cache records name, a candidate a layer.
fn recorded(
    store: &Store,
    scope: PruneScope,
    named: &HashSet<Digest>,
) -> Result<Vec<Candidate>, Error> {
    struct Group {
        keys: Vec<Digest>,
        diff_id: Option<DiffId>,
        last_used: SystemTime,
        bytes: u64,
    }
    let mut groups: BTreeMap<Option<Digest>, Group> = BTreeMap::new();
    for key in store.cache_keys()? {
        let Some((used, bytes)) = store.cache_record_use(&key)? else { continue };
        let record = store.cache_record_unused(&key)?.unwrap_or_default();
        let layer = recorded_layer(&record);
        let blob = layer.as_ref().map(|layer| layer.descriptor.digest.clone());
        let group = groups.entry(blob).or_insert_with(|| Group {
            keys: Vec::new(),
            diff_id: layer.map(|layer| layer.diff_id),
            last_used: used,
            bytes: 0,
        });
        group.keys.push(key);
        group.last_used = group.last_used.max(used);
        group.bytes += bytes;
    }
    let mut candidates = Vec::new();
    for (blob, group) in groups {
        let is_needed = blob.as_ref().is_some_and(|blob| named.contains(blob));
        if scope == PruneScope::Unneeded && is_needed {
            continue;
        }
        let mut bytes = group.bytes;
        if let Some(blob) = blob.as_ref().filter(|blob| !named.contains(blob)) {
            bytes += store.blob_disk_use(blob)?;
        }
        let id = group.diff_id.map_or_else(|| "keys".to_owned(), |id| id.0.hex().to_owned());
        let mut layer = Candidate::new("layer", id, group.last_used, What::Records(group.keys));
        layer.item.bytes = bytes;
        candidates.push(layer);
    }
    Ok(candidates)
}
