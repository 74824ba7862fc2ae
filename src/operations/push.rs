//! `push`: an image of the store to its registry.

use std::collections::BTreeMap;

use futures_util::future::try_join;
use tokio::sync::mpsc;

use crate::event::Event;
use crate::image::{Content, Descriptor, Digest, Manifest, Reference, Repository};
use crate::store::Store;

use super::publish::{First, Parcel, Traffic, known_holders, publish_blobs, publish_manifest};
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
    let nothing = Traffic::of_nothing(cargo.blobs.iter().map(|(blob, _)| blob));
    let traffic = match bring_blobs(session, &reference, &cargo, foreign).await {
        Ok(traffic) => {
            push_manifests(session, &reference, &cargo.manifest, &cargo.children).await?;
            traffic
        }
        Err(Halt::IsThere) => {
            let (reference, digest) = (reference.clone(), digest.clone());
            session.sink.emit(Event::Tagged { reference, digest });
            nothing
        }
        Err(Halt::Failed(error)) => {
            return Err(error.about(format!("failed to push `{}`", reference.familiar())));
        }
    };
    Ok(PushReport { reference, digest, traffic })
}

/// Why a push ends before its manifests.
enum Halt {
    /// The registry has the image under that name, and so everything that it needs.
    IsThere,
    Failed(Error),
}

/// Brings the blobs into the registry while it is asked whether the image is there already.
async fn bring_blobs(
    session: &Session,
    reference: &Reference,
    cargo: &Cargo,
    foreign: ForeignLayers,
) -> Result<Traffic, Halt> {
    let asked = async {
        let may_be_there = foreign == ForeignLayers::Skip;
        let digest = &cargo.manifest.digest;
        if may_be_there && session.client.names_manifest(reference, digest).await {
            return Err(Halt::IsThere);
        }
        Ok(())
    };
    let pushed = async { push_blobs(session, reference, cargo).await.map_err(Halt::Failed) };
    if cargo.is_elsewhere {
        // Mounts change the registry: not before the answer.
        asked.await?;
        return pushed.await;
    }
    try_join(asked, pushed).await.map(|((), traffic)| traffic)
}

async fn push_blobs(
    session: &Session,
    reference: &Reference,
    cargo: &Cargo,
) -> Result<Traffic, Error> {
    let (sender, parcels) = mpsc::unbounded_channel();
    for (blob, origin) in &cargo.blobs {
        // The receiver lives until all senders are gone.
        let _ = sender.send(Parcel::new(blob.clone(), origin.clone()));
    }
    drop(sender);
    let repositories = vec![reference.repository.clone()];
    let first = if cargo.is_elsewhere { First::Mount } else { First::Whether };
    publish_blobs(session.clone(), repositories, parcels, first).await
}

async fn push_manifests(
    session: &Session,
    reference: &Reference,
    manifest: &Manifest,
    children: &[Manifest],
) -> Result<(), Error> {
    for child in children {
        let by_digest = Reference::by_digest(reference.repository.clone(), child.digest.clone());
        let what = || format!("failed to push `{}`", reference.familiar());
        let pushed = session.client.push_manifest(&by_digest, child).await;
        pushed.map_err(|error| Error::from(error).about(what()))?;
    }
    publish_manifest(session, std::slice::from_ref(reference), manifest).await
}

/// Everything that a manifest needs in the registry before it can be put there.
struct Cargo {
    manifest: Manifest,
    /// The manifests of an index.
    children: Vec<Manifest>,
    /// Blobs, and where else they may be had.
    blobs: Vec<(Descriptor, Option<Repository>)>,
    /// Whether other repositories of the registry are known to have all blobs, and this one none.
    is_elsewhere: bool,
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
        let mut blobs = Vec::new();
        for image in children.iter().chain([&manifest]).filter_map(Manifest::as_image) {
            let base = base_of(&image.annotations).or_else(|| base_of(&descriptor.annotations));
            let is_sent =
                |blob: &&Descriptor| foreign == ForeignLayers::Push || !blob.is_elsewhere();
            for blob in image.layers.iter().filter(is_sent).chain([&image.config]) {
                blobs.push((blob.clone(), base.clone()));
            }
        }
        let known = known_holders(store, std::slice::from_ref(&reference.repository))?;
        let mut digests = blobs.iter().map(|(blob, _)| &blob.digest);
        let is_elsewhere =
            !is_known_here(store, reference)? && digests.all(|digest| known.contains_key(digest));
        Ok(Self { manifest, children, blobs, is_elsewhere })
    }
}

/// Returns whether another name in the repository is known: it may then have the same blobs.
fn is_known_here(store: &Store, reference: &Reference) -> Result<bool, Error> {
    let names = store.images()?.into_iter().filter_map(|entry| entry.name);
    let mut others = names.filter(|name| name.repository == reference.repository);
    Ok(others.any(|name| name != *reference))
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
