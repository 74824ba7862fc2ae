//! Locks between processes.

use std::path::Path;

use fs_err as fs;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Result, Store};

/// Keeps garbage collection away from the store while it lives.
///
/// A process may hold several. One that holds any must not call [`Store::collect_garbage`]: it
/// would wait for itself.
#[derive(Debug)]
pub struct SharedLock {
    _file: fs::File,
}

/// Keeps every command from using the store while it lives.
#[derive(Debug)]
pub struct ExclusiveLock {
    _file: fs::File,
}

impl Store {
    /// Takes the store alone. Blocks while commands use it. A process that holds a [`SharedLock`]
    /// would wait for itself.
    pub fn lock_exclusive(&self) -> Result<ExclusiveLock> {
        let file = open(&self.use_lock_path())?;
        acquire(&file, FlockOperation::LockExclusive)?;
        Ok(ExclusiveLock { _file: file })
    }

    /// Takes the store alone when no command uses it.
    pub fn try_lock_exclusive(&self) -> Result<Option<ExclusiveLock>> {
        let file = open(&self.use_lock_path())?;
        Ok(try_exclusive(&file)?.then_some(ExclusiveLock { _file: file }))
    }

    /// Takes the lock that commands hold while they use blobs or snapshots. Blocks while garbage
    /// is being collected.
    pub fn lock_shared(&self) -> Result<SharedLock> {
        let file = open(&self.use_lock_path())?;
        acquire(&file, FlockOperation::LockShared)?;
        Ok(SharedLock { _file: file })
    }
}

/// Opens a lock file, making it when it is missing.
pub(super) fn open(path: &Path) -> Result<fs::File> {
    Ok(fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?)
}

/// Waits for a lock.
pub(super) fn acquire(file: &fs::File, operation: FlockOperation) -> Result<()> {
    loop {
        match flock(file.file(), operation) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(with_path("lock", file.path(), error).into()),
        }
    }
}

/// Takes an exclusive lock when nobody has one; tells whether it did.
pub(super) fn try_exclusive(file: &fs::File) -> Result<bool> {
    loop {
        match flock(file.file(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(with_path("lock", file.path(), error).into()),
        }
    }
}

fn with_path(action: &str, path: &Path, error: Errno) -> std::io::Error {
    let error = std::io::Error::from(error);
    std::io::Error::new(error.kind(), format!("failed to {action} `{}`: {error}", path.display()))
}
