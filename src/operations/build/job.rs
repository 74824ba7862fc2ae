//! A planned build, executed.

use std::fs::File;
use std::sync::Arc;

use crate::build::{Base, Bases, Context, ContextName, Engine, Image, Layer, Plan, Provisions};
use crate::layer::Metadata;
use crate::operations::fetch::fetch_blob;
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, Session};
use crate::sandbox::WorkerOptions;

use super::Interrupt;
use super::cache::{CacheSources, CacheTo, Exports, with_keys};
use super::contexts::{MainContext, open_named};
use super::online::Online;
use super::outputs::Outputs;
use super::plan::PlanError;
use super::publishing::{Channels, Forward, Publishing};
use super::request::BuildRequest;
use super::results::{self, Made};
use super::sources::Sources;

/// A planned build.
pub(super) struct Job<'a> {
    pub(super) session: &'a Session,
    pub(super) request: &'a BuildRequest,
    pub(super) sources: &'a Arc<Sources>,
    pub(super) plan: &'a Arc<Plan>,
    pub(super) outputs: &'a Outputs,
    pub(super) context: &'a MainContext,
    pub(super) online: &'a Arc<Online>,
    pub(super) provisions: &'a Provisions,
    pub(super) caches: &'a Arc<CacheSources>,
    pub(super) exports: &'a Exports,
}

impl Job<'_> {
    /// Executes the plan. An upload that fails meanwhile, as with a wrong password, stops it: the
    /// image could not be published anyway, and what was built is in the cache.
    pub(super) async fn execute_or_fail_to_publish(
        &self,
        publishing: Option<&mut Publishing>,
        interrupt: &Interrupt,
    ) -> Result<Vec<Made>, Error> {
        let Some(publishing) = publishing else { return self.execute(None, interrupt).await };
        let channels = publishing.channels.clone();
        let mut execution = std::pin::pin!(self.execute(channels, interrupt));
        tokio::select! {
            made = &mut execution => made,
            error = publishing.failure() => {
                interrupt.engine.cancel();
                // Its error would only say that it was stopped.
                let _ = execution.await;
                Err(error)
            }
        }
    }

    /// Runs the engine on a thread of its own, because it blocks, and makes what outputs want.
    async fn execute(
        &self,
        channels: Option<Channels>,
        interrupt: &Interrupt,
    ) -> Result<Vec<Made>, Error> {
        let runtime = tokio::runtime::Handle::current();
        let bases = Registry { session: self.session.clone(), runtime };
        let exports = self.has_exports().then(|| self.exports.clone());
        let observer = Forward { channels, caches: Arc::clone(self.caches), exports };
        let caches = Arc::clone(self.caches);
        let opener = self.contexts();
        let explain = self.request.explain;
        let project = format!("{} in {}", self.sources.name, self.context.root.display());
        let session = self.session.clone();
        let (sources, plan) = (Arc::clone(self.sources), Arc::clone(self.plan));
        let cancel = Arc::clone(&interrupt.engine);
        let online = Arc::clone(self.online);
        let provisions = self.provisions.clone();
        let (outputs, request) = (self.outputs.clone(), self.request.clone());
        let form = outputs.primary().map(|choice| choice.form.clone()).unwrap_or_default();
        let kept = self.has_inline_cache().then(|| self.exports.clone());
        blocking(move || {
            let contexts = plan.contexts.iter().map(|name| opener.open(name));
            let contexts = contexts.collect::<Result<_, Error>>()?;
            let engine = Engine {
                store: &session.store,
                sink: session.sink.as_ref(),
                bases: &bases,
                observer: &observer,
                remotes: online.as_ref(),
                caches: caches.as_ref(),
                explain,
                project,
                contexts,
                form: &form,
                provisions,
                shells: request.shells.as_deref(),
                worker: WorkerOptions::default(),
                cancel,
            };
            let images = engine.execute(&plan).map_err(|e| sources.explain(PlanError::Build(e)))?;
            let carry = |target: usize, image: Image| match &kept {
                Some(kept) => with_keys(image, &kept.keys(&plan.chain(target))),
                None => image,
            };
            results::make(&engine, &plan, &images, &outputs, &request, &carry)
                .map_err(|error| sources.explain(error))
        })
        .await
    }

    /// Returns what counts of the metadata of files in contexts.
    fn metadata(&self) -> Metadata {
        if self.request.reproducible { Metadata::Portable } else { Metadata::All }
    }

    fn contexts(&self) -> Contexts {
        Contexts {
            main: Context {
                root: self.context.root.clone(),
                name: self.request.context.shown(),
                ignored: self.sources.ignored.clone(),
                ignore_file: self.sources.ignore_file.clone(),
                owners: self.context.owners.clone(),
                metadata: self.metadata(),
            },
            request: self.request.clone(),
            metadata: self.metadata(),
            online: Arc::clone(self.online),
        }
    }

    /// Returns whether results are kept elsewhere.
    fn has_exports(&self) -> bool {
        !self.request.cache_to.is_empty() || self.has_inline_cache()
    }

    fn has_inline_cache(&self) -> bool {
        let asked = self.request.build_args.get("BUILDKIT_INLINE_CACHE");
        self.request.cache_to.contains(&CacheTo::Inline)
            || asked.is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
    }
}

/// Opens the contexts that a plan needs, and no others.
struct Contexts {
    main: Context,
    request: BuildRequest,
    metadata: Metadata,
    online: Arc<Online>,
}

impl Contexts {
    fn open(&self, name: &ContextName) -> Result<Context, Error> {
        let ContextName::Named(name) = name else { return Ok(self.main.clone()) };
        let Some(location) = self.request.named_context(name) else {
            let message = format!("there is no build context `{name}`");
            return Err(Error::new(Kind::Internal, message));
        };
        let context = open_named(name, location, &self.online)?;
        Ok(Context { metadata: self.metadata, ..context })
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
