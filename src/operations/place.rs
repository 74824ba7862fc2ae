//! Where an image is read from.

use std::path::PathBuf;

use super::images::find;
use super::resolve::MAX_CONFIG_BYTES;
use super::session::blocking;
use super::{Error, Kind, Session, edit};
use crate::archive::{Archive, Form};
use crate::image::{
    Content, Descriptor, Digest, ImageConfig, ImageManifest, Index, Manifest, Platform, Reference,
    Repository,
};

/// An image, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// What a reference names in its registry.
    Registry(Reference),
    /// What a name, or the start of an id, names in the store.
    Store(String),
    /// An image of a layout, an archive or a bundle, whichever it is.
    Archive {
        /// What the user calls it: how it is written, not how it is read.
        form: Form,
        /// The file or directory.
        path: PathBuf,
        /// A tag, a whole name or a digest; without it, the only image there.
        image: Option<String>,
    },
}

impl std::fmt::Display for ImageSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registry(reference) => formatter.write_str(&reference.familiar()),
            Self::Store(text) => formatter.write_str(text),
            Self::Archive { form, path, image } => {
                write!(formatter, "{}:{}", transport(*form), path.display())?;
                match image {
                    Some(image) if image.parse::<Digest>().is_ok() => write!(formatter, "@{image}"),
                    Some(image) => write!(formatter, ":{image}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Returns what stands before the path of a file or directory with images, as in `oci:DIRECTORY`.
#[must_use]
pub fn transport(form: Form) -> &'static str {
    match form {
        Form::Layout => "oci",
        Form::Oci => "oci-archive",
        Form::Docker => "docker-archive",
        Form::Bundle => "bundle",
    }
}

/// Where the parts of an image are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A repository of a registry.
    Repository(Repository),
    /// The store.
    Store,
    /// A layout, an archive or a bundle.
    Archive(Archive),
}

/// Reads the manifest or index that `image` means in an archive: any of it by its digest. Blocks.
pub(super) fn top_of(archive: &Archive, image: Option<&str>) -> Result<Manifest, Error> {
    if let Some(digest) = image.and_then(|image| image.parse::<Digest>().ok()) {
        return Ok(archive.manifest(&digest, None)?);
    }
    let descriptor = &archive.find(image)?.descriptor;
    Ok(archive.manifest(&descriptor.digest, Some(&descriptor.media_type))?)
}

/// What a name stands for, and where the rest of it is.
#[derive(Debug, Clone)]
pub(super) struct Top {
    /// What to call it in messages.
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) manifest: Manifest,
}

impl Top {
    /// Reads the manifest or index that `source` names.
    pub(super) async fn read(session: &Session, source: &ImageSource) -> Result<Self, Error> {
        let name = source.to_string();
        let (place, manifest) = match source {
            ImageSource::Registry(reference) => {
                let place = Place::Repository(reference.repository.clone());
                let read = match &reference.digest {
                    Some(digest) => place.manifest(session, digest, None).await,
                    None => session.client.manifest(reference).await.map_err(Error::from),
                };
                let about = |error: Error| error.about(format!("failed to read `{name}`"));
                (place, read.map_err(about)?)
            }
            ImageSource::Store(text) => {
                let (store, text) = (session.store.clone(), text.clone());
                let digest =
                    blocking(move || find(&store, &text).map(|entry| entry.descriptor.digest));
                let manifest = Place::Store.manifest(session, &digest.await?, None).await?;
                (Place::Store, manifest)
            }
            ImageSource::Archive { path, image, .. } => {
                let (path, image) = (path.clone(), image.clone());
                let read = blocking(move || {
                    let archive = Archive::open(&path)?;
                    let manifest = top_of(&archive, image.as_deref())?;
                    Ok::<_, Error>((Place::Archive(archive), manifest))
                });
                let about = |error: Error| error.about(format!("failed to read `{name}`"));
                read.await.map_err(about)?
            }
        };
        Ok(Self { name, place, manifest })
    }

    /// Returns the index.
    ///
    /// # Errors
    ///
    /// When it is one image.
    pub(super) fn index(&self) -> Result<&Index, Error> {
        match &self.manifest.content {
            Content::Index(index) => Ok(index),
            Content::Image(_) => {
                let message = format!("`{}` is one image, not an index", self.name);
                let hint =
                    format!("make an index of it by `rpub index create -t NAME {}`", self.name);
                Err(Error::new(Kind::User, message).hint(hint))
            }
        }
    }

    /// Reads the one image, or that of an index for `platform`.
    pub(super) async fn image(
        &self,
        session: &Session,
        platform: &Platform,
    ) -> Result<Manifest, Error> {
        let Content::Index(index) = &self.manifest.content else {
            return Ok(self.manifest.clone());
        };
        let entry = edit::choose(index, platform, &self.name)?;
        self.place.manifest(session, &entry.digest, Some(&entry.media_type)).await
    }
}

impl Place {
    /// Returns the repository, when it is one.
    pub(super) fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Repository(repository) => Some(repository),
            Self::Store | Self::Archive(_) => None,
        }
    }

    /// Reads a manifest by its digest.
    pub(super) async fn manifest(
        &self,
        session: &Session,
        digest: &Digest,
        media_type: Option<&str>,
    ) -> Result<Manifest, Error> {
        match self {
            Self::Repository(repository) if session.counts_pulls(repository) => {
                read_once(session, repository, digest).await
            }
            Self::Repository(repository) => read(session, repository, digest).await,
            Self::Store => {
                let (store, wanted) = (session.store.clone(), digest.clone());
                let found = blocking(move || store.manifest(&wanted)).await?;
                found.ok_or_else(|| {
                    Error::new(Kind::NotFound, format!("the store has no manifest {digest}"))
                })
            }
            Self::Archive(archive) => {
                let (archive, digest) = (archive.clone(), digest.clone());
                let media_type = media_type.map(ToOwned::to_owned);
                blocking(move || archive.manifest(&digest, media_type.as_deref())).await
            }
        }
    }

    /// Reads the bytes of a config, verified.
    pub(super) async fn config_bytes(
        &self,
        session: &Session,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, Error> {
        match self {
            Self::Repository(repository) => {
                let limit = MAX_CONFIG_BYTES as u64;
                let bytes = session.client.fetch_blob_bytes(repository, descriptor, limit).await?;
                Ok(bytes.to_vec())
            }
            Self::Store => {
                let (store, digest) = (session.store.clone(), descriptor.digest.clone());
                if !store.has_blob(&digest) {
                    let message = format!("the store has no config {digest}");
                    return Err(Error::new(Kind::NotFound, message));
                }
                blocking(move || store.read_blob(&digest, MAX_CONFIG_BYTES)).await
            }
            Self::Archive(archive) => {
                let (archive, digest) = (archive.clone(), descriptor.digest.clone());
                blocking(move || archive.read(&digest, MAX_CONFIG_BYTES)).await
            }
        }
    }

    /// Reads the config of an image; `None` for an artifact, which has none.
    pub(super) async fn config(
        &self,
        session: &Session,
        image: &ImageManifest,
    ) -> Result<Option<ImageConfig>, Error> {
        if !crate::image::media_type::is_image_config(&image.config.media_type) {
            return Ok(None);
        }
        Ok(Some(ImageConfig::parse(&self.config_bytes(session, &image.config).await?)?))
    }
}

/// Reads a manifest of a registry by its digest.
async fn read(
    session: &Session,
    repository: &Repository,
    digest: &Digest,
) -> Result<Manifest, Error> {
    let reference = Reference::by_digest(repository.clone(), digest.clone());
    let mut manifest = session.client.manifest(&reference).await?;
    // Verified by it; the parser computes SHA-256.
    manifest.digest = digest.clone();
    Ok(manifest)
}

/// Reads a manifest that counts against a quota: out of the store when it was read before.
async fn read_once(
    session: &Session,
    repository: &Repository,
    digest: &Digest,
) -> Result<Manifest, Error> {
    let _turn = session.arrivals.turn(digest).await;
    let (store, wanted) = (session.store.clone(), digest.clone());
    if let Some(kept) = blocking(move || store.manifest(&wanted)).await? {
        return Ok(kept);
    }
    let manifest = read(session, repository, digest).await?;
    let (store, kept) = (session.store.clone(), manifest.clone());
    blocking(move || store.put_manifest(&kept)).await?;
    Ok(manifest)
}
