//! Build cache records. What they say is the business of `build`.

use std::path::PathBuf;

use fs_err as fs;

use crate::image::Digest;

use super::write::Durability;
use super::{Result, Store};

impl Store {
    /// Returns the record of `key`, or `None`.
    pub fn cache_record(&self, key: &Digest) -> Result<Option<Vec<u8>>> {
        match fs::read(self.record_path(key)) {
            Ok(bytes) if bytes.is_empty() => Ok(None),
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps a record: JSON bytes, replacing an earlier one of the same key.
    ///
    /// Every string in it that is a digest (`sha256:...`) keeps the blob, the snapshot and the
    /// path index of that name from garbage collection.
    pub fn put_cache_record(&self, key: &Digest, bytes: &[u8]) -> Result<()> {
        self.replace(&self.record_path(key), bytes, Durability::Unsynced)
    }

    /// Forgets the record of `key`, when there is one.
    pub fn remove_cache_record(&self, key: &Digest) -> Result<()> {
        match fs::remove_file(self.record_path(key)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Returns the keys of all records, in no order.
    pub fn cache_keys(&self) -> Result<Vec<Digest>> {
        let mut keys = Vec::new();
        for entry in fs::read_dir(self.root().join("cache"))? {
            let name = entry?.file_name();
            keys.extend(name.to_str().and_then(digest_of_hex));
        }
        Ok(keys)
    }

    fn record_path(&self, key: &Digest) -> PathBuf {
        self.root().join("cache").join(key.hex())
    }
}

/// Returns the digest whose hexadecimal part is `hex`: its length tells the algorithm.
pub(super) fn digest_of_hex(hex: &str) -> Option<Digest> {
    let algorithm = if hex.len() == 128 { "sha512" } else { "sha256" };
    format!("{algorithm}:{hex}").parse().ok()
}
