//! A planned build: executed, kept, named, published.

use std::fs::File;
use std::sync::Arc;

use crate::build::{
    Base, Bases, Context, ContextName, Engine, Image, Layer, NoCaches, Plan, context_key,
};
use crate::image::{Descriptor, Reference};
use crate::operations::publish::{Parcel, publish_manifest};
use crate::operations::pull::fetch_missing;
use crate::operations::push::BASE_NAME;
use crate::operations::session::blocking;
use crate::operations::transfer::fetch_blob;
use crate::operations::{Error, Kind, Session};
use crate::sandbox::WorkerOptions;
use crate::store::Store;

use super::Interrupt;
use super::contexts::{MainContext, open_named};
use super::location::ContextLocation;
use super::online::Online;
use super::plan::PlanError;
use super::publishing::{Channels, Forward, Publishing};
use super::request::{BuildReport, BuildRequest};
use super::sources::Sources;

/// A planned build.
pub(super) struct Job<'a> {
    pub(super) session: &'a Session,
    pub(super) request: &'a BuildRequest,
    pub(super) sources: &'a Arc<Sources>,
    pub(super) plan: &'a Arc<Plan>,
    pub(super) context: &'a MainContext,
    pub(super) online: &'a Arc<Online>,
}

impl Job<'_> {
    /// Executes the plan. An upload that fails meanwhile, as with a wrong password, stops it: the
    /// image could not be published anyway, and what was built is in the cache.
    pub(super) async fn execute_or_fail_to_publish(
        &self,
        publishing: Option<&mut Publishing>,
        interrupt: &Interrupt,
    ) -> Result<Image, Error> {
        let Some(publishing) = publishing else { return self.execute(None, interrupt).await };
        let channels = publishing.channels.clone();
        let mut execution = std::pin::pin!(self.execute(channels, interrupt));
        tokio::select! {
            image = &mut execution => image,
            error = publishing.failure() => {
                interrupt.engine.cancel();
                // Its error would only say that it was stopped.
                let _ = execution.await;
                Err(error)
            }
        }
    }

    /// Runs the engine on a thread of its own, because it blocks.
    async fn execute(
        &self,
        channels: Option<Channels>,
        interrupt: &Interrupt,
    ) -> Result<Image, Error> {
        let runtime = tokio::runtime::Handle::current();
        let bases = Registry { session: self.session.clone(), runtime };
        let observer = Forward(channels);
        let opener = self.contexts();
        let project = format!("{} in {}", self.sources.name, self.context.root.display());
        let session = self.session.clone();
        let (sources, plan) = (Arc::clone(self.sources), Arc::clone(self.plan));
        let cancel = Arc::clone(&interrupt.engine);
        let online = Arc::clone(self.online);
        blocking(move || {
            let contexts = plan.contexts.iter().map(|name| opener.open(name));
            let contexts = contexts.collect::<Result<_, Error>>()?;
            let engine = Engine {
                store: &session.store,
                sink: session.sink.as_ref(),
                bases: &bases,
                observer: &observer,
                remotes: online.as_ref(),
                caches: &NoCaches,
                project,
                contexts,
                worker: WorkerOptions::default(),
                cancel,
            };
            let mut images =
                engine.execute(&plan).map_err(|e| sources.explain(PlanError::Build(e)))?;
            Ok::<_, Error>(images.remove(0))
        })
        .await
    }

    fn contexts(&self) -> Contexts {
        Contexts {
            main: Context {
                root: self.context.root.clone(),
                ignored: self.sources.ignored.clone(),
                ignore_file: self.sources.ignore_file.clone(),
            },
            named: self.request.named_contexts.clone(),
            online: Arc::clone(self.online),
        }
    }

    /// Keeps the image, completes what a local image needs, publishes the manifest, and names it.
    pub(super) async fn finish(
        &self,
        image: Image,
        publishing: Option<Publishing>,
    ) -> Result<BuildReport, Error> {
        let base = self.plan.base_of(self.plan.targets[0]).map(|base| base.reference.clone());
        let config = image.config_descriptor.clone();
        let (store, kept) = (self.session.store.clone(), image.clone());
        blocking(move || {
            store.put_blob(&kept.config)?;
            store.put_manifest(&kept.manifest)
        })
        .await?;
        let names = &self.request.names;
        let mut traffic = None;
        if let Some(publishing) = publishing {
            let origin = base.as_ref().map(|base| base.repository.clone());
            publishing.send(Parcel::new(config.clone(), None));
            for layer in &image.layers {
                publishing.send(Parcel::new(layer.descriptor.clone(), origin.clone()));
            }
            traffic = Some(publishing.finish().await?);
            publish_manifest(self.session, names, &image.manifest).await?;
        } else if let Some(base) = &base {
            // Without a push the image must be whole here; with one, the registry has the rest.
            let layers: Vec<Descriptor> =
                image.layers.iter().map(|layer| layer.descriptor.clone()).collect();
            fetch_missing(self.session, &base.repository, &layers).await?;
        }
        let mut named = image.descriptor();
        if let Some(base) = &base {
            named.annotations.insert(BASE_NAME.to_owned(), base.to_string());
        }
        let (store, plan, own) = (self.session.store.clone(), Arc::clone(self.plan), names.clone());
        blocking(move || name_in_store(&store, &plan, &own, &named)).await?;
        let manifest = image.descriptor();
        Ok(BuildReport { manifest, config, names: names.clone(), traffic })
    }
}

/// Names the image, and those of its bases that have come into the store whole. Blocks.
fn name_in_store(
    store: &Store,
    plan: &Plan,
    names: &[Reference],
    image: &Descriptor,
) -> Result<(), Error> {
    let mut entries: Vec<(Option<Reference>, Descriptor)> = Vec::new();
    for base in &plan.bases {
        let is_whole = base.layers.iter().all(|layer| store.has_blob(&layer.descriptor.digest));
        let is_known = base.reference.tag.is_none() || {
            let known = store.resolve(&base.reference)?;
            known.is_some_and(|known| known.digest == base.manifest.digest)
        };
        if is_whole && !is_known {
            entries.push((Some(base.reference.clone()), base.manifest.clone()));
        }
    }
    if names.is_empty() {
        entries.push((None, image.clone()));
    } else {
        entries.extend(names.iter().map(|name| (Some(name.clone()), image.clone())));
    }
    Ok(store.tag_all(&entries)?)
}

/// Opens the contexts that a plan needs, and no others.
struct Contexts {
    main: Context,
    named: Vec<(String, ContextLocation)>,
    online: Arc<Online>,
}

impl Contexts {
    fn open(&self, name: &ContextName) -> Result<Context, Error> {
        let ContextName::Named(name) = name else { return Ok(self.main.clone()) };
        let is_it = |other: &str| context_key(other).is_ok_and(|key| key == *name);
        let found = self.named.iter().rev().find(|(other, _)| is_it(other));
        let Some((_, location)) = found else {
            let message = format!("there is no build context `{name}`");
            return Err(Error::new(Kind::Internal, message));
        };
        open_named(name, location, &self.online)
    }
}

/// Gets base layers from their registry.
struct Registry {
    session: Session,
    runtime: tokio::runtime::Handle,
}

impl Bases for Registry {
    fn fetch(
        &self,
        base: &Base,
        layer: &Layer,
        copy: File,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let repository = &base.reference.repository;
        let fetch = fetch_blob(&self.session, repository, &layer.descriptor, Some(copy));
        self.runtime.block_on(fetch).map_err(Into::into)
    }
}
