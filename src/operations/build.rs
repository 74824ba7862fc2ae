//! `build` and `build-push`: a Dockerfile to an image, its layers published while it is built.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::build::{
    self, Base, Bases, Cancel, Context, Engine, Growth, Image, Layer, Network, Observer, Outline,
    Plan, PlanOptions,
};
use crate::dockerfile::{self, Dockerfile};
use crate::image::{Descriptor, Platform, Reference, Repository};
use crate::sandbox::WorkerOptions;
use crate::store::Store;

use super::publish::{Parcel, Traffic, publish_blobs, publish_manifest, repositories};
use super::pull::fetch_missing;
use super::push::BASE_NAME;
use super::resolve::{PullPolicy, resolve_base};
use super::session::blocking;
use super::source::Sources;
use super::stream::Streams;
use super::transfer::fetch_blob;
use super::{Error, Kind, Session};

/// What to build, and what to do with the result.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The build context: a directory.
    pub context: PathBuf,
    /// Where the Dockerfile is.
    pub dockerfile: DockerfileSource,
    /// Names of the result.
    pub names: Vec<Reference>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--target`.
    pub target: Option<String>,
    /// `--platform`.
    pub platform: Platform,
    /// `--label`.
    pub labels: Vec<(String, String)>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--pull`.
    pub pull: PullPolicy,
    /// `--network`.
    pub network: Network,
    /// Whether the result is pushed to all names.
    pub push: bool,
}

/// Where a Dockerfile comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfileSource {
    /// `Dockerfile` in the context.
    Default,
    /// This file.
    File(PathBuf),
    /// This text, which came through standard input.
    Text(String),
}

/// What a build made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildReport {
    /// The image's manifest.
    pub manifest: Descriptor,
    /// The image's config, whose digest is the image id.
    pub config: Descriptor,
    /// The names that it has now.
    pub names: Vec<Reference>,
    /// What was published; `None` without a push.
    pub traffic: Option<Traffic>,
}

/// Builds, names and, when asked, publishes an image.
///
/// # Errors
///
/// The Dockerfile's faults with their place, a failed step with its output, whatever registry and
/// store say. A failed build moves no name, here or in a registry.
pub async fn build(
    session: &Session,
    request: BuildRequest,
    interrupt: &Interrupt,
) -> Result<BuildReport, Error> {
    if request.push && request.names.is_empty() {
        return Err(Error::new(Kind::User, "nothing to push to: the image has no name")
            .hint("name it with `-t registry/repository:tag`"));
    }
    let sources = {
        let request = request.clone();
        blocking(move || Sources::read(&request.context, &request.dockerfile)).await?
    };
    let sources = Arc::new(sources);
    let plan = plan(session, &request, &sources).await.map_err(|e| sources.explain(e))?;
    let plan = Arc::new(plan);
    let mut publishing = request.push.then(|| Publishing::start(session, &request.names, &plan));
    let job = Job { session, request: &request, sources: &sources, plan: &plan };
    let image = match job.execute_or_fail_to_publish(publishing.as_mut(), interrupt).await {
        Ok(image) => image,
        Err(error) => {
            // Uploads of a failed build have no further use. Sessions of layers that were still
            // growing are cancelled; what else was sent, the registry keeps until its own clean-up,
            // and no tag names it.
            if let Some(publishing) = publishing {
                publishing.abort().await;
            }
            return Err(error);
        }
    };
    tokio::select! {
        report = job.finish(image, publishing) => report,
        () = interrupt.requested.notified() => {
            Err(Error::new(Kind::Interrupted, "interrupted while publishing"))
        }
    }
}

/// Stops a build from outside: running commands are killed, uploads broken off, no tag moves.
#[derive(Debug, Default)]
pub struct Interrupt {
    engine: Arc<Cancel>,
    requested: tokio::sync::Notify,
}

impl Interrupt {
    /// Asks the build to stop. It cleans up and returns [`Kind::Interrupted`].
    pub fn request(&self) {
        self.engine.cancel();
        self.requested.notify_one();
    }
}

/// A planned build.
struct Job<'a> {
    session: &'a Session,
    request: &'a BuildRequest,
    sources: &'a Arc<Sources>,
    plan: &'a Arc<Plan>,
}

impl Job<'_> {
    /// Executes the plan. An upload that fails meanwhile, as with a wrong password, stops it: the
    /// image could not be published anyway, and what was built is in the cache.
    async fn execute_or_fail_to_publish(
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
        let context = Context {
            root: self.request.context.clone(),
            ignored: self.sources.ignored.clone(),
            ignore_file: self.sources.ignore_file.clone(),
        };
        let session = self.session.clone();
        let (sources, plan) = (Arc::clone(self.sources), Arc::clone(self.plan));
        let (no_cache, cancel) = (self.request.no_cache, Arc::clone(&interrupt.engine));
        blocking(move || {
            let engine = Engine {
                store: &session.store,
                sink: session.sink.as_ref(),
                bases: &bases,
                observer: &observer,
                context: Some(context),
                no_cache,
                worker: WorkerOptions::default(),
                cancel,
            };
            engine.execute(&plan).map_err(|error| sources.explain(PlanError::Build(error)))
        })
        .await
    }

    /// Keeps the image, completes what a local image needs, publishes the manifest, and names it.
    async fn finish(
        &self,
        image: Image,
        publishing: Option<Publishing>,
    ) -> Result<BuildReport, Error> {
        let base = self.plan.final_base().map(|base| base.reference.clone());
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

/// Reads, parses and plans; resolves the bases side by side.
async fn plan(
    session: &Session,
    request: &BuildRequest,
    sources: &Sources,
) -> Result<Plan, PlanError> {
    let dockerfile = dockerfile::parse(&sources.text)?;
    warn(session, &dockerfile, sources);
    let options = PlanOptions {
        build_args: request.build_args.clone(),
        target: request.target.clone(),
        platform: request.platform.clone(),
        build_platform: Platform::host(),
        labels: request.labels.clone(),
        network: request.network,
    };
    let outline = Outline::new(&dockerfile, &options)?;
    let bases = outline.images.iter().map(|image| async move {
        let base = resolve_base(session, image, request.pull).await;
        base.map_err(|error| {
            let error = error.at(sources.snippet(image.span));
            match &image.resembles {
                Some(stage) => error.hint(format!("did you mean the stage `{stage}`?")),
                None => error,
            }
        })
    });
    let bases = futures_util::future::try_join_all(bases).await?;
    Ok(Plan::new(&dockerfile, &options, &outline, bases)?)
}

/// What can go wrong before the first step.
#[derive(Debug)]
pub(super) enum PlanError {
    Dockerfile(dockerfile::Error),
    Build(build::Error),
    Operation(Error),
}

impl From<dockerfile::Error> for PlanError {
    fn from(error: dockerfile::Error) -> Self {
        Self::Dockerfile(error)
    }
}

impl From<build::Error> for PlanError {
    fn from(error: build::Error) -> Self {
        Self::Build(error)
    }
}

impl From<Error> for PlanError {
    fn from(error: Error) -> Self {
        Self::Operation(error)
    }
}

fn warn(session: &Session, dockerfile: &Dockerfile, sources: &Sources) {
    for warning in &dockerfile.warnings {
        let line = warning.span.position(&sources.text).line;
        let rule = warning.rule.name();
        session.warn(format!("{rule}: {} ({}:{line})", warning.message, sources.name));
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

/// Uploads under way. Dropping it breaks them off.
struct Publishing {
    /// `None` once there is nothing more to send.
    channels: Option<Channels>,
    task: JoinHandle<Result<Traffic, Error>>,
}

/// The ways from the engine to the uploads.
#[derive(Clone)]
struct Channels {
    /// For blobs that are complete.
    parcels: mpsc::UnboundedSender<Parcel>,
    /// For layers that are still growing.
    streams: Option<Arc<Streams>>,
}

impl Publishing {
    /// Starts to publish; the base's layers, which are known by now, at once.
    fn start(session: &Session, names: &[Reference], plan: &Plan) -> Self {
        let (parcels, receiver) = mpsc::unbounded_channel();
        let repositories: Vec<Repository> = repositories(names);
        let first = repositories.first().cloned();
        let streams = first.map(|first| Arc::new(Streams::new(session, first)));
        let task = tokio::spawn(publish_blobs(session.clone(), repositories, receiver));
        let publishing = Self { channels: Some(Channels { parcels, streams }), task };
        if let Some(base) = plan.final_base() {
            for layer in &base.layers {
                let origin = Some(base.reference.repository.clone());
                let descriptor = layer.with_oci_media_type().descriptor;
                publishing.send(Parcel::new(descriptor, origin));
            }
        }
        publishing
    }

    fn send(&self, parcel: Parcel) {
        if let Some(channels) = &self.channels {
            // The receiver is gone only when an upload has failed; `finish` then says why.
            let _ = channels.parcels.send(parcel);
        }
    }

    /// Ready when the uploads fail while more is to come; never ready otherwise.
    async fn failure(&mut self) -> Error {
        match (&mut self.task).await {
            Ok(Err(error)) => error,
            Err(error) => Error::new(Kind::Internal, "the uploads failed").because(error),
            Ok(Ok(_)) => std::future::pending().await,
        }
    }

    async fn finish(mut self) -> Result<Traffic, Error> {
        let streams = self.channels.take().and_then(|channels| channels.streams);
        let traffic = (&mut self.task)
            .await
            .map_err(|error| Error::new(Kind::Internal, "the uploads failed").because(error))
            .flatten();
        if let Some(streams) = streams {
            // Unless the uploads failed, nothing is under way but a layer that was there twice.
            streams.abandon().await;
        }
        traffic
    }

    async fn abort(mut self) {
        self.task.abort();
        if let Some(streams) = self.channels.take().and_then(|channels| channels.streams) {
            streams.abandon().await;
        }
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes layers on to the uploads.
struct Forward(Option<Channels>);

impl Observer for Forward {
    fn sealed(&self, layer: &Layer) {
        if let Some(Channels { parcels, streams }) = &self.0 {
            let descriptor = layer.descriptor.clone();
            let stream = streams.as_ref().and_then(|streams| streams.take(&descriptor.digest));
            // A receiver that is gone has failed; the end of the build reports it.
            let _ = parcels.send(Parcel { descriptor, origin: None, stream });
        }
    }

    fn begins(&self, step: &str, file: File) -> Option<Arc<dyn Growth>> {
        Some(self.0.as_ref()?.streams.as_ref()?.follow(step, file))
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
