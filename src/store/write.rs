//! Writing blobs and small files.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::blob::{Hasher, Mismatch};
use crate::image::{Algorithm, Descriptor, Digest, Manifest};

use super::{Error, Result, Store, lock};

/// Whether a small file must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    Synced,
    /// The reader treats an empty file as absent.
    Unsynced,
}

/// A file in the store's `ingest/` that somebody else writes, such as the worker.
///
/// Dropping it removes the file; [`Store::adopt`] makes it a blob.
#[derive(Debug)]
pub struct IngestFile {
    pub(super) file: fs::File,
    pub(super) on_drop: OnDrop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnDrop {
    Remove,
    Keep,
}

impl IngestFile {
    /// Returns the open file, readable and writable.
    #[must_use]
    pub fn file(&self) -> &File {
        self.file.file()
    }

    /// Returns where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

impl AsFd for IngestFile {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file().as_fd()
    }
}

impl Drop for IngestFile {
    fn drop(&mut self) {
        if self.on_drop == OnDrop::Remove
            && let Err(error) = fs::remove_file(self.file.path())
        {
            // Garbage collection finds it again.
            tracing::debug!(%error, "temporary file left behind");
        }
    }
}

/// A blob being written to the store: hashes what passes through.
///
/// Dropping it removes the temporary file, unless it is a resumable one.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    ingest: IngestFile,
    hasher: Hasher,
}

impl BlobWriter {
    /// Returns the temporary file. What is written to it directly is not hashed.
    #[must_use]
    pub fn file(&self) -> &File {
        self.ingest.file()
    }

    /// Returns how many bytes are written, those of an earlier process included.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.hasher.count()
    }

    /// Makes the bytes a blob: verifies, syncs, renames. Returns digest and size.
    ///
    /// Without `expected` the digest is the SHA-256 of what was written. When it fails for a
    /// mismatch, nothing is left behind.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`], [`Error::Io`].
    pub fn commit(mut self, expected: Option<&Descriptor>) -> Result<(Digest, u64)> {
        let hasher = match expected {
            // Writers hash by SHA-256 as the bytes pass; by another only at the end, when asked.
            Some(expected) if expected.digest.algorithm() != Algorithm::Sha256 => {
                rehash(self.ingest.path(), Hasher::new(expected.digest.algorithm()))?
            }
            _ => self.hasher.clone(),
        };
        if let Some(expected) = expected
            && let Err(mismatch) = hasher.clone().verify(expected)
        {
            self.ingest.on_drop = OnDrop::Remove;
            return Err(mismatch.into());
        }
        let (digest, size) = hasher.finish();
        self.store.place(self.ingest, &digest, size)?;
        Ok((digest, size))
    }

    /// Removes what was written, of a resumable writer too.
    pub fn discard(mut self) {
        self.ingest.on_drop = OnDrop::Remove;
    }
}

#[cfg(test)]
impl BlobWriter {
    /// Lets the writer write to a file that behaves badly.
    pub(super) fn replace_file_for_test(&mut self, path: &str) {
        self.ingest.on_drop = OnDrop::Keep;
        self.ingest.file = fs::OpenOptions::new().write(true).open(path).unwrap();
    }

    pub(super) fn ingest_path_for_test(&self) -> &Path {
        self.ingest.path()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.ingest.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Store {
    /// Starts a blob whose digest is not known yet or is checked at the end.
    pub fn writer(&self) -> Result<BlobWriter> {
        Ok(BlobWriter {
            store: self.clone(),
            ingest: self.ingest_file()?,
            hasher: Hasher::default(),
        })
    }

    /// Starts or continues the blob being written under `name`, a word without `/` chosen by the
    /// caller. Dropping the writer keeps the bytes for a later call, also of another process;
    /// garbage collection removes them a day after the last write.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when another writer has it, [`Error::Io`].
    pub fn resumable_writer(&self, name: &str) -> Result<BlobWriter> {
        let path = self.partial_path(name);
        let file = fs::OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        self.continue_writing(file)
    }

    /// Starts a resumable blob under a new name, which begins with `prefix`. Returns the name too.
    pub fn start_resumable(&self, prefix: &str) -> Result<(String, BlobWriter)> {
        let name = format!("{prefix}{}", unique_name());
        let writer = self.resumable_writer(&name)?;
        Ok((name, writer))
    }

    /// Like [`Store::resumable_writer`], for a name that must have been started before.
    pub fn resume_writer(&self, name: &str) -> Result<Option<BlobWriter>> {
        let path = self.partial_path(name);
        match fs::OpenOptions::new().read(true).append(true).open(&path) {
            Ok(file) => self.continue_writing(file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn continue_writing(&self, file: fs::File) -> Result<BlobWriter> {
        if !lock::try_exclusive(&file)? {
            return Err(Error::Busy(file.path().to_owned()));
        }
        let hasher = rehash(file.path(), Hasher::default())?;
        let ingest = IngestFile { file, on_drop: OnDrop::Keep };
        Ok(BlobWriter { store: self.clone(), ingest, hasher })
    }

    pub(super) fn partial_path(&self, name: &str) -> PathBuf {
        debug_assert!(!name.contains('/'), "a name of a partial blob is one word");
        self.root().join("ingest").join(format!("{name}.partial"))
    }

    /// Makes an empty file in `ingest/` for somebody who writes and hashes by himself.
    pub fn ingest_file(&self) -> Result<IngestFile> {
        let path = self.root().join("ingest").join(unique_name());
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let ingest = IngestFile { file, on_drop: OnDrop::Remove };
        // Says "alive" to garbage collection for as long as any process has this file open.
        lock::try_exclusive(&ingest.file)?;
        Ok(ingest)
    }

    /// Makes `ingest`, whose content the caller has hashed, the blob `digest` of `size` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] when the file has another size, [`Error::Io`].
    pub fn adopt(&self, ingest: IngestFile, digest: &Digest, size: u64) -> Result<()> {
        let actual = ingest.file.metadata()?.len();
        if actual != size {
            let digest = digest.clone();
            return Err(Mismatch::Size { digest, expected: size, actual }.into());
        }
        self.place(ingest, digest, size)
    }

    /// Writes a small blob; does nothing when it is there. Returns its digest.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        self.put_small(&digest, bytes)?;
        Ok(digest)
    }

    /// Writes a manifest; does nothing when it is there. It gets no name: see [`Store::tag`].
    pub fn put_manifest(&self, manifest: &Manifest) -> Result<()> {
        self.put_small(&manifest.digest, &manifest.bytes)
    }

    fn put_small(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        if self.blob_size(digest)? == Some(bytes.len() as u64) {
            return Ok(());
        }
        let mut ingest = self.ingest_file()?;
        ingest.file.write_all(bytes)?;
        self.place(ingest, digest, bytes.len() as u64)
    }

    pub(super) fn place(&self, mut ingest: IngestFile, digest: &Digest, size: u64) -> Result<()> {
        if self.blob_size(digest)? == Some(size) {
            ingest.on_drop = OnDrop::Remove;
            return Ok(());
        }
        ingest.file.sync_data()?;
        let target = self.blob_path(digest);
        let renamed = match fs::rename(ingest.path(), &target) {
            // Only the directory of sha256 is made with the store.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                target.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::rename(ingest.path(), &target)
            }
            other => other,
        };
        renamed?;
        ingest.on_drop = OnDrop::Keep;
        Ok(())
    }

    /// Replaces a small file in one step.
    pub(super) fn replace(&self, target: &Path, bytes: &[u8], how: Durability) -> Result<()> {
        let path = self.root().join("tmp").join(unique_name());
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let mut temporary = IngestFile { file, on_drop: OnDrop::Remove };
        temporary.file.write_all(bytes)?;
        if how == Durability::Synced {
            temporary.file.sync_data()?;
        }
        fs::rename(temporary.path(), target)?;
        temporary.on_drop = OnDrop::Keep;
        Ok(())
    }
}

/// Returns a name that no other process and no earlier run uses.
pub(super) fn unique_name() -> String {
    let mut random = [0u8; 16];
    let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    debug_assert_eq!(filled, Ok(16), "getrandom(2) fills up to 256 bytes at once");
    Digest::from_raw(Algorithm::Sha256, &random).hex().to_owned()
}

pub(super) fn rehash(path: &Path, mut hasher: Hasher) -> Result<Hasher> {
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher),
            count => hasher.update(&buffer[..count]),
        }
    }
}
