//! Carries a plan out.
//!
//! Every stage has a thread of its own, which begins when the stage is needed and waits for the stages
//! that it starts from or copies from; how many steps run at once is bounded. A stage is needed when a
//! step that reads it is not in the cache by its definition. For each step, in order: look its keys
//! up, and take the recorded layer, or do the work and record it. A layer of the final image is
//! handed to the [`Observer`] the moment it is sealed, so that it can be uploaded while later steps
//! run; what `COPY` takes from the context can be followed while it is being sealed. Base layers are fetched and unpacked only when a step needs their files.

mod caches;
mod content;
mod copy;
mod directory;
mod explain;
mod growth;
mod keys;
mod missing;
mod run;
mod shape;
mod snapshots;
mod stack;
mod stages;
mod steps;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::Value;

use crate::event::Sink;
use crate::image::{DiffId, Digest, Platform};
use crate::layer::{Compression, LayerTar, LayerWriter, PathIndex, SealedLayer, StatCache};
use crate::sandbox::{self, Worker, WorkerOptions};
use crate::store::Store;

use super::Error;
use super::assemble::{Image, Parts};
use super::cache::{self, Preimage};
use super::context::Context;
use super::form::Form;
use super::layer::Layer;
use super::plan::{Base, Plan, Remote, Stage, Step};
use super::provisions::Provisions;
use super::slots::Slots;
use explain::History;
use growth::LayerFile;
use keys::Keys;
use stack::Stack;
use stages::Schedule;
use steps::Flights;

pub use caches::{CacheEntry, Caches, NoCaches};
pub use explain::Explain;
pub use growth::Growth;
pub use run::Shells;

/// Gets the layers of base images that the store lacks.
pub trait Bases: Send + Sync {
    /// Brings `layer` of `base` into the store. While it arrives, its bytes are also written to
    /// `copy`, so that unpacking need not wait for the end. Blocks.
    ///
    /// # Errors
    ///
    /// Whatever getting it gives; the store then has nothing of it.
    fn fetch(
        &self,
        base: &Base,
        layer: &Layer,
        copy: File,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// Gets what `ADD` names by URL.
pub trait Remotes: Send + Sync {
    /// Brings `remote` to a directory of this machine. Blocks.
    ///
    /// # Errors
    ///
    /// Whatever getting it gives, and content that is not what its checksum says.
    fn fetch(&self, remote: &Remote) -> Result<Fetched, Box<dyn std::error::Error + Send + Sync>>;
}

/// Something that was got from elsewhere, as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The directory that it is in: for a file, alone there; for a repository, its files.
    pub root: PathBuf,
    /// The file's name in there; `None` for a repository.
    pub file: Option<String>,
    /// What it is, for the cache's key: the content's digest, the commit.
    pub identity: String,
}

/// What a stage came to, for who keeps it elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageResult {
    /// Its position in the plan.
    pub position: usize,
    /// Whether its layers are in an image.
    pub is_final: bool,
    /// The keys of its steps, in order: of each on everything below it.
    pub keys: Vec<Digest>,
    /// All layers that are not the base's, the lowest first.
    pub made: Vec<Layer>,
    /// How many of them are those of the stages below.
    pub below: usize,
}

/// Is told of the final image's layers as they come into being.
pub trait Observer: Send + Sync {
    /// Takes note of a layer of the final image, whose blob is in the store. Must not block.
    fn sealed(&self, layer: &Layer);

    /// Is told that the step called `step` begins to write a layer of the final image to `file`,
    /// from its beginning. Returns who follows it, `None` when nobody wants to. Must not block, and
    /// must only read `file`, by position. Not every layer is announced.
    fn begins(&self, step: &str, file: File) -> Option<Arc<dyn Growth>>;

    /// Returns whether [`Observer::stage_finished`] is of interest.
    fn wants_results(&self) -> bool {
        false
    }

    /// Takes note of what a stage came to. Must not block.
    fn stage_finished(&self, _result: StageResult) {}
}

/// What a build needs beside its plan.
pub struct Engine<'a> {
    /// Where layers, snapshots and records are kept.
    pub store: &'a Store,
    /// Where progress goes.
    pub sink: &'a dyn Sink,
    /// Where missing base layers come from.
    pub bases: &'a dyn Bases,
    /// Who wants to know of sealed layers.
    pub observer: &'a dyn Observer,
    /// Where files that `ADD` names by URL come from.
    pub remotes: &'a dyn Remotes,
    /// The build contexts, in the order of [`Plan::contexts`].
    pub contexts: Vec<Context>,
    /// Where results of other machines are looked up.
    pub caches: &'a dyn Caches,
    /// Whether misses are explained.
    pub explain: Explain,
    /// What the project is called in cache records: the Dockerfile and its context.
    pub project: String,
    /// The form of the images, and of the layers that the observer is told of.
    pub form: &'a Form,
    /// What the user gives to `RUN` steps.
    pub provisions: Provisions,
    /// Who opens a shell where a step fails, if that is wanted.
    pub shells: Option<&'a dyn Shells>,
    /// How the worker is started.
    pub worker: WorkerOptions,
    /// Set from outside to stop the build.
    pub cancel: Arc<Cancel>,
}

/// Stops a build from another thread.
#[derive(Debug, Default)]
pub struct Cancel {
    requested: AtomicBool,
    worker: OnceLock<Arc<Worker>>,
}

impl Cancel {
    /// Kills running commands and lets no further step begin.
    pub fn cancel(&self) {
        self.requested.store(true, Ordering::SeqCst);
        if let Some(worker) = self.worker.get() {
            worker.cancel_all();
        }
    }

    /// Returns whether the build shall stop.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }
}

/// A build under way.
struct Build<'a> {
    engine: &'a Engine<'a>,
    plan: &'a Plan,
    /// The stages whose layers are in an image.
    final_stages: BTreeSet<usize>,
    schedule: Schedule,
    keys: Keys,
    flights: Flights,
    history: Option<History>,
    slots: Slots,
    starting: Mutex<()>,
    indexes: Mutex<HashMap<DiffId, Arc<PathIndex>>>,
    unpacking: Mutex<HashMap<DiffId, Arc<Mutex<()>>>>,
    stat_cache: OnceLock<StatCache>,
    /// Whether a shell was opened after a failure.
    has_shell: AtomicBool,
}

impl Engine<'_> {
    /// Executes `plan` and returns the targets' images, in their order. Blocks.
    ///
    /// # Errors
    ///
    /// The first error of a step; steps that run beside it are stopped. What was sealed before stays
    /// in the store and in the cache.
    pub fn execute(&self, plan: &Plan) -> Result<Vec<Image>, Error> {
        self.provisions.check(plan)?;
        let slots = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        let build = Build {
            engine: self,
            plan,
            final_stages: plan.targets.iter().flat_map(|target| plan.chain(*target)).collect(),
            schedule: Schedule::new(plan),
            keys: Keys::new(plan),
            flights: Flights::default(),
            history: match self.explain {
                Explain::Nothing => None,
                Explain::Misses => Some(History::read(self.store)?),
            },
            slots: Slots::new(slots),
            starting: Mutex::new(()),
            indexes: Mutex::default(),
            unpacking: Mutex::default(),
            stat_cache: OnceLock::new(),
            has_shell: AtomicBool::new(false),
        };
        build.renew_caches()?;
        build.run_stages()?;
        build.save_stat_cache()?;
        plan.targets.iter().map(|target| build.image(*target)).collect()
    }
}

impl Build<'_> {
    /// Assembles the image of the finished stage at `target`.
    fn image(&self, target: usize) -> Result<Image, Error> {
        let layers = self.layers_of(target).ok_or(Error::Canceled)?;
        let chain = self.plan.chain(target);
        let histories = chain.iter().flat_map(|stage| &self.plan.stages[*stage].history);
        let items = histories.cloned().collect();
        let parts = Parts { config: self.plan.stages[target].config.clone(), items, layers };
        self.engine.shape(self.plan, parts, self.engine.form)
    }

    /// Returns the layer recorded for `preimage`, unless the cache shall not be used or the layer is
    /// nowhere to be had.
    fn cached(&self, stage: &Stage, preimage: &Preimage) -> Result<Option<Layer>, Error> {
        if !stage.uses_cache {
            return Ok(None);
        }
        let layer = cache::look_up(self.engine.store, preimage)?;
        Ok(layer.filter(|layer| self.is_available(layer)))
    }

    fn preimage(
        definition: Value,
        layers: &Stack,
        platform: &Platform,
        inputs: Vec<Digest>,
    ) -> Preimage {
        Preimage::new(definition, layers.chain(), platform.clone(), inputs)
    }

    /// Returns whether the stage's layers are, just as they are made, in a final image.
    fn is_final(&self, stage: &Stage) -> bool {
        let is_it = |at: &usize| std::ptr::eq(&raw const self.plan.stages[*at], stage);
        self.engine.form.keeps_new() && self.final_stages.iter().any(is_it)
    }

    /// Makes a layer by letting `fill` write its tar, and keeps blob and path index in the store.
    /// The observer may follow what `followed` writes.
    fn seal(
        &self,
        followed: Option<&Step>,
        fill: impl FnOnce(&mut LayerTar<LayerWriter<LayerFile>>) -> Result<(), Error>,
    ) -> Result<Layer, Error> {
        let ingest = self.engine.store.ingest_file()?;
        let open = || {
            let file = ingest.file().try_clone();
            file.map_err(|source| Error::Io { what: "open the layer's temporary file", source })
        };
        let growth = match followed {
            Some(step) => self.engine.observer.begins(&step.name, open()?),
            None => None,
        };
        let output = LayerFile::new(open()?, growth.clone());
        let mut tar = LayerTar::new(LayerWriter::new(output, Compression::default()));
        fill(&mut tar)?;
        let (writer, index) = tar.finish()?;
        let sealed =
            writer.finish().map_err(|source| Error::Io { what: "write the layer", source })?;
        let layer = layer_of(&sealed);
        if let Some(growth) = growth {
            // Before the blob is synced: the rest of it can be sent meanwhile.
            growth.sealed(&layer.descriptor);
        }
        self.engine.store.adopt(ingest, &sealed.digest, sealed.size)?;
        index.save(&self.engine.store.paths_index_path(&sealed.diff_id))?;
        Ok(layer)
    }

    /// Keeps the blob of a layer that the worker makes and writes to the file it is given.
    fn keep_sealed(
        &self,
        make: impl FnOnce(OwnedFd) -> Result<SealedLayer, sandbox::Error>,
    ) -> Result<Layer, Error> {
        let ingest = self.engine.store.ingest_file()?;
        let output = ingest
            .file()
            .try_clone()
            .map_err(|source| Error::Io { what: "open the layer's temporary file", source })?;
        let sealed = make(output.into())?;
        self.engine.store.adopt(ingest, &sealed.digest, sealed.size)?;
        Ok(layer_of(&sealed))
    }

    /// Returns the worker, which is started when it is first needed.
    fn worker(&self) -> Result<&Arc<Worker>, Error> {
        let slot = &self.engine.cancel.worker;
        let _guard = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = slot.get() {
            return Ok(worker);
        }
        let worker = Arc::new(Worker::start(&self.engine.worker)?);
        Ok(slot.get_or_init(|| worker))
    }

    fn stat_cache(&self) -> &StatCache {
        self.stat_cache.get_or_init(|| StatCache::load(&self.stat_cache_path()))
    }

    fn save_stat_cache(&self) -> Result<(), Error> {
        let Some(cache) = self.stat_cache.get() else { return Ok(()) };
        let path = self.stat_cache_path();
        if let Some(directory) = path.parent() {
            fs_err::create_dir_all(directory)
                .map_err(|source| Error::Io { what: "make the stat cache's directory", source })?;
        }
        Ok(cache.save(&path)?)
    }

    /// One file a context: a build reads and writes only what concerns it.
    fn stat_cache_path(&self) -> PathBuf {
        let root = self.engine.contexts.first().map_or(PathBuf::new(), |c| c.root.clone());
        let name = Digest::of(root.as_os_str().as_encoded_bytes());
        self.engine.store.root().join("cache").join("stat").join(name.hex())
    }
}

/// Returns the layer that was sealed just now.
fn layer_of(sealed: &SealedLayer) -> Layer {
    Layer {
        descriptor: crate::image::Descriptor::new(
            sealed.media_type.clone(),
            sealed.digest.clone(),
            sealed.size,
        ),
        diff_id: sealed.diff_id.clone(),
        created: Some(now()),
    }
}

/// Returns the present time as config and history have it (RFC 3339).
fn now() -> String {
    jiff::Timestamp::now().to_string()
}
