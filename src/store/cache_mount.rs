//! Cache mounts: directories that steps keep files in between builds.
//!
//! ```text
//! cachemounts/<mapping>/<hex>/          one cache; the hex is the digest of what about.json says
//!   about.json                          the id, and what the first files are
//!   make.lock                           held while an instance is chosen or made
//!   <n>/                                an instance: the directory that steps see
//!   <n>.lock                            held by who uses it, shared or alone; its time is the last use
//! ```
//!
//! A killed process frees what it held, as the kernel drops its locks. What is in an instance
//! belongs to mapped ids, so instances are made and deleted by the worker.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde_json::Value;

use crate::image::Digest;

use super::collect::{REMOVED, children, file_name};
use super::write::{Durability, unique_name};
use super::{Result, Store, lock};

/// What the name of an instance starts with until it is complete.
const NEW: &str = ".new-";

/// How builds share a cache (Dockerfile reference, "RUN --mount=type=cache", `sharing`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheSharing {
    /// Any number at once.
    Shared,
    /// Each at a time has an instance of its own.
    Private,
    /// One at a time; others wait.
    Locked,
}

/// A cache while its instances are looked through. Others wait until it is dropped.
#[derive(Debug)]
pub struct CacheChoice {
    directory: PathBuf,
    _lock: fs::File,
}

/// What a choice found.
#[derive(Debug)]
pub enum CacheFound {
    /// An instance that may be used as long as this lives.
    Lease(CacheLease),
    /// No instance may be used now, and no further one shall be made.
    Busy,
    /// A further instance is to be made.
    Absent(NewCache),
}

/// The use of an instance. Dropping it, or dying, ends it.
#[derive(Debug)]
pub struct CacheLease {
    directory: PathBuf,
    _lock: fs::File,
}

/// An instance to be made.
#[derive(Debug)]
pub struct NewCache {
    temporary: PathBuf,
    lease: CacheLease,
}

/// An instance of a cache, for lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheInstance {
    /// Where it is. Its size is the worker's to find: files may belong to mapped ids.
    pub directory: PathBuf,
    /// The id that Dockerfiles give it.
    pub id: String,
    /// When it was used last.
    pub last_used: SystemTime,
}

impl Store {
    /// Begins to look for an instance of the cache that `about` describes; its member `id` is the
    /// cache's id. Blocks while another process chooses or makes one.
    pub fn choose_cache(&self, mapping: &str, about: &Value) -> Result<CacheChoice> {
        let text = about.to_string();
        let name = Digest::of(text.as_bytes());
        let directory = self.cache_mounts_directory(mapping).join(name.hex());
        fs::create_dir_all(&directory)?;
        let lock = lock::open(&directory.join("make.lock"))?;
        lock::acquire(&lock, FlockOperation::LockExclusive)?;
        let file = directory.join("about.json");
        if !file.exists() {
            self.replace(&file, text.as_bytes(), Durability::Unsynced)?;
        }
        Ok(CacheChoice { directory, _lock: lock })
    }

    /// Returns the directory that holds the caches of an id mapping.
    #[must_use]
    pub fn cache_mounts_directory(&self, mapping: &str) -> PathBuf {
        debug_assert!(!mapping.contains('/'), "a mapping's name is one word");
        self.root().join("cachemounts").join(mapping)
    }

    /// Lists all instances of all caches, in no order.
    pub fn cache_instances(&self) -> Result<Vec<CacheInstance>> {
        let mut instances = Vec::new();
        for mapping in children(&self.root().join("cachemounts"))? {
            for cache in children(&mapping)? {
                let about = fs::read(cache.join("about.json")).unwrap_or_default();
                let about: Value = serde_json::from_slice(&about).unwrap_or_default();
                let id = about["id"].as_str().unwrap_or_default();
                for directory in children(&cache)? {
                    if number_of(&directory).is_none() {
                        continue;
                    }
                    let lock = fs::metadata(lock_of(&directory));
                    let last_used = lock.and_then(|lock| lock.modified());
                    let last_used = last_used.unwrap_or(SystemTime::UNIX_EPOCH);
                    instances.push(CacheInstance { directory, id: id.to_owned(), last_used });
                }
            }
        }
        Ok(instances)
    }

    /// Puts an instance out of the way unless it is being used, and returns what the worker has to
    /// delete. What nobody deletes, the next garbage collection lists again.
    pub fn remove_cache(&self, instance: &CacheInstance) -> Result<Option<PathBuf>> {
        let directory = &instance.directory;
        let Some(cache) = directory.parent() else { return Ok(None) };
        let choosing = lock::open(&cache.join("make.lock"))?;
        lock::acquire(&choosing, FlockOperation::LockExclusive)?;
        let lock = lock::open(&lock_of(directory))?;
        if !lock::try_exclusive(&lock)? {
            return Ok(None);
        }
        let aside = cache.join(format!("{REMOVED}{}", unique_name()));
        match fs::rename(directory, &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns what was removed or never completed. Only for who has the store alone.
    pub(super) fn abandoned_caches(&self) -> Result<Vec<PathBuf>> {
        let mut abandoned = Vec::new();
        for mapping in children(&self.root().join("cachemounts"))? {
            for cache in children(&mapping)? {
                abandoned.extend(children(&cache)?.into_iter().filter(|path| {
                    let name = file_name(path).unwrap_or_default();
                    name.starts_with(REMOVED) || name.starts_with(NEW)
                }));
            }
        }
        Ok(abandoned)
    }
}

impl CacheChoice {
    /// Finds an instance that may be used, as BuildKit does: any that nobody has for `sharing`, else
    /// a further one, but for [`CacheSharing::Locked`], which waits for those that there are.
    pub fn find(&self, sharing: CacheSharing) -> Result<CacheFound> {
        let mut numbers: Vec<u64> =
            children(&self.directory)?.iter().filter_map(|path| number_of(path)).collect();
        numbers.sort_unstable();
        for number in &numbers {
            if let Some(lease) = self.lease(*number, sharing)? {
                return Ok(CacheFound::Lease(lease));
            }
        }
        if sharing == CacheSharing::Locked && !numbers.is_empty() {
            return Ok(CacheFound::Busy);
        }
        let taken = numbers.iter().enumerate().take_while(|(at, number)| *at as u64 == **number);
        let free = taken.count() as u64;
        let Some(lease) = self.lease(free, sharing)? else { return Ok(CacheFound::Busy) };
        let temporary = self.directory.join(format!("{NEW}{}", unique_name()));
        Ok(CacheFound::Absent(NewCache { temporary, lease }))
    }

    fn lease(&self, number: u64, sharing: CacheSharing) -> Result<Option<CacheLease>> {
        let directory = self.directory.join(number.to_string());
        let lock = lock::open(&lock_of(&directory))?;
        let is_free = match sharing {
            CacheSharing::Shared => try_shared(&lock)?,
            CacheSharing::Private | CacheSharing::Locked => lock::try_exclusive(&lock)?,
        };
        if !is_free {
            return Ok(None);
        }
        let _ = lock.file().set_modified(SystemTime::now());
        Ok(Some(CacheLease { directory, _lock: lock }))
    }
}

impl CacheLease {
    /// Returns the directory that the step sees.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl NewCache {
    /// Returns where the worker makes the directory; nothing is there yet.
    #[must_use]
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Gives the directory that was made its name.
    pub fn complete(self) -> Result<CacheLease> {
        fs::rename(&self.temporary, &self.lease.directory)?;
        Ok(self.lease)
    }
}

fn number_of(path: &Path) -> Option<u64> {
    file_name(path)?.parse().ok()
}

fn lock_of(instance: &Path) -> PathBuf {
    instance.with_extension("lock")
}

fn try_shared(file: &fs::File) -> Result<bool> {
    loop {
        match flock(file.file(), FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(store: &Store, id: &str, sharing: CacheSharing) -> CacheFound {
        store.choose_cache("word", &json!({ "id": id })).unwrap().find(sharing).unwrap()
    }

    fn made(store: &Store, id: &str, sharing: CacheSharing) -> CacheLease {
        match found(store, id, sharing) {
            CacheFound::Lease(lease) => lease,
            CacheFound::Absent(new) => {
                fs::create_dir(new.temporary()).unwrap();
                new.complete().unwrap()
            }
            CacheFound::Busy => panic!("busy"),
        }
    }

    #[test]
    fn instances_are_shared_as_asked() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let first = made(&store, "a", CacheSharing::Shared);
        let second = made(&store, "a", CacheSharing::Shared);
        assert_eq!(first.directory(), second.directory());
        assert!(matches!(found(&store, "a", CacheSharing::Locked), CacheFound::Busy));
        let private = made(&store, "a", CacheSharing::Private);
        assert_ne!(first.directory(), private.directory());
        assert_ne!(made(&store, "b", CacheSharing::Shared).directory(), first.directory());
        drop((first, second));
        let locked = made(&store, "a", CacheSharing::Locked);
        assert!(matches!(found(&store, "a", CacheSharing::Locked), CacheFound::Busy));
        drop(locked);
        drop(private);
        assert!(matches!(found(&store, "a", CacheSharing::Locked), CacheFound::Lease(_)));
    }

    #[test]
    fn only_unused_instances_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let lease = made(&store, "some id", CacheSharing::Shared);
        let listed = store.cache_instances().unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].id.as_str(), &*listed[0].directory), ("some id", lease.directory()));
        assert_eq!(store.remove_cache(&listed[0]).unwrap(), None);
        drop(lease);
        let aside = store.remove_cache(&listed[0]).unwrap().unwrap();
        assert!(aside.exists() && store.cache_instances().unwrap().is_empty());
        assert_eq!(store.remove_cache(&listed[0]).unwrap(), None);
        assert_eq!(store.collect_garbage().unwrap().snapshots, [aside]);
        assert!(matches!(found(&store, "some id", CacheSharing::Locked), CacheFound::Absent(_)));
    }

    #[test]
    fn what_was_not_completed_is_collected() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let CacheFound::Absent(new) = found(&store, "a", CacheSharing::Shared) else {
            panic!("it was there");
        };
        let temporary = new.temporary().to_owned();
        fs::create_dir(&temporary).unwrap();
        drop(new);
        assert!(matches!(found(&store, "a", CacheSharing::Shared), CacheFound::Absent(_)));
        assert_eq!(store.collect_garbage().unwrap().snapshots, [temporary]);
    }
}
