//! Images that may be taken away again when room is needed: those of a pull-through cache.
//!
//! Such an image has a mark on its entry. A name that somebody gave on purpose never gets one, and
//! loses it when it is given on purpose. When an image was last used is the time of its manifest's
//! file.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};

use crate::image::{Descriptor, Digest, Reference};

use super::collect::Reclaimed;
use super::index::ImageEntry;
use super::{Result, Store, lock};

/// What was used so shortly before is being used: a client that has the manifest asks for the rest.
const IN_USE: Duration = Duration::from_secs(60);
/// How often it is tried to get the store alone: requests hold it for milliseconds.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(25);

/// What eviction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evicted {
    /// How many images went.
    pub images: usize,
    /// Bytes that were freed.
    pub bytes: u64,
    /// Bytes that images which may go still take.
    pub left_bytes: u64,
}

/// An image that may go.
#[derive(Debug, Clone)]
struct Evictable {
    digest: Digest,
    last_used: SystemTime,
    /// The blobs that nothing else needs but other images that may go, with their sizes.
    blobs: HashMap<Digest, u64>,
}

impl Store {
    /// Like [`Store::tag`], for an image that may be taken away again when room is needed. A name
    /// that was given on purpose stays one that was.
    pub fn tag_evictable(&self, reference: &Reference, descriptor: &Descriptor) -> Result<()> {
        let mut descriptor = descriptor.clone();
        descriptor.annotations.insert(super::index::EVICTABLE.to_owned(), "true".to_owned());
        self.tag(reference, &descriptor)
    }

    /// Notes that an image is used now.
    pub fn note_use(&self, digest: &Digest) -> Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let same = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let times = Timestamps { last_access: same, last_modification: now };
        match utimensat(CWD, self.blob_path(digest), &times, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }

    /// Removes images that may go, when they take more than `max_bytes`: those unused for longest
    /// first, until a tenth is free. And blobs that nothing needs. `None`, and nothing is removed, when another command uses
    /// the store. Blocks, for half a second when the store is in use.
    ///
    /// Whoever reads a blob reads on: its file has no name any more, but is there until it is closed.
    ///
    /// # Errors
    ///
    /// Those of [`Store::collect_garbage`].
    pub fn evict(&self, max_bytes: u64) -> Result<Option<Evicted>> {
        let guard = lock::open(&self.use_lock_path())?;
        let mut tries = TRIES;
        while !lock::try_exclusive(&guard)? {
            tries -= 1;
            if tries == 0 {
                return Ok(None);
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
        let images = self.evictable()?;
        let victims = if total(images.iter()) > max_bytes {
            choose(&images, max_bytes - max_bytes / 10, SystemTime::now())
        } else {
            HashSet::new()
        };
        if !victims.is_empty() {
            self.retain_images(|image| {
                !image.evictable || !victims.contains(&image.descriptor.digest)
            })?;
        }
        let mut reclaimed = Reclaimed::default();
        self.sweep_blobs(&self.mark()?, &mut reclaimed)?;
        let left = images.iter().filter(|image| !victims.contains(&image.digest));
        let left_bytes = total(left);
        Ok(Some(Evicted { images: victims.len(), bytes: reclaimed.bytes, left_bytes }))
    }

    fn evictable(&self) -> Result<Vec<Evictable>> {
        let images = self.shared_images()?;
        let may_go: HashSet<&Digest> = images
            .iter()
            .filter(|image| image.evictable)
            .map(|image| &image.descriptor.digest)
            .collect();
        let mut needed = HashSet::new();
        let stays = |image: &&ImageEntry| !image.evictable;
        for image in images.iter().filter(stays) {
            self.mark_manifest(&image.descriptor.digest, &mut needed)?;
        }
        let mut found = Vec::new();
        for digest in may_go.into_iter().filter(|digest| !needed.contains(digest)) {
            let mut reached = HashSet::new();
            self.mark_manifest(digest, &mut reached)?;
            let mut blobs = HashMap::new();
            for blob in reached.into_iter().filter(|blob| !needed.contains(blob)) {
                if let Some(size) = self.blob_size(&blob)? {
                    blobs.insert(blob, size);
                }
            }
            let metadata = fs::metadata(self.blob_path(digest));
            let used = metadata.and_then(|metadata| metadata.modified());
            let last_used = used.unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(Evictable { digest: digest.clone(), last_used, blobs });
        }
        Ok(found)
    }
}

/// Returns the images that must go so that the others take `max_bytes` at most.
fn choose(images: &[Evictable], max_bytes: u64, now: SystemTime) -> HashSet<Digest> {
    let mut users: HashMap<&Digest, usize> = HashMap::new();
    for blob in images.iter().flat_map(|image| image.blobs.keys()) {
        *users.entry(blob).or_default() += 1;
    }
    let mut left = total(images.iter());
    let mut oldest: Vec<&Evictable> = images.iter().collect();
    oldest.sort_by_key(|image| image.last_used);
    let mut victims = HashSet::new();
    for image in oldest {
        let is_in_use = now.duration_since(image.last_used).is_ok_and(|age| age < IN_USE);
        if left <= max_bytes || is_in_use {
            break;
        }
        for (blob, size) in &image.blobs {
            let users = users.entry(blob).or_default();
            *users = users.saturating_sub(1);
            if *users == 0 {
                left -= size;
            }
        }
        victims.insert(image.digest.clone());
    }
    victims
}

/// Returns what images take together; what several have counts once.
fn total<'a>(images: impl Iterator<Item = &'a Evictable>) -> u64 {
    let blobs: HashMap<&Digest, u64> =
        images.flat_map(|image| image.blobs.iter().map(|(blob, size)| (blob, *size))).collect();
    blobs.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_go_until_the_rest_fits() {
        let now = SystemTime::now();
        let image = |name: &str, minutes: u64, blobs: &[(&str, u64)]| Evictable {
            digest: Digest::of(name.as_bytes()),
            last_used: now - Duration::from_secs(minutes * 60),
            blobs: blobs.iter().map(|(n, size)| (Digest::of(n.as_bytes()), *size)).collect(),
        };
        let images = [
            image("new", 0, &[("base", 100), ("n", 10)]),
            image("old", 30, &[("base", 100), ("o", 20)]),
            image("older", 40, &[("base", 100), ("p", 30)]),
            image("oldest", 50, &[("q", 40)]),
        ];
        let chosen = |max_bytes| {
            let victims = choose(&images, max_bytes, now);
            let names = ["oldest", "older", "old", "new"].into_iter();
            names.filter(|name| victims.contains(&Digest::of(name.as_bytes()))).collect::<Vec<_>>()
        };
        assert_eq!(total(images.iter()), 200);
        assert_eq!(chosen(200), [""; 0]);
        assert_eq!(chosen(199), ["oldest"]);
        assert_eq!(chosen(160), ["oldest"]);
        assert_eq!(chosen(159), ["oldest", "older"]);
        // A base stays for as long as one image needs it, and what is in use stays.
        assert_eq!(chosen(0), ["oldest", "older", "old"]);
    }
}
