//! What was got from elsewhere and is kept for the next time: files, repositories, unpacked trees.
//! What is in an entry is the business of `remote`.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};

use crate::image::Digest;

use super::write::{Durability, unique_name};
use super::{Result, Store, lock};

/// How long an entry stays that nobody uses. A fortnight bridges holidays; getting it again costs
/// only the transfer.
const UNUSED_AGE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// How old a repository becomes before it is fetched anew: each fetch adds to it, and nothing ever
/// leaves it.
const REPOSITORY_AGE: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// Which entries there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteKind {
    /// Files of HTTP servers, by URL.
    Http,
    /// Git repositories, by address.
    Git,
    /// Unpacked archives, by their digest.
    Tree,
}

/// Keeps others from changing an entry while it lives.
#[derive(Debug)]
pub struct RemoteLock {
    _file: fs::File,
}

impl RemoteKind {
    const ALL: [Self; 3] = [Self::Http, Self::Git, Self::Tree];

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Git => "git",
            Self::Tree => "trees",
        }
    }
}

impl Store {
    /// Returns the directory of an entry, which is made when it is missing and counts as used now.
    pub fn remote_entry(&self, kind: RemoteKind, key: &Digest) -> Result<PathBuf> {
        let path = self.remote_directory(kind).join(key.hex());
        fs::create_dir_all(&path)?;
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(std::io::Error::from)?;
        Ok(path)
    }

    /// Takes the lock of an entry's directory when nobody has it.
    pub fn try_lock_remote(&self, entry: &Path) -> Result<Option<RemoteLock>> {
        let file = lock::open(&entry.join("lock"))?;
        Ok(lock::try_exclusive(&file)?.then_some(RemoteLock { _file: file }))
    }

    /// Writes a small file of an entry, replacing an earlier one at once or not at all.
    pub fn replace_in_remote(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.replace(path, bytes, Durability::Unsynced)
    }

    /// Returns the directories of all entries, with the time of their last use.
    pub fn remote_entries(&self) -> Result<Vec<(PathBuf, SystemTime)>> {
        let mut found = Vec::new();
        for kind in RemoteKind::ALL {
            for path in super::collect::children(&self.remote_directory(kind))? {
                let used = fs::symlink_metadata(&path)?.modified()?;
                found.push((path, used));
            }
        }
        Ok(found)
    }

    /// Puts an entry out of the way, for who has the store alone, and returns what the worker has to
    /// remove.
    pub fn remove_remote(&self, entry: &Path) -> Result<PathBuf> {
        let aside = self.root().join("tmp").join(unique_name());
        fs::rename(entry, &aside)?;
        Ok(aside)
    }

    fn remote_directory(&self, kind: RemoteKind) -> PathBuf {
        self.root().join("remote").join(kind.name())
    }

    /// Moves entries that nobody has used for long to `tmp/`, whose directories the worker removes:
    /// a tree may have some that their owner cannot write to. Of the others, what newer content has
    /// replaced goes.
    pub(super) fn sweep_remote(&self) -> Result<()> {
        for kind in RemoteKind::ALL {
            let directory = self.remote_directory(kind);
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            for entry in entries {
                let path = entry?.path();
                if age_of(&path, Clock::Content) > UNUSED_AGE {
                    self.set_aside(&path)?;
                    continue;
                }
                for replaced in replaced(kind, &path) {
                    self.set_aside(&replaced)?;
                }
            }
        }
        Ok(())
    }

    fn set_aside(&self, path: &Path) -> Result<()> {
        Ok(fs::rename(path, self.root().join("tmp").join(unique_name()))?)
    }
}

/// Returns what of an entry nobody needs any more: of a URL all files but the newest; of a
/// repository the trees that are older than a fortnight, and itself when it is too old.
fn replaced(kind: RemoteKind, entry: &Path) -> Vec<PathBuf> {
    match kind {
        RemoteKind::Http => {
            let mut files = directories(entry);
            files.sort_by_key(|path| age_of(path, Clock::Place));
            files.split_off(files.len().min(1))
        }
        RemoteKind::Git => {
            let mut old = directories(&entry.join("trees"));
            old.retain(|path| age_of(path, Clock::Place) > UNUSED_AGE);
            let repository = entry.join("repository");
            // Written once, when the repository is made.
            if age_of(&repository.join("HEAD"), Clock::Content) > REPOSITORY_AGE {
                old.push(repository);
            }
            old
        }
        RemoteKind::Tree => Vec::new(),
    }
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter(is_directory).map(|entry| entry.path()).collect()
}

/// Which of a file's times counts.
#[derive(Clone, Copy)]
enum Clock {
    /// When its content was last changed, or said to be.
    Content,
    /// When it got its place: what is inside may have any time.
    Place,
}

/// Returns how long ago that was; nothing for what is not there.
fn age_of(path: &Path, clock: Clock) -> Duration {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Duration::ZERO };
    let time = match clock {
        Clock::Content => metadata.modified().unwrap_or_else(|_| SystemTime::now()),
        Clock::Place => {
            let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
            let nanoseconds = u32::try_from(metadata.ctime_nsec()).unwrap_or(0);
            SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
        }
    };
    SystemTime::now().duration_since(time).unwrap_or_default()
}
