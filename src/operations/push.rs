//! `push`: an image of the store to its registry.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use crate::event::Event;
use crate::image::{Content, Descriptor, Digest, Manifest, Reference, Repository};
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

/// What to do with layers that not everybody may distribute, and that say where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignLayers {
    /// Leave them where they are.
    Skip,
    /// Push them like others.
    Push,
}

/// Pushes the image that `reference` names in the store.
///
/// # Errors
///
/// [`Kind::NotFound`] when the store has no such image; else whatever the registry says. The tag is
/// the last thing that moves.
pub async fn push(
    session: &Session,
    reference: &Reference,
    foreign: ForeignLayers,
) -> Result<PushReport, Error> {
    let reference = reference.clone().or_latest();
    let (store, name) = (session.store.clone(), reference.clone());
    let cargo = blocking(move || Cargo::load(&store, &name, foreign)).await?;
    let digest = cargo.manifest.digest.clone();
    let nothing = Traffic::of_nothing(&cargo.parcels);
    let traffic = tokio::select! {
        // Asked first: a registry that has the manifest there has everything that it needs.
        biased;
        () = is_there(session, &reference, &digest), if foreign == ForeignLayers::Skip => {
            let (reference, digest) = (reference.clone(), digest.clone());
            session.sink.emit(Event::Tagged { reference, digest });
            nothing
        }
        traffic = push_cargo(session, &reference, cargo) => traffic?,
    };
    Ok(PushReport { reference, digest, traffic })
}

/// Returns when the registry turns out to have the manifest under that name; else never.
async fn is_there(session: &Session, reference: &Reference, digest: &Digest) {
    if !session.client.names_manifest(reference, digest).await {
        std::future::pending::<()>().await;
    }
}

async fn push_cargo(
    session: &Session,
    reference: &Reference,
    cargo: Cargo,
) -> Result<Traffic, Error> {
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
    publish_manifest(session, std::slice::from_ref(reference), &cargo.manifest).await?;
    Ok(traffic)
}

/// Everything that a manifest needs in the registry before it can be put there.
struct Cargo {
    manifest: Manifest,
    /// The manifests of an index.
    children: Vec<Manifest>,
    parcels: Vec<Parcel>,
}

impl Cargo {
    fn load(store: &Store, reference: &Reference, foreign: ForeignLayers) -> Result<Self, Error> {
        let descriptor = store.resolve(reference)?.ok_or_else(|| missing(reference))?;
        let manifest = store.manifest(&descriptor.digest)?.ok_or_else(|| missing(reference))?;
        let mut children = Vec::new();
        if let Content::Index(index) = &manifest.content {
            for entry in &index.manifests {
                children.push(store.manifest(&entry.digest)?.ok_or_else(|| missing(reference))?);
            }
        }
        for manifest in children.iter().chain([&manifest]) {
            manifest.check_media_types().map_err(|error| {
                let what = format!("`{}` is refused by registries", reference.familiar());
                Error::from(error).about(what).hint("make it anew in one of the two formats")
            })?;
        }
        let mut parcels = Vec::new();
        for image in children.iter().chain([&manifest]).filter_map(Manifest::as_image) {
            let base = base_of(&image.annotations).or_else(|| base_of(&descriptor.annotations));
            let is_sent =
                |blob: &&Descriptor| foreign == ForeignLayers::Push || !blob.is_elsewhere();
            for blob in image.layers.iter().filter(is_sent).chain([&image.config]) {
                parcels.push(Parcel::new(blob.clone(), base.clone()));
            }
        }
        Ok(Self { manifest, children, parcels })
    }
}

/// Returns the repository of the image that was built upon: the registry may take layers from there.
fn base_of(annotations: &BTreeMap<String, String>) -> Option<Repository> {
    let base: Reference = annotations.get(BASE_NAME)?.parse().ok()?;
    Some(base.repository)
}

fn missing(reference: &Reference) -> Error {
    let name = reference.familiar();
    Error::new(Kind::NotFound, format!("no image `{name}` in the store"))
        .hint("run `rpub images` to see what there is")
}
