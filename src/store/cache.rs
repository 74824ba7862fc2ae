//! Build cache records. What they say is the business of `build`.

use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use fs_err as fs;

use crate::image::Digest;

use super::write::Durability;
use super::{Result, Store};

/// How exactly the last use of a record is noted: a write an hour costs nothing.
const USE_NOTED: Duration = Duration::from_secs(60 * 60);
/// The most room that is made for a record before it is read: few are longer.
const LARGEST_ROOM: u64 = 64 << 10;
/// Bytes in a block of `st_blocks` (`stat(2)`).
const BLOCK: u64 = 512;

impl Store {
    /// Returns the record of `key`, or `None`. Counts as a use of it.
    pub fn cache_record(&self, key: &Digest) -> Result<Option<Vec<u8>>> {
        let Some((file, metadata, bytes)) = self.open_record(key)? else { return Ok(None) };
        let used = metadata.modified()?;
        if used.elapsed().is_ok_and(|age| age > USE_NOTED) {
            // A store that cannot be written to only forgets what was used.
            let _ = file.file().set_modified(SystemTime::now());
        }
        Ok(Some(bytes))
    }

    /// Returns the record of `key` without counting as a use of it.
    pub fn cache_record_unused(&self, key: &Digest) -> Result<Option<Vec<u8>>> {
        Ok(self.open_record(key)?.map(|(_, _, bytes)| bytes))
    }

    fn open_record(&self, key: &Digest) -> Result<Option<(fs::File, Metadata, Vec<u8>)>> {
        let mut file = match fs::File::open(self.record_path(key)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        // With room for all of it, it is read at once.
        let room = metadata.len().min(LARGEST_ROOM);
        let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or(0));
        file.read_to_end(&mut bytes)?;
        Ok((!bytes.is_empty()).then_some((file, metadata, bytes)))
    }

    /// Returns when the record of `key` was used last, to the hour, and the bytes that it takes on
    /// disk.
    pub fn cache_record_use(&self, key: &Digest) -> Result<Option<(SystemTime, u64)>> {
        match fs::metadata(self.record_path(key)) {
            Ok(metadata) => Ok(Some((metadata.modified()?, metadata.blocks() * BLOCK))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether the last call that said so is longer ago than `interval`, and notes this one.
    pub fn is_bound_due(&self, interval: Duration) -> Result<bool> {
        let path = self.root().join("cache").join("bounded");
        match fs::metadata(&path) {
            Ok(metadata) if metadata.modified()?.elapsed().is_ok_and(|age| age < interval) => {
                return Ok(false);
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
        self.replace(&path, b"", Durability::Unsynced)?;
        Ok(true)
    }

    /// Returns the listing kept for a content digest, whatever it is.
    pub fn cache_listing(&self, content: &Digest) -> Result<Option<Vec<u8>>> {
        match fs::read(self.listing_path(content)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether there is a listing for a content digest.
    #[must_use]
    pub fn has_cache_listing(&self, content: &Digest) -> bool {
        self.listing_path(content).exists()
    }

    /// Keeps a listing for a content digest, for as long as a record names the digest.
    pub fn put_cache_listing(&self, content: &Digest, bytes: &[u8]) -> Result<()> {
        let path = self.listing_path(content);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        self.replace(&path, bytes, Durability::Unsynced)
    }

    pub(super) fn listings_directory(&self) -> PathBuf {
        self.root().join("cache").join("listings")
    }

    fn listing_path(&self, content: &Digest) -> PathBuf {
        self.listings_directory().join(content.hex())
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
