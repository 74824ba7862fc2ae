//! `images`, `tag`, `rmi`, `inspect`, `history`: what is in the store.

use crate::image::{Content, Descriptor, Digest, ImageConfig, Platform, Reference};
use crate::store::{ImageEntry, Store};

use super::resolve::read_image;
use super::session::blocking;
use super::{Error, Kind, Session};

/// One image of the store under one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    /// The name; `None` for a dangling image.
    pub name: Option<Reference>,
    /// The manifest, or the index.
    pub digest: Digest,
    /// The image id: the config's digest; for an index, its own.
    pub id: Digest,
    /// When the image was made, RFC 3339.
    pub created: Option<String>,
    /// Bytes of config and layers as they are in a registry.
    pub size_bytes: u64,
}

/// Everything about one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDetails {
    /// The image id: the config's digest.
    pub id: Digest,
    /// The manifest.
    pub manifest: Descriptor,
    /// All its names.
    pub names: Vec<Reference>,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// Bytes of config and layers as they are in a registry.
    pub size_bytes: u64,
}

/// What `rmi` did with one name or image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// The name is gone.
    Untagged(Reference),
    /// The image, which had no other name, is gone.
    Deleted(Digest),
}

/// Returns all images, the newest first.
pub async fn list(session: &Session) -> Result<Vec<ListedImage>, Error> {
    let store = session.store.clone();
    blocking(move || {
        let mut images = Vec::new();
        for entry in store.images()? {
            images.push(describe(&store, entry)?);
        }
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.name.cmp(&b.name)));
        Ok::<_, Error>(images)
    })
    .await
}

fn describe(store: &Store, entry: ImageEntry) -> Result<ListedImage, Error> {
    let digest = entry.descriptor.digest.clone();
    let platform = entry.descriptor.platform.clone().unwrap_or_else(Platform::host);
    Ok(match read_image(store, &entry.descriptor.digest, &platform)? {
        Some(resolved) => ListedImage {
            name: entry.name,
            id: resolved.image.config.digest.clone(),
            created: resolved.config.created.clone(),
            size_bytes: size(&resolved.image),
            digest,
        },
        None => ListedImage {
            name: entry.name,
            id: digest.clone(),
            created: None,
            size_bytes: entry.descriptor.size,
            digest,
        },
    })
}

fn size(image: &crate::image::ImageManifest) -> u64 {
    image.config.size + image.layers.iter().map(|layer| layer.size).sum::<u64>()
}

/// Gives the image `source` (a name, an id or a prefix of one) the further names `targets`.
pub async fn tag(session: &Session, source: &str, targets: Vec<Reference>) -> Result<(), Error> {
    let (store, source) = (session.store.clone(), source.to_owned());
    blocking(move || {
        let entry = find(&store, &source)?;
        let names: Vec<_> = targets
            .into_iter()
            .map(|target| (Some(target.or_latest()), entry.descriptor.clone()))
            .collect();
        Ok::<_, Error>(store.tag_all(&names)?)
    })
    .await
}

/// Removes a name, or an image by its id.
///
/// An id with several names is only removed with `force`. The space is freed by
/// [`collect_garbage`](super::collect_garbage).
pub async fn remove(session: &Session, image: &str, force: bool) -> Result<Vec<Removed>, Error> {
    let (store, image) = (session.store.clone(), image.to_owned());
    blocking(move || {
        if let Some(reference) = name_in(&store, &image)? {
            return remove_name(&store, reference);
        }
        let entry = find(&store, &image)?;
        let digest = entry.descriptor.digest;
        let names: Vec<Reference> = names_of(&store, &digest)?;
        if names.len() > 1 && !force {
            let names: Vec<String> = names.iter().map(Reference::familiar).collect();
            let message = format!("the image `{image}` has several names: {}", names.join(", "));
            return Err(Error::new(Kind::User, message)
                .hint("remove the names one by one, or all with `--force`"));
        }
        store.remove_image(&digest)?;
        let mut removed: Vec<Removed> = names.into_iter().map(Removed::Untagged).collect();
        removed.push(Removed::Deleted(digest));
        Ok(removed)
    })
    .await
}

fn remove_name(store: &Store, reference: Reference) -> Result<Vec<Removed>, Error> {
    let Some(descriptor) = store.remove_name(&reference)? else { return Ok(Vec::new()) };
    let mut removed = vec![Removed::Untagged(reference)];
    if names_of(store, &descriptor.digest)?.is_empty() {
        store.remove_image(&descriptor.digest)?;
        removed.push(Removed::Deleted(descriptor.digest));
    }
    Ok(removed)
}

/// Returns everything about an image, given by a name, an id or a prefix of one.
pub async fn inspect(session: &Session, image: &str) -> Result<ImageDetails, Error> {
    let (store, image) = (session.store.clone(), image.to_owned());
    blocking(move || {
        let entry = find(&store, &image)?;
        let platform = entry.descriptor.platform.clone().unwrap_or_else(Platform::host);
        let resolved =
            read_image(&store, &entry.descriptor.digest, &platform)?.ok_or_else(|| {
                Error::new(Kind::NotFound, format!("`{image}` has no image for {platform}"))
            })?;
        Ok::<_, Error>(ImageDetails {
            id: resolved.image.config.digest.clone(),
            names: names_of(&store, &entry.descriptor.digest)?,
            manifest: resolved.descriptor(),
            size_bytes: size(&resolved.image),
            layers: resolved.image.layers,
            config: resolved.config,
        })
    })
    .await
}

/// Returns the name that `text` is, when the store has it.
fn name_in(store: &Store, text: &str) -> Result<Option<Reference>, Error> {
    let Ok(reference) = text.parse::<Reference>() else { return Ok(None) };
    let reference = reference.or_latest();
    Ok(store.resolve(&reference)?.map(|_| reference))
}

fn names_of(store: &Store, digest: &Digest) -> Result<Vec<Reference>, Error> {
    let images = store.images()?.into_iter();
    Ok(images
        .filter(|entry| entry.descriptor.digest == *digest)
        .filter_map(|entry| entry.name)
        .collect())
}

/// Finds an image by name, by image id, or by the start of one that only one image has.
pub(super) fn find(store: &Store, text: &str) -> Result<ImageEntry, Error> {
    let unknown = || {
        Error::new(Kind::NotFound, format!("no image `{text}` in the store"))
            .hint("run `rpub images` to see what there is")
    };
    if let Some(reference) = name_in(store, text)? {
        let descriptor = store.resolve(&reference)?.ok_or_else(unknown)?;
        return Ok(ImageEntry {
            name: Some(reference),
            descriptor,
            tagged: None,
            subject: None,
            index: None,
            evictable: false,
        });
    }
    let prefix = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = prefix.bytes().all(|b| b.is_ascii_hexdigit()) && prefix.len() >= 3;
    if !is_hex {
        return Err(unknown());
    }
    let mut found: Vec<ImageEntry> = Vec::new();
    for entry in store.images()? {
        let digest = entry.descriptor.digest.clone();
        let has_id = digest.hex().starts_with(prefix)
            || config_digest(store, &digest)?.is_some_and(|id| id.hex().starts_with(prefix));
        if has_id && !found.iter().any(|other| other.descriptor.digest == digest) {
            found.push(entry);
        }
    }
    match found.len() {
        0 => Err(unknown()),
        1 => Ok(found.remove(0)),
        count => {
            let message = format!("the id `{text}` is ambiguous: {count} images start with it");
            Err(Error::new(Kind::User, message).hint("give more of its digits"))
        }
    }
}

fn config_digest(store: &Store, manifest: &Digest) -> Result<Option<Digest>, Error> {
    let manifest = store.manifest(manifest)?;
    Ok(manifest.and_then(|manifest| match manifest.content {
        Content::Image(image) => Some(image.config.digest),
        Content::Index(_) => None,
    }))
}
