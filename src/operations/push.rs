//! `push`: an image of the store to its registry.

use tokio::sync::mpsc;

use crate::image::{Content, Digest, Manifest, Reference};
use crate::store::Store;

use super::publish::{Parcel, Traffic, publish_blobs, publish_manifest};
use super::session::blocking;
use super::{Error, Kind, Session};

/// The annotation that names the image a build started from (OCI image-spec, annotations.md).
pub(super) const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushReport {
    /// The name.
    pub reference: Reference,
    /// The manifest.
    pub digest: Digest,
    /// What moved.
    pub traffic: Traffic,
}

/// Pushes the image that `reference` names in the store.
///
/// # Errors
///
/// [`Kind::NotFound`] when the store has no such image; else whatever the registry says. The tag is
/// the last thing that moves.
pub async fn push(session: &Session, reference: &Reference) -> Result<PushReport, Error> {
    let reference = reference.clone().or_latest();
    let (store, name) = (session.store.clone(), reference.clone());
    let cargo = blocking(move || Cargo::load(&store, &name)).await?;
    let (sender, parcels) = mpsc::unbounded_channel();
    for parcel in cargo.parcels {
        // The receiver lives until all senders are gone.
        let _ = sender.send(parcel);
    }
    drop(sender);
    let repositories = vec![reference.repository.clone()];
    let what = format!("failed to push `{}`", reference.familiar());
    let traffic = publish_blobs(session.clone(), repositories, parcels)
        .await
        .map_err(|error| error.about(&what))?;
    for child in &cargo.children {
        let by_digest = Reference::by_digest(reference.repository.clone(), child.digest.clone());
        session
            .client
            .push_manifest(&by_digest, child)
            .await
            .map_err(|error| Error::from(error).about(&what))?;
    }
    publish_manifest(session, std::slice::from_ref(&reference), &cargo.manifest).await?;
    Ok(PushReport { reference, digest: cargo.manifest.digest, traffic })
}

/// Everything that a manifest needs in the registry before it can be put there.
struct Cargo {
    manifest: Manifest,
    /// The manifests of an index.
    children: Vec<Manifest>,
    parcels: Vec<Parcel>,
}

impl Cargo {
    fn load(store: &Store, reference: &Reference) -> Result<Self, Error> {
        let descriptor = store.resolve(reference)?.ok_or_else(|| missing(reference))?;
        let manifest = store.manifest(&descriptor.digest)?.ok_or_else(|| missing(reference))?;
        let mut children = Vec::new();
        if let Content::Index(index) = &manifest.content {
            for entry in &index.manifests {
                children.push(store.manifest(&entry.digest)?.ok_or_else(|| missing(reference))?);
            }
        }
        let base = descriptor
            .annotations
            .get(BASE_NAME)
            .and_then(|name| name.parse::<Reference>().ok())
            .map(|reference| reference.repository);
        let mut parcels = Vec::new();
        for image in children.iter().chain([&manifest]).filter_map(Manifest::as_image) {
            for blob in image.layers.iter().chain([&image.config]) {
                parcels.push(Parcel::new(blob.clone(), base.clone()));
            }
        }
        Ok(Self { manifest, children, parcels })
    }
}

fn missing(reference: &Reference) -> Error {
    let name = reference.familiar();
    Error::new(Kind::NotFound, format!("no image `{name}` in the store"))
        .hint("run `rpub images` to see what there is")
}
