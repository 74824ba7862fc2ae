//! The hidden directory where files that go to a directory of the user's wait until they are complete.
//!
//! Whoever uses one holds a lock on it, so that one without a lock is left over from a process that
//! was killed.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fs_err as fs;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tempfile::TempDir;

const PREFIX: &str = ".rpub-output-";

/// A directory that goes away when it is dropped.
pub(super) struct Stage {
    directory: TempDir,
    /// Locked. After the directory, which is removed first.
    _lock: fs::File,
}

impl Stage {
    /// Makes an empty one in `destination`. Blocks.
    pub(super) fn new(destination: &Path) -> io::Result<Self> {
        loop {
            let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(destination)?;
            let lock = fs::File::open(directory.path())?;
            match flock(lock.file(), FlockOperation::LockExclusive) {
                // A file system without locks: there nothing is ever removed.
                Ok(()) | Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS | Errno::INVAL) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            // Another process may have removed it before it was locked.
            if is_same(&lock, directory.path()) {
                return Ok(Self { directory, _lock: lock });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

fn is_same(opened: &fs::File, path: &Path) -> bool {
    let (Ok(opened), Ok(named)) = (opened.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    (opened.dev(), opened.ino()) == (named.dev(), named.ino())
}

/// Removes what killed processes have left in `destination`, as far as that is possible.
pub(super) fn remove_abandoned(destination: &Path) {
    for entry in fs::read_dir(destination).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_directory || !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let Ok(lock) = fs::File::open(entry.path()) else { continue };
        if flock(lock.file(), FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::debug!(%error, "abandoned files stay");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_uses_is_removed() {
        let destination = tempfile::tempdir().unwrap();
        let at = |name: &str| destination.path().join(name);
        fs::create_dir_all(at(".rpub-output-killed/deep")).unwrap();
        fs::write(at(".rpub-output-killed/deep/file"), "x").unwrap();
        fs::create_dir(at("mine")).unwrap();
        fs::write(at(".rpub-output-file"), "x").unwrap();
        let used = Stage::new(destination.path()).unwrap();
        remove_abandoned(destination.path());
        assert!(used.path().exists() && at("mine").exists() && at(".rpub-output-file").exists());
        assert!(!at(".rpub-output-killed").exists());
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
    }
}
