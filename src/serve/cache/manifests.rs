//! Manifests through the cache.

use std::sync::Arc;
use std::time::Instant;

use crate::event::Event;
use crate::image::{Descriptor, Digest, Manifest, Reference, Repository};
use crate::serve::names::Candidates;
use crate::serve::reply::{Code, Failure};
use crate::serve::route::Key;
use crate::serve::state::State;

use super::fresh::{Said, Step};
use super::{Cache, Fallback, Stale, UpstreamError, Why, absent, failure};

impl Cache {
    /// Sees to it that the store has what upstream has under `key`. Returns how the store's may
    /// differ from that.
    pub(in crate::serve) async fn bring_manifest(
        self: &Arc<Self>,
        state: &Arc<State>,
        repository: &Repository,
        key: &Key,
    ) -> Result<Option<Stale>, Failure> {
        match key {
            Key::Invalid(_) => Ok(None),
            Key::Tag(tag) => {
                let reference = Reference::tagged(repository.clone(), tag.clone());
                self.bring_tag(state, &reference).await
            }
            Key::Digest(digest) => {
                let reference = Reference::by_digest(repository.clone(), digest.clone());
                self.bring_digest(state, reference, digest).await.map(|()| None)
            }
        }
    }

    async fn bring_tag(
        self: &Arc<Self>,
        state: &Arc<State>,
        reference: &Reference,
    ) -> Result<Option<Stale>, Failure> {
        let since = Instant::now();
        let _turn = self.turns.take(reference).await;
        let registry = reference.registry();
        let (cache, wanted) = (Arc::clone(self), reference.clone());
        let here = state.blocking(move |_| Ok(cache.in_store(&wanted)?)).await?;
        let fallback = if here.is_some() { Fallback::There } else { Fallback::None };
        match self.freshness.step(reference, fallback, Instant::now()) {
            Step::Serve => return Ok(None),
            Step::Refuse => return Err(absent(registry, Code::ManifestUnknown)),
            Step::Ask => {}
        }
        let question = Arc::clone(self).look_up(Arc::clone(state), reference.clone(), here);
        match self.ask(registry, fallback, since, Box::pin(question)).await {
            Ok(()) => {
                self.freshness.note(reference, Said::Same, Instant::now());
                Ok(None)
            }
            Err(error) if error.why == Why::Missing => {
                self.freshness.note(reference, Said::Absent, Instant::now());
                Err(failure(registry, Code::ManifestUnknown, &error))
            }
            Err(error) if fallback == Fallback::There => {
                tracing::debug!(%error, %reference, "served stale");
                Ok(Some(Stale { registry: registry.clone() }))
            }
            Err(error) => Err(failure(registry, Code::ManifestUnknown, &error)),
        }
    }

    /// Lets the tag name in the store what it names upstream.
    async fn look_up(
        self: Arc<Self>,
        state: Arc<State>,
        reference: Reference,
        here: Option<Digest>,
    ) -> Result<(), UpstreamError> {
        let found = self.upstream.resolve(reference.clone()).await?.map(|found| found.digest);
        if found.is_some() && found == here {
            return Ok(());
        }
        let manifest = match &found {
            Some(digest) => {
                let (cache, digest) = (Arc::clone(&self), digest.clone());
                let known = state.blocking(move |_| Ok(cache.store.manifest(&digest)?)).await;
                // What is damaged is fetched again.
                known.ok().flatten()
            }
            None => None,
        };
        let manifest = match (manifest, found) {
            (Some(manifest), _) => manifest,
            (None, Some(digest)) => {
                let exactly = Reference::by_digest(reference.repository.clone(), digest);
                self.upstream.manifest(exactly).await?
            }
            (None, None) => self.upstream.manifest(reference.clone()).await?,
        };
        let digest = manifest.digest.clone();
        if here.as_ref() == Some(&digest) {
            return Ok(());
        }
        self.keep(&state, reference.clone(), manifest).await?;
        self.events.emit(Event::Tagged { reference, digest });
        Ok(())
    }

    async fn bring_digest(
        self: &Arc<Self>,
        state: &Arc<State>,
        reference: Reference,
        digest: &Digest,
    ) -> Result<(), Failure> {
        let since = Instant::now();
        let _turn = self.turns.take(&reference).await;
        if self.is_known(state, &reference.repository, digest).await? {
            return Ok(());
        }
        let registry = reference.registry().clone();
        let question = self.upstream.manifest(reference.clone());
        let asked = self.ask(&registry, Fallback::None, since, question).await;
        let kept = match asked {
            Ok(manifest) => {
                let manifest = Manifest { digest: digest.clone(), ..manifest };
                self.keep(state, reference, manifest).await
            }
            Err(error) => Err(error),
        };
        kept.map_err(|error| failure(&registry, Code::ManifestUnknown, &error))
    }

    /// Returns whether the store has the manifest as one of the repository.
    async fn is_known(
        &self,
        state: &Arc<State>,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, Failure> {
        let (here, key) = (Candidates(vec![repository.clone()]), Key::Digest(digest.clone()));
        state.blocking(move |state| Ok(here.find_manifest(state, &key)?.is_some())).await
    }

    /// Returns what a tag names in the store, when its manifest is there.
    fn in_store(&self, reference: &Reference) -> crate::store::Result<Option<Digest>> {
        let found = self.store.resolve(reference)?.map(|found| found.digest);
        Ok(found.filter(|digest| self.store.has_blob(digest)))
    }

    /// Keeps a manifest, under a name unless an image of the repository has it as a part.
    async fn keep(
        self: &Arc<Self>,
        state: &Arc<State>,
        reference: Reference,
        manifest: Manifest,
    ) -> Result<(), UpstreamError> {
        self.sizes.note(parts(&manifest));
        let cache = Arc::clone(self);
        let kept = state.blocking(move |state| {
            // A collection in between would take the manifest for garbage.
            let _in_use = cache.store.lock_shared()?;
            cache.store.put_manifest(&manifest)?;
            let here = Candidates(vec![reference.repository.clone()]);
            let is_part = match &reference.digest {
                Some(digest) => here.find_manifest(state, &Key::Digest(digest.clone()))?.is_some(),
                None => false,
            };
            if !is_part {
                cache.store.tag_evictable(&reference, &manifest.descriptor())?;
            }
            Ok(manifest.bytes.len() as u64)
        });
        let failed = |failure: Failure| {
            let message = failure.warning.unwrap_or_else(|| "the store failed".to_owned());
            UpstreamError { why: Why::Local, message }
        };
        let bytes = kept.await.map_err(failed)?;
        self.has_grown_by(bytes);
        Ok(())
    }
}

/// Returns the blobs that an image needs, with their sizes.
pub(super) fn parts(manifest: &Manifest) -> impl Iterator<Item = (Digest, u64)> {
    let image = manifest.as_image().into_iter();
    let parts = image.flat_map(|image| image.layers.iter().chain([&image.config]));
    parts.map(|part: &Descriptor| (part.digest.clone(), part.size))
}
