//! Images of OCI image layouts (OCI image-spec, image-layout.md) as bases.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::blob::{Mismatch, VerifyingReader};
use crate::build::{Base, BaseImage};
use crate::image::{
    Content, Descriptor, Digest, ImageConfig, Index, MAX_MANIFEST_BYTES, Manifest, Platform,
    Reference,
};
use crate::store::Store;

use super::build::LayoutImage;
use super::resolve::{MAX_CONFIG_BYTES, Resolved};
use super::session::blocking;
use super::{Error, Kind, Session};

/// The annotation that names an image of a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Resolves `wanted` in the layout, and brings all of it into the store, verified on its way. The
/// result's reference has no tag: it is not where the image came from.
pub(super) async fn resolve_in_layout(
    session: &Session,
    directory: PathBuf,
    image: LayoutImage,
    wanted: &BaseImage,
) -> Result<Base, Error> {
    let (store, platform) = (session.store.clone(), wanted.platform.clone());
    let resolved = blocking(move || {
        let about = format!("failed to read the image layout `{}`", directory.display());
        let brought = Layout::open(directory).and_then(|it| it.bring(&store, &image, &platform));
        brought.map_err(|error| error.about(about))
    })
    .await?;
    let reference =
        Reference::by_digest(wanted.reference.repository.clone(), resolved.manifest.digest.clone());
    Ok(Base {
        reference,
        manifest: resolved.descriptor(),
        layers: resolved.layers()?,
        config: resolved.config,
    })
}

/// An image layout in a directory. All of its functions block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    directory: PathBuf,
}

impl Layout {
    /// Returns the layout in `directory`, when its version is known.
    pub(super) fn open(directory: PathBuf) -> Result<Self, Error> {
        let layout = Self { directory };
        layout.check_version()?;
        Ok(layout)
    }

    /// Reads the manifest or index of an image; without a name, of the only one there is.
    pub(super) fn top(&self, image: Option<&LayoutImage>) -> Result<Manifest, Error> {
        let entry = match image {
            Some(LayoutImage::Digest(digest)) => return self.manifest(digest, None),
            Some(LayoutImage::Tag(tag)) => self.find(tag)?,
            None => self.only()?,
        };
        self.manifest(&entry.digest, Some(&entry.media_type))
    }

    fn bring(
        &self,
        store: &Store,
        image: &LayoutImage,
        platform: &Platform,
    ) -> Result<Resolved, Error> {
        let mut manifest = self.top(Some(image))?;
        if let Content::Index(index) = &manifest.content {
            let Some(entry) = index.choose(platform) else {
                let platforms: Vec<String> = index.platforms().map(ToString::to_string).collect();
                let message = format!("it has no image for {platform}");
                return Err(Error::new(Kind::NotFound, message)
                    .hint(format!("it has {}", platforms.join(", "))));
            };
            manifest = self.manifest(&entry.digest, Some(&entry.media_type))?;
        }
        let Some(image) = manifest.as_image().cloned() else {
            return Err(Error::new(Kind::Integrity, "it has an index inside an index"));
        };
        let config = self.read(&image.config.digest, MAX_CONFIG_BYTES)?;
        let parsed = ImageConfig::parse(&config)?;
        for blob in image.layers.iter().chain([&image.config]) {
            self.copy(store, blob)?;
        }
        store.put_manifest(&manifest)?;
        Ok(Resolved { index: None, manifest, image, config: parsed })
    }

    fn check_version(&self) -> Result<(), Error> {
        let path = self.directory.join("oci-layout");
        let bytes = fs_err::read(&path)
            .map_err(|error| Error::new(Kind::User, "it is no image layout").because(error))?;
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match value["imageLayoutVersion"].as_str() {
            Some(version) if version.starts_with("1.") => Ok(()),
            _ => Err(Error::new(Kind::User, "its version is not 1.0.0")),
        }
    }

    fn index(&self) -> Result<Index, Error> {
        let bytes = read_bounded(&self.directory.join("index.json"), MAX_MANIFEST_BYTES)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::new(Kind::User, "its `index.json` cannot be read").because(error)
        })
    }

    /// Returns the only image of the layout.
    fn only(&self) -> Result<Descriptor, Error> {
        let index = self.index()?;
        match &index.manifests[..] {
            [entry] => Ok(entry.clone()),
            [] => Err(Error::new(Kind::NotFound, "it has no image")),
            several => {
                let names = several.iter().filter_map(|entry| entry.annotations.get(REF_NAME));
                let names: Vec<&str> = names.map(String::as_str).collect();
                let message = format!("it has {} images", several.len());
                Err(Error::new(Kind::User, message)
                    .hint(format!("give a tag or a digest; it has {}", names.join(", "))))
            }
        }
    }

    /// Finds the image of a tag: one whose name is the tag, or else ends in it.
    fn find(&self, tag: &str) -> Result<Descriptor, Error> {
        let index = self.index()?;
        let name = |entry: &Descriptor| entry.annotations.get(REF_NAME).cloned();
        let end = format!(":{tag}");
        let exact = index.manifests.iter().find(|entry| name(entry).as_deref() == Some(tag));
        let ending = || {
            let has_end = |entry: &&Descriptor| name(entry).is_some_and(|n| n.ends_with(&end));
            let mut found = index.manifests.iter().filter(has_end);
            found.next().filter(|_| found.next().is_none())
        };
        exact.or_else(ending).cloned().ok_or_else(|| {
            let names: Vec<String> = index.manifests.iter().filter_map(name).collect();
            let error = Error::new(Kind::NotFound, format!("it has no image `{tag}`"));
            if names.is_empty() {
                error.hint("no image of it has a name: give a digest, as in `DIRECTORY@sha256:...`")
            } else {
                error.hint(format!("it has {}", names.join(", ")))
            }
        })
    }

    /// Returns where the layout keeps a blob.
    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        let algorithm = self.directory.join("blobs").join(digest.algorithm().name());
        algorithm.join(digest.hex())
    }

    /// Reads a manifest and verifies it.
    pub(super) fn manifest(
        &self,
        digest: &Digest,
        media_type: Option<&str>,
    ) -> Result<Manifest, Error> {
        let bytes = self.read(digest, MAX_MANIFEST_BYTES)?;
        let mut manifest = Manifest::parse(bytes, media_type)?;
        // Verified by it; the parser computes SHA-256.
        manifest.digest = digest.clone();
        Ok(manifest)
    }

    /// Reads a small blob and verifies it.
    pub(super) fn read(&self, digest: &Digest, limit: usize) -> Result<Vec<u8>, Error> {
        let bytes = read_bounded(&self.blob_path(digest), limit)?;
        let actual = digest.of_same_algorithm(&bytes);
        if actual == *digest {
            return Ok(bytes);
        }
        let message = format!("its blob {digest} has the digest {actual}");
        Err(Error::new(Kind::Integrity, message))
    }

    /// Brings a blob into the store.
    fn copy(&self, store: &Store, blob: &Descriptor) -> Result<(), Error> {
        if store.has_blob(&blob.digest) {
            return Ok(());
        }
        let unreadable = |error: io::Error| {
            let is_wrong = matches!(error.get_ref(), Some(inner) if inner.is::<Mismatch>());
            let kind = if is_wrong { Kind::Integrity } else { Kind::User };
            Error::new(kind, format!("its blob {} cannot be read", blob.digest)).because(error)
        };
        let file = fs_err::File::open(self.blob_path(&blob.digest)).map_err(unreadable)?;
        let mut reader = VerifyingReader::new(file, blob.clone());
        let ingest = store.ingest_file()?;
        let mut output = ingest.file();
        io::copy(&mut reader, &mut output).map_err(unreadable)?;
        Ok(store.adopt(ingest, &blob.digest, blob.size)?)
    }
}

/// Reads a file that has at most `limit` bytes.
fn read_bounded(path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
    let unreadable = |error: io::Error| {
        let is_missing = error.kind() == io::ErrorKind::NotFound;
        let kind = if is_missing { Kind::NotFound } else { Kind::User };
        Error::new(kind, "a file of it cannot be read").because(error)
    };
    let file = fs_err::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > limit {
        let message = format!("`{}` is larger than {limit} bytes", path.display());
        return Err(Error::new(Kind::User, message));
    }
    Ok(bytes)
}
