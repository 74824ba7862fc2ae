//! Images by name: from the store when it has them, else from their registry.

use crate::build::{Base, BaseImage, Layer};
use crate::image::{
    Content, Descriptor, ImageConfig, ImageManifest, Manifest, Platform, Reference, Repository,
};

use super::session::blocking;
use super::{Error, Kind, Session};

/// Largest config that is read: a config holds the history and the environment, nothing large.
pub(super) const MAX_CONFIG_BYTES: usize = 8 << 20;

/// When to ask the registry for an image that the store may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Always: the tag may have moved.
    Always,
    /// When the store lacks it.
    Missing,
    /// Never.
    Never,
}

/// A single-platform image with its configuration.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    pub(super) manifest: Manifest,
    pub(super) image: ImageManifest,
    pub(super) config: ImageConfig,
}

impl Resolved {
    /// Returns the layers with their diffIDs, bottom first.
    pub(super) fn layers(&self) -> Result<Vec<Layer>, Error> {
        let diff_ids = &self.config.rootfs.diff_ids;
        if diff_ids.len() != self.image.layers.len() {
            let message = format!(
                "the image has {} layers but its config names {} diffIDs",
                self.image.layers.len(),
                diff_ids.len()
            );
            return Err(Error::new(Kind::Integrity, message));
        }
        let pairs = self.image.layers.iter().zip(diff_ids);
        Ok(pairs
            .map(|(descriptor, diff_id)| Layer {
                descriptor: descriptor.clone(),
                diff_id: diff_id.clone(),
                created: None,
            })
            .collect())
    }

    /// Returns the manifest's descriptor with its platform.
    pub(super) fn descriptor(&self) -> Descriptor {
        Descriptor { platform: Some(self.config.platform()), ..self.manifest.descriptor() }
    }
}

/// Resolves a base image: its manifest and configuration, none of its layers.
pub(super) async fn resolve_base(
    session: &Session,
    image: &BaseImage,
    policy: PullPolicy,
) -> Result<Base, Error> {
    let reference = &image.reference;
    let resolved = match policy {
        PullPolicy::Always => None,
        PullPolicy::Missing | PullPolicy::Never => {
            in_store(session, reference, &image.platform).await?
        }
    };
    let resolved = match resolved {
        Some(resolved) => resolved,
        None if policy == PullPolicy::Never => {
            let name = reference.familiar();
            let message = format!("the base image `{name}` is not in the store");
            let hint = format!("run `rpub pull {name}`, or build without `--pull=never`");
            return Err(Error::new(Kind::NotFound, message).hint(hint));
        }
        None => from_registry(session, reference, &image.platform).await.map_err(|error| {
            error.about(format!("failed to resolve the base image `{}`", reference.familiar()))
        })?,
    };
    Ok(Base {
        reference: reference.clone(),
        manifest: resolved.descriptor(),
        layers: resolved.layers()?,
        config: resolved.config,
    })
}

/// Finds an image in the store; `None` when it is not there for that platform.
pub(super) async fn in_store(
    session: &Session,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<Resolved>, Error> {
    let (store, reference, platform) = (session.store.clone(), reference.clone(), platform.clone());
    blocking(move || {
        let Some(descriptor) = store.resolve(&reference)? else { return Ok(None) };
        let Some(resolved) = read_image(&store, &descriptor, &platform)? else { return Ok(None) };
        let suits = resolved.config.platform().rank_for(&platform).is_some();
        Ok::<_, Error>(suits.then_some(resolved))
    })
    .await
}

/// Reads an image of the store; of an index, the part for `platform`.
pub(super) fn read_image(
    store: &crate::store::Store,
    descriptor: &Descriptor,
    platform: &Platform,
) -> Result<Option<Resolved>, Error> {
    let Some(mut manifest) = store.manifest(&descriptor.digest)? else { return Ok(None) };
    if let Content::Index(index) = &manifest.content {
        let Some(entry) = index.choose(platform) else { return Ok(None) };
        let Some(chosen) = store.manifest(&entry.digest)? else { return Ok(None) };
        manifest = chosen;
    }
    let Some(image) = manifest.as_image().cloned() else { return Ok(None) };
    if !store.has_blob(&image.config.digest) {
        return Ok(None);
    }
    let config = ImageConfig::parse(&store.read_blob(&image.config.digest, MAX_CONFIG_BYTES)?)?;
    Ok(Some(Resolved { manifest, image, config }))
}

/// Gets manifest and config from the registry and keeps both in the store, without a name.
pub(super) async fn from_registry(
    session: &Session,
    reference: &Reference,
    platform: &Platform,
) -> Result<Resolved, Error> {
    let mut manifest = session.client.manifest(reference).await?;
    if let Content::Index(index) = &manifest.content {
        let Some(entry) = index.choose(platform) else {
            let platforms: Vec<String> = index.platforms().map(ToString::to_string).collect();
            let message = format!("`{}` has no image for {platform}", reference.familiar());
            let hint = format!("it has {}", platforms.join(", "));
            return Err(Error::new(Kind::NotFound, message).hint(hint));
        };
        let by_digest = Reference::by_digest(reference.repository.clone(), entry.digest.clone());
        manifest = session.client.manifest(&by_digest).await?;
    }
    let Some(image) = manifest.as_image().cloned() else {
        let message = format!("`{}` is an index inside an index", reference.familiar());
        return Err(Error::new(Kind::Integrity, message));
    };
    let bytes = config_bytes(session, &reference.repository, &image.config).await?;
    let config = ImageConfig::parse(&bytes)?;
    let (store, kept) = (session.store.clone(), manifest.clone());
    blocking(move || {
        store.put_blob(&bytes)?;
        store.put_manifest(&kept)
    })
    .await?;
    Ok(Resolved { manifest, image, config })
}

async fn config_bytes(
    session: &Session,
    repository: &Repository,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, Error> {
    if session.store.has_blob(&descriptor.digest) {
        let (store, digest) = (session.store.clone(), descriptor.digest.clone());
        return blocking(move || store.read_blob(&digest, MAX_CONFIG_BYTES)).await;
    }
    let limit = MAX_CONFIG_BYTES as u64;
    Ok(session.client.fetch_blob_bytes(repository, descriptor, limit).await?.to_vec())
}
