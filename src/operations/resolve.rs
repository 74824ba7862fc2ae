//! Images by name: from the store when it has them, else from their registry.

use crate::build::{Base, BaseImage, Layer};
use crate::image::{
    Content, Descriptor, Digest, ImageConfig, ImageManifest, Manifest, Platform, Reference,
    Repository,
};

use super::last_seen::last_seen;
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
    /// The index that the name stands for, when it stands for several platforms.
    pub(super) index: Option<Digest>,
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

    /// Returns what its name stands for: the index, or the manifest of an image that has none.
    pub(super) fn named(&self) -> &Digest {
        self.index.as_ref().unwrap_or(&self.manifest.digest)
    }

    /// Returns the manifest's descriptor with its platform.
    pub(super) fn descriptor(&self) -> Descriptor {
        Descriptor { platform: Some(self.config.platform()), ..self.manifest.descriptor() }
    }
}

/// A base image that was found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The image.
    pub(super) base: Base,
    /// What its name stands for: the index, or the manifest of an image that has none.
    pub(super) named: Digest,
}

/// Resolves a base image: its manifest and configuration, none of its layers. `None` when rpub is
/// offline and it is not here.
pub(super) async fn resolve_base(
    session: &Session,
    image: &BaseImage,
    policy: PullPolicy,
) -> Result<Option<Found>, Error> {
    let reference = &image.reference;
    if session.is_offline() {
        let resolved = last_seen(session, reference, &image.platform).await?;
        return resolved.map(|resolved| found(reference, resolved)).transpose();
    }
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
    found(reference, resolved).map(Some)
}

fn found(reference: &Reference, resolved: Resolved) -> Result<Found, Error> {
    let named = resolved.named().clone();
    let base = Base {
        reference: reference.clone(),
        manifest: resolved.descriptor(),
        layers: resolved.layers()?,
        config: resolved.config,
    };
    Ok(Found { base, named })
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
        let Some(resolved) = read_image(&store, &descriptor.digest, &platform)? else {
            return Ok(None);
        };
        let suits = resolved.config.platform().rank_for(&platform).is_some();
        Ok::<_, Error>(suits.then_some(resolved))
    })
    .await
}

/// Reads an image of the store; of an index, the part for `platform`.
pub(super) fn read_image(
    store: &crate::store::Store,
    digest: &Digest,
    platform: &Platform,
) -> Result<Option<Resolved>, Error> {
    let Some(mut manifest) = store.manifest(digest)? else { return Ok(None) };
    let mut around = None;
    if let Content::Index(index) = &manifest.content {
        let Some(entry) = index.choose(platform) else { return Ok(None) };
        let Some(chosen) = store.manifest(&entry.digest)? else { return Ok(None) };
        around = Some(digest.clone());
        manifest = chosen;
    }
    let Some(image) = manifest.as_image().cloned() else { return Ok(None) };
    if !store.has_blob(&image.config.digest) {
        return Ok(None);
    }
    let config = ImageConfig::parse(&store.read_blob(&image.config.digest, MAX_CONFIG_BYTES)?)?;
    Ok(Some(Resolved { index: around, manifest, image, config }))
}

/// Finds what the registry names in the store: by a digest alone, else by one `HEAD`, for which
/// no quota counts. `None` when the manifest or the config has to be fetched.
async fn unchanged(
    session: &Session,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<Resolved>, Error> {
    let store = session.store.clone();
    let is_known = match &reference.digest {
        Some(digest) => store.has_blob(digest),
        // An empty store has nothing that could be unchanged.
        None => !blocking(move || store.images()).await?.is_empty(),
    };
    if !is_known {
        return Ok(None);
    }
    let digest = match &reference.digest {
        Some(digest) => Some(digest.clone()),
        None => session.client.peek(reference).await?.map(|descriptor| descriptor.digest),
    };
    let Some(digest) = digest else { return Ok(None) };
    let (store, platform) = (session.store.clone(), platform.clone());
    let found = blocking(move || read_image(&store, &digest, &platform)).await;
    Ok(found.unwrap_or_else(|error| {
        tracing::debug!(%error, "what the store has of the image cannot be used");
        None
    }))
}

/// Gets manifest and config from the registry, unless nothing has changed, and keeps both in the
/// store, without a name, but for a note of what the name means.
pub(super) async fn from_registry(
    session: &Session,
    reference: &Reference,
    platform: &Platform,
) -> Result<Resolved, Error> {
    let resolved = up_to_date(session, reference, platform).await?;
    if reference.digest.is_none() {
        let (store, name) = (session.store.clone(), reference.clone().or_latest());
        let digest = resolved.named().clone();
        blocking(move || store.saw(&name, &digest)).await?;
    }
    Ok(resolved)
}

async fn up_to_date(
    session: &Session,
    reference: &Reference,
    platform: &Platform,
) -> Result<Resolved, Error> {
    if let Some(resolved) = Box::pin(unchanged(session, reference, platform)).await? {
        return Ok(resolved);
    }
    let mut manifest = session.client.manifest(reference).await?;
    let mut around = None;
    if let Content::Index(index) = &manifest.content {
        let Some(entry) = index.choose(platform) else {
            let platforms: Vec<String> = index.platforms().map(ToString::to_string).collect();
            let message = format!("`{}` has no image for {platform}", reference.familiar());
            let hint = format!("it has {}", platforms.join(", "));
            return Err(Error::new(Kind::NotFound, message).hint(hint));
        };
        let by_digest = Reference::by_digest(reference.repository.clone(), entry.digest.clone());
        let chosen = session.client.manifest(&by_digest).await?;
        around = Some(std::mem::replace(&mut manifest, chosen));
    }
    let Some(image) = manifest.as_image().cloned() else {
        let message = format!("`{}` is an index inside an index", reference.familiar());
        return Err(Error::new(Kind::Integrity, message));
    };
    let bytes = config_bytes(session, &reference.repository, &image.config).await?;
    let config = ImageConfig::parse(&bytes)?;
    let (store, kept, index) = (session.store.clone(), manifest.clone(), around.clone());
    blocking(move || {
        store.put_blob(&bytes)?;
        store.put_manifest(&kept)?;
        index.map_or(Ok(()), |index| store.put_manifest(&index))
    })
    .await?;
    Ok(Resolved { index: around.map(|index| index.digest), manifest, image, config })
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
