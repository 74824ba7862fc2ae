//! What is served: images and their blobs, wherever they are kept.

use std::sync::Arc;

use crate::blob::{HeldFile, Source};
use crate::image::{Digest, MAX_MANIFEST_BYTES, Manifest};
use crate::store::{self, ImageEntry, Store};

use super::reply::Failure;

/// Why content cannot be read.
pub type ContentError = Box<dyn std::error::Error + Send + Sync>;

/// Images that are served. All methods block.
pub trait Content: Send + Sync {
    /// Returns the images, one entry per name. Cheap: every request asks.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    fn images(&self) -> Result<Arc<[ImageEntry]>, ContentError>;

    /// Returns the bytes of a blob, of a manifest too; `None` when they are not there.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    fn blob(&self, digest: &Digest) -> Result<Option<Arc<dyn Source>>, ContentError>;
}

impl Content for Store {
    fn images(&self) -> Result<Arc<[ImageEntry]>, ContentError> {
        Ok(self.shared_images()?)
    }

    fn blob(&self, digest: &Digest) -> Result<Option<Arc<dyn Source>>, ContentError> {
        match self.open_blob(digest) {
            Ok(file) => Ok(Some(Arc::new(HeldFile::new(file)?))),
            Err(store::Error::MissingBlob(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Reads a manifest's bytes and verifies them; `None` when they are not there.
pub(super) fn manifest_bytes(
    content: &dyn Content,
    digest: &Digest,
) -> Result<Option<Vec<u8>>, Failure> {
    let Some(source) = content.blob(digest)? else { return Ok(None) };
    let size = source.size();
    if size > MAX_MANIFEST_BYTES as u64 {
        let text = format!("manifest {digest} has {size} bytes, which is more than is read");
        return Err(Failure::from(ContentError::from(text)));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    source.open(0)?.read_to_end(&mut bytes)?;
    let actual = digest.of_same_algorithm(&bytes);
    if actual != *digest {
        let text = format!("manifest {digest} is damaged: its digest is {actual}");
        return Err(Failure::from(ContentError::from(text)));
    }
    Ok(Some(bytes))
}

/// Reads a manifest; `None` when it is not there.
pub(super) fn manifest(
    content: &dyn Content,
    digest: &Digest,
) -> Result<Option<Manifest>, Failure> {
    let Some(bytes) = manifest_bytes(content, digest)? else { return Ok(None) };
    let manifest = Manifest::parse(bytes, None).map_err(|error| Failure::internal(&error))?;
    // The parser computes SHA-256; it may be known by another algorithm.
    Ok(Some(Manifest { digest: digest.clone(), ..manifest }))
}
