//! Digests of files, remembered by what `statx` says of them.
//!
//! The file: the line `rpub stat cache 1`, then records of 72 bytes, each device, inode, size, times
//! of modification and change in nanoseconds (little-endian, 8 bytes each) and the SHA-256 of the
//! content. A file of another version, or a damaged one, counts as empty: nothing is lost but time.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::CopyError;
use super::tree::Meta;

const MAGIC: &[u8] = b"rpub stat cache 1\n";
const RECORD: usize = 40 + 32;

/// A cache larger than this (18 MB) keeps only what the last run used.
const MOST_RECORDS: usize = 250_000;

/// How long before its digest is taken a file must have been left alone to be remembered: longer
/// than the clock of file times stands still, so that a later change must show in them.
const SETTLED_NS: i64 = 50_000_000;

/// The same where times are whole seconds, or as on FAT every other one.
const SETTLED_COARSE_NS: i64 = 2_100_000_000;

/// Digests of file contents by device, inode, size and times.
///
/// Like git's index it does not trust what is too young: a file that was changed so shortly before
/// its digest was taken that another change might leave the same times is not remembered. Files
/// with extended attributes are not remembered either.
#[derive(Debug, Default)]
pub struct StatCache {
    known: HashMap<(u64, u64), Known>,
    new: Mutex<HashMap<(u64, u64), Record>>,
}

#[derive(Debug)]
struct Known {
    record: Record,
    used: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    size: u64,
    mtime_ns: i64,
    ctime_ns: i64,
    digest: [u8; 32],
}

impl StatCache {
    /// Reads the cache at `path`; an empty one when there is none, or none that can be read.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        let bytes = match fs_err::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(%error, "no stat cache");
                return Self::default();
            }
        };
        let records = bytes.strip_prefix(MAGIC).filter(|rest| rest.len() % RECORD == 0);
        let known = records.unwrap_or_default().chunks_exact(RECORD).map(|bytes| {
            let (key, record) = Record::read(bytes);
            (key, Known { record, used: AtomicBool::new(false) })
        });
        Self { known: known.collect(), new: Mutex::default() }
    }

    /// Writes the cache to `path` if anything is new: temporary file, then rename. When two processes
    /// do so at once, one's news is lost, which costs the next run some hashing.
    ///
    /// # Errors
    ///
    /// [`CopyError::SaveStatCache`].
    pub fn save(&self, path: &Path) -> Result<(), CopyError> {
        let new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        if new.is_empty() {
            return Ok(());
        }
        let only_used = self.known.len() + new.len() > MOST_RECORDS;
        let mut bytes = MAGIC.to_vec();
        for (key, known) in &self.known {
            let is_used = known.used.load(Ordering::Relaxed);
            if !new.contains_key(key) && (is_used || !only_used) {
                known.record.write(*key, &mut bytes);
            }
        }
        for (key, record) in new.iter() {
            record.write(*key, &mut bytes);
        }
        let directory = path.parent().unwrap_or(Path::new("."));
        let save = || {
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            file.write_all(&bytes)?;
            file.persist(path).map_err(|error| error.error)
        };
        match save() {
            Ok(_) => Ok(()),
            Err(source) => Err(CopyError::SaveStatCache { path: path.to_owned(), source }),
        }
    }

    /// Returns the digest of the file with `meta`, if it is known and the file surely the same.
    pub(super) fn lookup(&self, meta: &Meta) -> Option<[u8; 32]> {
        let key = (meta.device, meta.inode);
        if let Some(known) = self.known.get(&key).filter(|known| known.record.is_of(meta)) {
            known.used.store(true, Ordering::Relaxed);
            return Some(known.record.digest);
        }
        let new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        new.get(&key).filter(|record| record.is_of(meta)).map(|record| record.digest)
    }

    /// Remembers `digests` of files by their metadata, which was read before their content; the
    /// reading began at `started_ns`.
    pub(super) fn remember(&self, digests: &[(Meta, [u8; 32])], started_ns: i64) {
        let mut new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        for (meta, digest) in digests.iter().filter(|(meta, _)| is_settled(meta, started_ns)) {
            let (size, mtime_ns, ctime_ns) = (meta.size, meta.mtime_ns, meta.ctime_ns);
            let record = Record { size, mtime_ns, ctime_ns, digest: *digest };
            new.insert((meta.device, meta.inode), record);
        }
    }
}

/// Returns the time now in nanoseconds since 1970.
pub(super) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn is_settled(meta: &Meta, started_ns: i64) -> bool {
    let is_coarse = meta.ctime_ns % 1_000_000_000 == 0;
    let settled_ns = if is_coarse { SETTLED_COARSE_NS } else { SETTLED_NS };
    meta.mtime_ns.max(meta.ctime_ns) < started_ns.saturating_sub(settled_ns)
}

impl Record {
    fn is_of(&self, meta: &Meta) -> bool {
        (self.size, self.mtime_ns, self.ctime_ns) == (meta.size, meta.mtime_ns, meta.ctime_ns)
    }

    fn write(&self, key: (u64, u64), bytes: &mut Vec<u8>) {
        for number in [key.0, key.1, self.size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for time in [self.mtime_ns, self.ctime_ns] {
            bytes.extend_from_slice(&time.to_le_bytes());
        }
        bytes.extend_from_slice(&self.digest);
    }

    /// Reads the record in `bytes`, which are [`RECORD`] long.
    fn read(bytes: &[u8]) -> ((u64, u64), Self) {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at * 8..at * 8 + 8]);
            word
        };
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[40..]);
        let record = Self {
            size: u64::from_le_bytes(word(2)),
            mtime_ns: i64::from_le_bytes(word(3)),
            ctime_ns: i64::from_le_bytes(word(4)),
            digest,
        };
        ((u64::from_le_bytes(word(0)), u64::from_le_bytes(word(1))), record)
    }
}
