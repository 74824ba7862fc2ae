//! The result of an edit on its way to where it belongs.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;

use crate::event::Event;
use crate::image::{Content, Descriptor, Digest, Manifest, Reference, Repository};
use crate::operations::publish::{
    First, Parcel, Traffic, publish_blobs, publish_manifest, repositories,
};
use crate::operations::pull::fetch_missing;
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, Session};

use super::draft::Finished;
use super::target::{EditTarget, Location};
use crate::operations::place::{Place, Top};

/// How deep indexes may be nested: no known tool makes more than two levels.
const MAX_DEPTH: usize = 8;
/// How many manifests may hang on one name.
const MAX_MANIFESTS: usize = 4096;

/// A manifest or index with everything that is new below it.
#[derive(Debug)]
pub(super) struct Edition {
    /// What the names will stand for.
    pub(super) manifest: Manifest,
    /// Where everything is that is neither new nor in `places`.
    pub(super) place: Place,
    /// Images that were made or edited.
    made: BTreeMap<Digest, Manifest>,
    /// Configs that were made.
    configs: Vec<Vec<u8>>,
    /// Where manifests and blobs are that came from elsewhere; what is new is in the store.
    places: BTreeMap<Digest, Place>,
}

/// What has to be at the destination before the top manifest.
#[derive(Debug, Default)]
struct Cargo {
    blobs: Vec<(Descriptor, Place)>,
    manifests: Vec<Manifest>,
    seen: BTreeSet<Digest>,
}

impl Edition {
    /// Returns what was read, as it was read.
    pub(super) fn of(top: &Top) -> Self {
        Self::new(top.manifest.clone(), top.place.clone())
    }

    /// Returns an edition of a manifest whose parts are at `place`.
    pub(super) fn new(manifest: Manifest, place: Place) -> Self {
        let (made, configs, places) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        Self { manifest, place, made, configs, places }
    }

    /// Takes a finished image in, as a part or as the whole.
    pub(super) fn take(&mut self, finished: Finished) -> Manifest {
        let Finished { manifest, config, origins, .. } = finished;
        if let Some(bytes) = config {
            self.places.insert(Digest::of(&bytes), Place::Store);
            self.configs.push(bytes);
        }
        self.places.extend(origins);
        self.made.insert(manifest.digest.clone(), manifest.clone());
        manifest
    }

    /// Says that the manifest `digest`, and what hangs on it, is at `place`.
    pub(super) fn found_at(&mut self, digest: Digest, place: Place) {
        self.places.insert(digest, place);
    }

    /// Brings everything to where `target` wants it and moves the names, last of all.
    pub(super) async fn deliver(
        &self,
        session: &Session,
        target: &EditTarget,
        previous: Option<&Digest>,
    ) -> Result<(Vec<Reference>, Traffic), Error> {
        let names = target.names_of(&self.manifest.digest);
        let is_there = previous == Some(&self.manifest.digest);
        if is_there && names.iter().all(|name| Some(name) == target.source.as_ref()) {
            return Ok((names, Traffic::default()));
        }
        let (store, configs) = (session.store.clone(), self.configs.clone());
        blocking(move || configs.iter().try_for_each(|bytes| store.put_blob(bytes).map(drop)))
            .await?;
        let destinations = repositories(&names);
        let lacks = |place: &Place| match target.location {
            Location::Store => *place != Place::Store,
            Location::Registry => {
                let all = |repository: &Repository| destinations.iter().all(|to| to == repository);
                !place.repository().is_some_and(|from| all(from) && session.reads_from_itself(from))
            }
        };
        let mut cargo = Cargo::default();
        self.gather(session, &self.manifest, &self.place, &lacks, &mut cargo, 0).await?;
        let traffic = match target.location {
            Location::Store => self.keep(session, cargo, &names).await?,
            Location::Registry => {
                let moved = target.moved().zip(previous);
                self.push(session, cargo, &names, moved).await?
            }
        };
        Ok((names, traffic))
    }

    /// Collects what `manifest`, which is at `place`, needs and the destination may lack.
    async fn gather(
        &self,
        session: &Session,
        manifest: &Manifest,
        place: &Place,
        lacks: &(dyn Fn(&Place) -> bool + Sync),
        cargo: &mut Cargo,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > MAX_DEPTH || cargo.manifests.len() > MAX_MANIFESTS {
            return Err(Error::new(Kind::User, "the index holds too many manifests"));
        }
        let index = match &manifest.content {
            Content::Index(index) => index,
            Content::Image(image) => {
                for blob in image.layers.iter().chain([&image.config]) {
                    let at = self.places.get(&blob.digest).unwrap_or(place);
                    // Layers that must not be pushed elsewhere are had from their own address.
                    if !blob.is_elsewhere() && lacks(at) && cargo.seen.insert(blob.digest.clone()) {
                        cargo.blobs.push((blob.clone(), at.clone()));
                    }
                }
                return Ok(());
            }
        };
        for entry in &index.manifests {
            let at = self.places.get(&entry.digest).unwrap_or(place);
            let made = self.made.get(&entry.digest);
            if (made.is_none() && !lacks(at)) || !cargo.seen.insert(entry.digest.clone()) {
                continue;
            }
            let child = match made {
                Some(made) => made.clone(),
                None => at.manifest(session, &entry.digest, Some(&entry.media_type)).await?,
            };
            Box::pin(self.gather(session, &child, at, lacks, cargo, depth + 1)).await?;
            cargo.manifests.push(child);
        }
        Ok(())
    }

    async fn push(
        &self,
        session: &Session,
        cargo: Cargo,
        names: &[Reference],
        moved: Option<(&Reference, &Digest)>,
    ) -> Result<Traffic, Error> {
        let (sender, parcels) = mpsc::unbounded_channel();
        for (blob, place) in cargo.blobs {
            // The receiver lives until all senders are gone.
            let _ = sender.send(Parcel::new(blob, place.repository().cloned()));
        }
        drop(sender);
        let repositories = repositories(names);
        let traffic = publish_blobs(session.clone(), repositories.clone(), parcels, First::Whether);
        let traffic = traffic.await?;
        for child in &cargo.manifests {
            for repository in &repositories {
                let name = Reference::by_digest(repository.clone(), child.digest.clone());
                session.client.push_manifest(&name, child).await.map_err(|error| {
                    Error::from(error).about(format!("failed to push `{}`", name.familiar()))
                })?;
            }
        }
        if let Some((name, digest)) = moved {
            expect_unmoved(session, name, digest).await?;
        }
        publish_manifest(session, names, &self.manifest).await?;
        Ok(traffic)
    }

    /// Brings everything into the store and names it there.
    async fn keep(
        &self,
        session: &Session,
        cargo: Cargo,
        names: &[Reference],
    ) -> Result<Traffic, Error> {
        for (blob, place) in cargo.blobs {
            if let Some(repository) = place.repository() {
                fetch_missing(session, repository, &[blob]).await?;
            }
        }
        let (store, top) = (session.store.clone(), self.manifest.clone());
        let (manifests, named) = (cargo.manifests, names.to_vec());
        blocking(move || {
            manifests.iter().chain([&top]).try_for_each(|manifest| store.put_manifest(manifest))?;
            let entry = |name: &Reference| (Some(name.clone()), top.descriptor());
            store.tag_all(&named.iter().map(entry).collect::<Vec<_>>())
        })
        .await?;
        for reference in names.iter().cloned() {
            session.sink.emit(Event::Tagged { reference, digest: self.manifest.digest.clone() });
        }
        Ok(Traffic::default())
    }
}

/// Refuses to move a tag that somebody else has moved since it was read, or that a mirror was behind
/// with: the other change would be lost.
async fn expect_unmoved(session: &Session, name: &Reference, digest: &Digest) -> Result<(), Error> {
    let now = session.client.resolve_at_origin(name).await?.digest;
    if now == *digest {
        return Ok(());
    }
    let message = format!("`{}` is not what was edited any more: it is {now}", name.familiar());
    Err(Error::new(Kind::User, message).hint("run the command again, unless a mirror is behind"))
}
