//! Places of snapshots and path indexes. What is in them is made by the worker.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;

use crate::image::{DiffId, Digest};

use super::cache::digest_of_hex;
use super::collect::{REMOVED, children, file_name};
use super::write::unique_name;
use super::{Result, Store};

impl Store {
    /// Returns the directories of all unpacked layers, with their diffIDs and when they were made.
    pub fn snapshots(&self) -> Result<Vec<(PathBuf, Digest, SystemTime)>> {
        let mut found = Vec::new();
        for mapping in children(&self.root().join("snapshots"))? {
            for path in children(&mapping)? {
                let Some(diff_id) = file_name(&path).and_then(digest_of_hex) else { continue };
                // A layer says what the time of its root is; that of its inode is ours.
                let changed = fs::symlink_metadata(&path)?.ctime();
                let changed = u64::try_from(changed).unwrap_or_default();
                let made = SystemTime::UNIX_EPOCH + Duration::from_secs(changed);
                found.push((path, diff_id, made));
            }
        }
        Ok(found)
    }

    /// Puts an unpacked layer out of the way, for who has the store alone, and returns what the worker
    /// has to remove.
    pub fn remove_snapshot(&self, snapshot: &Path) -> Result<PathBuf> {
        // In the same directory: moving elsewhere would need the right to write to the snapshot,
        // which may belong to a mapped id.
        let aside = snapshot.with_file_name(format!("{REMOVED}{}", unique_name()));
        fs::rename(snapshot, &aside)?;
        Ok(aside)
    }

    /// Returns where the snapshot of a layer is, or would be, unpacked under the id mapping that
    /// `mapping`, one word, names: ownership on disk depends on the mapping.
    #[must_use]
    pub fn snapshot_path(&self, mapping: &str, diff_id: &DiffId) -> PathBuf {
        self.snapshots_directory(mapping).join(diff_id.0.hex())
    }

    /// Returns a fresh path to unpack to, on the same file system as the snapshots. The directory
    /// that holds it is made, the path itself is not.
    pub fn snapshot_temporary(&self, mapping: &str) -> Result<PathBuf> {
        let directory = self.snapshots_directory(mapping).join("tmp");
        fs::create_dir_all(&directory)?;
        Ok(directory.join(unique_name()))
    }

    /// Returns the directory that holds the path indexes.
    #[must_use]
    pub fn paths_directory(&self) -> PathBuf {
        self.root().join("paths")
    }

    /// Returns where the path index of a layer is, or would be.
    #[must_use]
    pub fn paths_index_path(&self, diff_id: &DiffId) -> PathBuf {
        self.paths_directory().join(diff_id.0.hex())
    }

    /// Returns a fresh path in the store's `tmp/` for a running step. It is not made.
    ///
    /// Whatever is left there goes at the next garbage collection.
    #[must_use]
    pub fn temporary_path(&self) -> PathBuf {
        self.root().join("tmp").join(unique_name())
    }

    /// Returns the directory that holds the snapshots of an id mapping.
    #[must_use]
    pub fn snapshots_directory(&self, mapping: &str) -> PathBuf {
        debug_assert!(!mapping.contains('/'), "a mapping's name is one word");
        self.root().join("snapshots").join(mapping)
    }
}
