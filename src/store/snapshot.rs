//! Places of snapshots and path indexes. What is in them is made by the worker.

use std::path::PathBuf;

use fs_err as fs;

use crate::image::DiffId;

use super::write::unique_name;
use super::{Result, Store};

impl Store {
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
