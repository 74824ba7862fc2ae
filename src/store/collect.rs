//! Garbage collection: mark what images and cache records reach, sweep the rest.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use rustix::fs::FlockOperation;
use serde_json::Value;

use crate::image::{Content, Digest, ImageConfig, MAX_MANIFEST_BYTES};

use super::cache::digest_of_hex;
use super::index::INDEX;
use super::write::unique_name;
use super::{Error, ExclusiveLock, Result, Store, lock};

/// How old a temporary file must be to be taken. It closes the gap between making a file and
/// locking it, for the few writers that do not hold the store's lock.
const TEMPORARY_AGE: Duration = Duration::from_secs(60);
/// How long a partial blob can be continued: long enough for a client that comes back tomorrow.
const PARTIAL_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// What the name of a snapshot starts with once it is no longer one.
pub(super) const REMOVED: &str = ".removed-";

/// Which images count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaching {
    /// All.
    All,
    /// Those with a name, and what refers to them.
    Named,
}

/// What garbage collection took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// How many blobs.
    pub blobs: usize,
    /// Bytes of blobs, abandoned temporaries and path indexes.
    pub bytes: u64,
    /// Directories that the worker must remove: their files belong to mapped ids. They are out of
    /// the way already, and are listed again next time if nobody removes them.
    pub snapshots: Vec<PathBuf>,
}

impl Store {
    /// Removes what no image and no cache record reaches. Waits until no command uses the store.
    ///
    /// # Errors
    ///
    /// Those of [`Store::manifest`] when an image's manifest is damaged: then nothing is removed.
    pub fn collect_garbage(&self) -> Result<Reclaimed> {
        let guard = lock::open(&self.use_lock_path())?;
        lock::acquire(&guard, FlockOperation::LockExclusive)?;
        self.collect()
    }

    /// Like [`Store::collect_garbage`], for who has the store alone.
    ///
    /// # Errors
    ///
    /// Those of [`Store::collect_garbage`].
    pub fn collect_garbage_alone(&self, _alone: &ExclusiveLock) -> Result<Reclaimed> {
        self.collect()
    }

    /// Like [`Store::collect_garbage`], but returns `None` at once when a command uses the store.
    pub fn try_collect_garbage(&self) -> Result<Option<Reclaimed>> {
        let guard = lock::open(&self.use_lock_path())?;
        if lock::try_exclusive(&guard)? { self.collect().map(Some) } else { Ok(None) }
    }

    /// Returns what killed builds have left of their steps, out of the way and ready for the worker
    /// to remove. Nothing while another command uses the store, whose steps these may be.
    ///
    /// Costs one directory listing when there is nothing.
    pub fn abandoned_steps(&self) -> Result<Vec<PathBuf>> {
        let list = || -> Result<Vec<(PathBuf, PathBuf)>> {
            let mut steps = Vec::new();
            for mapping in children(&self.root().join("snapshots"))? {
                let left = children(&mapping.join("tmp"))?;
                steps.extend(left.into_iter().map(|step| (mapping.clone(), step)));
            }
            Ok(steps)
        };
        if list()?.is_empty() {
            return Ok(Vec::new());
        }
        let guard = lock::open(&self.use_lock_path())?;
        if !lock::try_exclusive(&guard)? {
            return Ok(Vec::new());
        }
        let mut aside = Vec::new();
        for (mapping, step) in list()? {
            let name = mapping.join("tmp").join(format!("{REMOVED}{}", unique_name()));
            fs::rename(&step, &name)?;
            aside.push(name);
        }
        Ok(aside)
    }

    fn collect(&self) -> Result<Reclaimed> {
        let kept = self.mark()?;
        let mut reclaimed = Reclaimed::default();
        self.sweep_blobs(&kept, &mut reclaimed)?;
        self.sweep_paths(&kept, &mut reclaimed)?;
        self.sweep_listings(&kept, &mut reclaimed)?;
        self.sweep_snapshots(&kept, &mut reclaimed)?;
        reclaimed.snapshots.extend(self.abandoned_caches()?);
        self.sweep_ingest(&mut reclaimed)?;
        self.sweep_remote()?;
        self.sweep_seen()?;
        self.sweep_tmp(&mut reclaimed)?;
        Ok(reclaimed)
    }

    /// Returns every digest that images reach: of blobs, and of diffIDs.
    ///
    /// # Errors
    ///
    /// Those of [`Store::manifest`] when an image's manifest is damaged.
    pub fn reached_by_images(&self, which: Reaching) -> Result<HashSet<Digest>> {
        let mut reached = HashSet::new();
        for image in self.images()? {
            let counts = match which {
                Reaching::All => true,
                // What refers to another image, as signatures do, has no name of its own.
                Reaching::Named => image.name.is_some() || image.subject.is_some(),
            };
            if counts {
                self.mark_manifest(&image.descriptor.digest, &mut reached)?;
            }
        }
        Ok(reached)
    }

    /// Returns every digest that must stay: of blobs, and of diffIDs.
    pub(super) fn mark(&self) -> Result<HashSet<Digest>> {
        let mut kept = HashSet::new();
        for entry in &self.load()?.index.manifests {
            self.mark_manifest(&entry.digest, &mut kept)?;
            kept.extend(entry.annotations.get(INDEX).and_then(|index| index.parse().ok()));
        }
        for key in self.cache_keys()? {
            let record = self.cache_record_unused(&key)?.unwrap_or_default();
            if let Ok(value) = serde_json::from_slice(&record) {
                mark_strings(&value, &mut kept);
            }
        }
        Ok(kept)
    }

    pub(super) fn mark_manifest(&self, digest: &Digest, kept: &mut HashSet<Digest>) -> Result<()> {
        if !kept.insert(digest.clone()) {
            return Ok(());
        }
        // Parts of an image may be absent: rpub fetches only what it needs.
        let Some(manifest) = self.manifest(digest)? else { return Ok(()) };
        match manifest.content {
            Content::Index(index) => {
                for child in &index.manifests {
                    self.mark_manifest(&child.digest, kept)?;
                }
            }
            Content::Image(image) => {
                kept.extend(image.layers.into_iter().map(|layer| layer.digest));
                match self.read_blob(&image.config.digest, MAX_MANIFEST_BYTES) {
                    // An artifact's config is anything; only an image's has diffIDs.
                    Ok(bytes) => {
                        let config = ImageConfig::parse(&bytes).ok();
                        let layers = config.map(|config| config.rootfs.diff_ids);
                        kept.extend(layers.into_iter().flatten().map(|diff_id| diff_id.0));
                    }
                    Err(Error::MissingBlob(_) | Error::TooLarge { .. }) => {}
                    Err(error) => return Err(error),
                }
                kept.insert(image.config.digest);
            }
        }
        Ok(())
    }

    pub(super) fn sweep_blobs(
        &self,
        kept: &HashSet<Digest>,
        reclaimed: &mut Reclaimed,
    ) -> Result<()> {
        for algorithm in children(&self.root().join("blobs"))? {
            for path in children(&algorithm)? {
                let Some(digest) = file_name(&path).and_then(digest_of_hex) else { continue };
                if !kept.contains(&digest) {
                    remove(&path, reclaimed)?;
                    reclaimed.blobs += 1;
                }
            }
        }
        Ok(())
    }

    fn sweep_paths(&self, kept: &HashSet<Digest>, reclaimed: &mut Reclaimed) -> Result<()> {
        for path in children(&self.root().join("paths"))? {
            let name = file_name(&path).unwrap_or_default();
            let is_kept = match digest_of_hex(name) {
                Some(diff_id) => kept.contains(&diff_id),
                None => !is_older(&path, TEMPORARY_AGE),
            };
            if !is_kept {
                remove(&path, reclaimed)?;
            }
        }
        Ok(())
    }

    fn sweep_listings(&self, kept: &HashSet<Digest>, reclaimed: &mut Reclaimed) -> Result<()> {
        for path in children(&self.listings_directory())? {
            let content = file_name(&path).and_then(digest_of_hex);
            if content.is_none_or(|content| !kept.contains(&content)) {
                remove(&path, reclaimed)?;
            }
        }
        Ok(())
    }

    fn sweep_snapshots(&self, kept: &HashSet<Digest>, reclaimed: &mut Reclaimed) -> Result<()> {
        for mapping in children(&self.root().join("snapshots"))? {
            for path in children(&mapping)? {
                match file_name(&path).unwrap_or_default() {
                    // Who unpacks holds the lock, so these belong to nobody.
                    "tmp" => reclaimed.snapshots.extend(children(&path)?),
                    name if name.starts_with(REMOVED) => reclaimed.snapshots.push(path),
                    name => {
                        let is_kept = digest_of_hex(name).is_some_and(|id| kept.contains(&id));
                        if !is_kept {
                            // In the same directory: moving elsewhere would need the right to
                            // write to the snapshot, which may belong to a mapped id.
                            let aside = mapping.join(format!("{REMOVED}{}", unique_name()));
                            fs::rename(&path, &aside)?;
                            reclaimed.snapshots.push(aside);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn sweep_ingest(&self, reclaimed: &mut Reclaimed) -> Result<()> {
        for path in children(&self.root().join("ingest"))? {
            let is_partial = path.extension().is_some_and(|extension| extension == "partial");
            let age = if is_partial { PARTIAL_AGE } else { TEMPORARY_AGE };
            if is_older(&path, age) && !is_locked(&path)? {
                remove(&path, reclaimed)?;
            }
        }
        Ok(())
    }

    fn sweep_tmp(&self, reclaimed: &mut Reclaimed) -> Result<()> {
        for path in children(&self.root().join("tmp"))? {
            if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
                reclaimed.snapshots.push(path);
            } else if is_older(&path, TEMPORARY_AGE) {
                remove(&path, reclaimed)?;
            }
        }
        Ok(())
    }
}

fn mark_strings(value: &Value, kept: &mut HashSet<Digest>) {
    match value {
        Value::String(text) => kept.extend(text.parse()),
        Value::Array(values) => values.iter().for_each(|value| mark_strings(value, kept)),
        Value::Object(members) => members.values().for_each(|value| mark_strings(value, kept)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

pub(super) fn children(directory: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn file_name(path: &Path) -> Option<&str> {
    path.file_name().and_then(|name| name.to_str())
}

fn is_older(path: &Path, age: Duration) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|elapsed| elapsed > age))
}

fn is_locked(path: &Path) -> Result<bool> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    Ok(!lock::try_exclusive(&file)?)
}

/// Removes a file and counts its bytes; one that is gone is fine.
fn remove(path: &Path, reclaimed: &mut Reclaimed) -> Result<()> {
    let size = fs::symlink_metadata(path).map_or(0, |metadata| metadata.len());
    match fs::remove_file(path) {
        Ok(()) => reclaimed.bytes += size,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
