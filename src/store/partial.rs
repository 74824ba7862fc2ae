//! Blobs on their way in from a registry, continued where an earlier process stopped.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use fs_err as fs;

use crate::blob::{Hasher, Mismatch};
use crate::image::{Descriptor, Digest};

use super::write::{IngestFile, OnDrop, rehash};
use super::{Result, Store, lock};

/// What is there of a blob: its first bytes, in a file that only this process writes to.
///
/// Bytes are appended to the file, so that whatever is in it when a process is killed counts. They
/// may still be wrong, as after a power cut: the digest of the whole decides. Dropping it keeps the
/// bytes; garbage collection removes them a day after the last write.
#[derive(Debug)]
pub struct PartialBlob {
    store: Store,
    ingest: IngestFile,
    descriptor: Descriptor,
    hasher: Hasher,
}

impl Store {
    /// Begins a blob or continues it; `None` while another process does. Blocks as long as it takes
    /// to hash what is there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](super::Error::Io).
    pub fn try_partial(&self, descriptor: &Descriptor) -> Result<Option<PartialBlob>> {
        let digest = &descriptor.digest;
        let path = self.arriving_path(digest);
        loop {
            let file = fs::OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            if !lock::try_exclusive(&file)? {
                return Ok(None);
            }
            // Whoever had the lock may have made the file a blob, or removed it.
            let is_there = match fs::metadata(&path) {
                Ok(found) => found.ino() == file.metadata()?.ino(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error.into()),
            };
            if !is_there {
                continue;
            }
            // More than the blob has cannot be the beginning of it.
            if file.metadata()?.len() > descriptor.size {
                file.set_len(0)?;
            }
            let hasher = rehash(&path, Hasher::new(digest.algorithm()))?;
            let ingest = IngestFile { file, on_drop: OnDrop::Keep };
            let (store, descriptor) = (self.clone(), descriptor.clone());
            return Ok(Some(PartialBlob { store, ingest, descriptor, hasher }));
        }
    }
}

impl Store {
    /// Opens what is there of a blob, to be read while it grows; the whole blob when it is there.
    /// `None` when nothing is.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](super::Error::Io).
    pub fn open_arriving(&self, descriptor: &Descriptor) -> Result<Option<File>> {
        // Last the blob again: it may have become one after the first look.
        let blob = self.blob_path(&descriptor.digest);
        for path in [&blob, &self.arriving_path(&descriptor.digest), &blob] {
            match fs::File::open(path) {
                Ok(file) => return Ok(Some(file.into_parts().0)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn arriving_path(&self, digest: &Digest) -> PathBuf {
        self.partial_path(&digest.to_string().replace(':', "-"))
    }
}

impl PartialBlob {
    /// Returns the file. What is written to it comes after what is there.
    #[must_use]
    pub fn file(&self) -> &File {
        self.ingest.file()
    }

    /// Returns the running digest of what was there when it was opened.
    #[must_use]
    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// Throws away what is there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](super::Error::Io).
    pub fn restart(&mut self) -> Result<()> {
        self.ingest.file.set_len(0)?;
        self.hasher = Hasher::new(self.descriptor.digest.algorithm());
        Ok(())
    }

    /// Makes it a blob. The caller has verified the bytes; they are synced and renamed.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`](super::Error::Mismatch) when the file has another size,
    /// [`Error::Io`](super::Error::Io).
    pub fn commit(self) -> Result<()> {
        let (digest, expected) = (self.descriptor.digest, self.descriptor.size);
        let actual = self.ingest.file.metadata()?.len();
        if actual != expected {
            return Err(Mismatch::Size { digest, expected, actual }.into());
        }
        self.store.place(self.ingest, &digest, expected)
    }

    /// Removes what is there.
    pub fn discard(mut self) {
        self.ingest.on_drop = OnDrop::Remove;
    }
}
