//! Keeping a build's results for other machines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::stream;

use crate::build::{Layer, StageResult};
use crate::event::TransferId;
use crate::image::{Descriptor, Digest, Reference, Repository};
use crate::operations::fetch::fetch_blob;
use crate::operations::session::blocking;
use crate::operations::transfer::push_blob;
use crate::operations::{Error, Session};
use crate::registry;

use super::layout::Layout;
use super::lookup::CacheSources;
use super::{CacheMode, CacheTo, entry};

/// How many requests are under way at once; the client bounds transfers by itself.
const AT_ONCE: usize = 8;

/// What the stages of a build came to, collected while it runs.
#[derive(Clone, Default)]
pub(in crate::operations::build) struct Exports(Arc<Mutex<Vec<StageResult>>>);

/// A key with the layers of its entry.
type Entry = (Digest, Vec<Layer>);

impl Exports {
    /// Takes note of a stage.
    pub(in crate::operations::build) fn add(&self, result: StageResult) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(result);
    }

    /// Returns the keys of the steps of a chain of stages, the lowest first.
    pub(in crate::operations::build) fn keys(&self, chain: &[usize]) -> Vec<Digest> {
        let results = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |stage: &usize| results.iter().find(|result| result.position == *stage);
        chain.iter().filter_map(of).flat_map(|result| result.keys.clone()).collect()
    }

    /// Keeps the results in every place of `targets`. The image, if it was pushed, is in
    /// `published`.
    pub(in crate::operations::build) async fn write(
        &self,
        session: &Session,
        sources: &CacheSources,
        targets: &[CacheTo],
        published: &[Repository],
    ) -> Result<(), Error> {
        for target in targets {
            let (outcome, ignore_error) = match target {
                CacheTo::Inline => continue,
                CacheTo::Registry { repository, mode, ignore_error } => {
                    let entries = self.entries(*mode);
                    let export = Export { session, sources, repository, published };
                    let outcome = export.run(entries).await.map_err(|error| {
                        error.about(format!(
                            "failed to write the cache to `{}`",
                            repository.familiar()
                        ))
                    });
                    (outcome, *ignore_error)
                }
                CacheTo::Local { directory, mode, ignore_error } => {
                    let entries = self.entries(*mode);
                    let (store, directory) = (session.store.clone(), directory.clone());
                    let fetched = fetch_all(session, sources, &entries).await;
                    let outcome = match fetched {
                        Ok(()) => blocking(move || Layout::add(&directory, &store, &entries)).await,
                        Err(error) => Err(error),
                    };
                    (outcome, *ignore_error)
                }
            };
            match outcome {
                Err(error) if ignore_error => session.warn(error.to_string()),
                other => other?,
            }
        }
        Ok(())
    }

    /// Returns the entries to keep, each key once.
    fn entries(&self, mode: CacheMode) -> Vec<Entry> {
        let results = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = results.iter().filter(|result| match mode {
            CacheMode::Min => result.is_final,
            CacheMode::Max => true,
        });
        let mut entries = BTreeMap::new();
        for result in kept {
            for (at, key) in result.keys.iter().enumerate() {
                let count = result.below + at + 1;
                if let Some(layers) = result.made.get(..count) {
                    entries.entry(key.clone()).or_insert_with(|| layers.to_vec());
                }
            }
        }
        entries.into_iter().collect()
    }
}

/// Brings into the store what another cache named and nobody has needed so far.
async fn fetch_all(
    session: &Session,
    sources: &CacheSources,
    entries: &[Entry],
) -> Result<(), Error> {
    let layers = entries.iter().flat_map(|(_, layers)| layers);
    for layer in layers {
        if let Some(origin) = sources.origin(&layer.descriptor.digest) {
            fetch_blob(session, &origin, &layer.descriptor, None).await?;
        }
    }
    Ok(())
}

/// An export to a repository.
struct Export<'a> {
    session: &'a Session,
    sources: &'a CacheSources,
    repository: &'a Repository,
    published: &'a [Repository],
}

impl Export<'_> {
    async fn run(&self, entries: Vec<Entry>) -> Result<(), Error> {
        let asked = stream::iter(entries).map(async |entry| {
            let is_there = self.is_there(&entry.0).await?;
            Ok::<_, Error>((!is_there).then_some(entry))
        });
        let missing: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
        let missing: Vec<Option<Entry>> = missing.into_iter().collect::<Result<_, Error>>()?;
        let missing: Vec<Entry> = missing.into_iter().flatten().collect();
        if missing.is_empty() {
            return Ok(());
        }
        self.push_blobs(&missing).await?;
        let written = stream::iter(&missing).map(async |(key, layers)| {
            let reference = Reference::tagged(self.repository.clone(), entry::tag(key));
            let manifest = entry::manifest_of(key, layers);
            match self.session.client.push_manifest(&reference, &manifest).await {
                // Another machine has kept its own result meanwhile, which is as good.
                Ok(()) | Err(registry::Error::ManifestDigest { .. }) => Ok(()),
                Err(error) => Err(Error::from(error)),
            }
        });
        let written: Vec<_> = written.buffer_unordered(AT_ONCE).collect().await;
        let count = written.len();
        written.into_iter().collect::<Result<(), Error>>()?;
        let name = self.repository.familiar();
        self.session.note(format!("cache: {count} new entries in {name}"));
        Ok(())
    }

    /// Returns whether some build has kept that result: entries are never overwritten.
    async fn is_there(&self, key: &Digest) -> Result<bool, Error> {
        let reference = Reference::tagged(self.repository.clone(), entry::tag(key));
        match self.session.client.resolve(&reference).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == registry::Kind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Brings what the entries name into the repository, each blob once.
    async fn push_blobs(&self, entries: &[Entry]) -> Result<(), Error> {
        let store = self.session.store.clone();
        blocking(move || store.put_blob(entry::EMPTY_CONTENT)).await?;
        let mut seen = BTreeSet::new();
        let config = entry::empty_config();
        let layers = entries.iter().flat_map(|(_, layers)| layers);
        let layers = layers.map(|layer| layer.descriptor.clone());
        let blobs: Vec<Descriptor> =
            layers.chain([config]).filter(|blob| seen.insert(blob.digest.clone())).collect();
        let pushed = stream::iter(blobs).map(async |blob| {
            let origin = self.sources.origin(&blob.digest);
            let holders = self.published.iter().chain(&origin);
            let names = holders
                .flat_map(|holder| self.session.names_in(&self.repository.registry, holder))
                .filter(|name| *name != self.repository.name);
            let names: Vec<_> = names.collect();
            let (session, transfer) = (self.session, TransferId::next());
            push_blob(session, self.repository, &blob, origin.clone(), &names, transfer).await
        });
        let pushed: Vec<_> = pushed.buffer_unordered(AT_ONCE).collect().await;
        pushed.into_iter().try_for_each(|pushed| pushed.map(|_| ()))
    }
}
