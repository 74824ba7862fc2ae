//! Reading blobs.

use std::fs::File;
use std::io::Read;

use fs_err as fs;

use crate::blob::{FileSource, Mismatch};
use crate::image::{Descriptor, Digest, MAX_MANIFEST_BYTES, Manifest};

use super::{Error, Result, Store};

impl Store {
    /// Returns whether the blob is there. One system call.
    #[must_use]
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// Returns the digests of all blobs.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn blob_digests(&self) -> Result<Vec<Digest>> {
        let mut found = Vec::new();
        for directory in super::collect::children(&self.root().join("blobs"))? {
            for blob in super::collect::children(&directory)? {
                let names =
                    (super::collect::file_name(&directory), super::collect::file_name(&blob));
                if let (Some(algorithm), Some(hex)) = names {
                    found.extend(format!("{algorithm}:{hex}").parse::<Digest>());
                }
            }
        }
        Ok(found)
    }

    /// Returns the blob's size in bytes, or `None` when it is not there.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        match fs::metadata(self.blob_path(digest)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the blob. Its bytes were verified when they came in, and are not verified again.
    ///
    /// # Errors
    ///
    /// [`Error::MissingBlob`], [`Error::Io`].
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        match fs::File::open(self.blob_path(digest)) {
            Ok(file) => Ok(file.into_parts().0),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::MissingBlob(digest.clone()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a small blob, such as a manifest or config, and verifies its digest.
    ///
    /// # Errors
    ///
    /// [`Error::MissingBlob`], [`Error::TooLarge`] when it has more than `limit` bytes,
    /// [`Error::Mismatch`] when the file is damaged, [`Error::Io`].
    pub fn read_blob(&self, digest: &Digest, limit: usize) -> Result<Vec<u8>> {
        let file = self.open_blob(digest)?;
        let size = file.metadata()?.len();
        if size > limit as u64 {
            return Err(Error::TooLarge { digest: digest.clone(), size, limit: limit as u64 });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(limit));
        fs::File::from_parts(file, self.blob_path(digest)).read_to_end(&mut bytes)?;
        let actual = digest.of_same_algorithm(&bytes);
        if actual != *digest {
            return Err(Mismatch::Digest { expected: digest.clone(), actual }.into());
        }
        Ok(bytes)
    }

    /// Returns the described blob as a source that can be opened again. Touches no file.
    #[must_use]
    pub fn blob_source(&self, descriptor: &Descriptor) -> FileSource {
        FileSource::new(self.blob_path(&descriptor.digest), descriptor.size)
    }

    /// Reads the manifest or index `digest`; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Manifest`] when the blob is something else; those of [`Store::read_blob`].
    pub fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>> {
        let bytes = match self.read_blob(digest, MAX_MANIFEST_BYTES) {
            Ok(bytes) => bytes,
            Err(Error::MissingBlob(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut manifest = Manifest::parse(bytes, None)
            .map_err(|source| Error::Manifest { digest: digest.clone(), source })?;
        // The parser computes SHA-256; the caller may have asked by another algorithm.
        manifest.digest = digest.clone();
        Ok(Some(manifest))
    }
}
