//! Definition keys: of every step before it runs, as far as they can be known cheaply.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use crate::build::Error;
use crate::build::cache::{self, Below, Definition, Input, Reads, StepRecord};
use crate::build::layer::Layer;
use crate::build::plan::{
    ContextName, CopySource, Origin, Plan, Remote, Stage, StartingPoint, Step,
};
use crate::image::Digest;
use crate::layer::{CopyRequest, Selection};

use super::content::{mount_request, select_in};
use super::stack::chain_of;
use super::{Build, Stack};

/// The keys of a plan's steps, as far as they are known.
pub(super) struct Keys {
    stages: Vec<Mutex<Vec<Arc<StepKeys>>>>,
    /// The content digests of selections, by context and request.
    contents: Mutex<HashMap<Digest, Digest>>,
    /// What URLs name.
    remotes: Mutex<HashMap<Remote, Digest>>,
    /// Which stages are done anew, or stand on or take files from one that is.
    renewed: Vec<bool>,
}

/// The keys of a step.
#[derive(Debug, PartialEq)]
pub(super) struct StepKeys {
    /// Where they come from.
    pub(super) definition: Definition,
    /// The key of its record.
    pub(super) own: Digest,
    /// The key of it on everything below: what the next step stands on.
    pub(super) chain: Digest,
}

/// Whether content is read for the sake of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hashing {
    /// Only where something is recorded that may have that key.
    IfRecorded,
    Always,
}

/// What was found elsewhere for a stage.
pub(super) struct Found {
    /// All layers, those of the base first.
    pub(super) layers: Vec<Layer>,
    /// How many of them are the base's.
    base: usize,
    /// How many of the stage's steps they are the result of.
    pub(super) steps: usize,
}

impl Found {
    /// Returns the layers that are not the base's.
    pub(super) fn made(&self) -> &[Layer] {
        &self.layers[self.base..]
    }
}

impl Keys {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut renewed: Vec<bool> = Vec::with_capacity(plan.stages.len());
        for stage in &plan.stages {
            let below = matches!(stage.base, StartingPoint::Stage(at) if renewed[at]);
            let is_renewed = !stage.uses_cache
                || below
                || stage.steps.iter().any(|step| reads_renewed(step, &renewed));
            renewed.push(is_renewed);
        }
        let stages = plan.stages.iter().map(|_| Mutex::default()).collect();
        Self { stages, contents: Mutex::default(), remotes: Mutex::default(), renewed }
    }
}

/// Returns whether a step reads a stage that is done anew.
fn reads_renewed(step: &Step, renewed: &[bool]) -> bool {
    let reads = cache::reads(&step.work);
    let is_renewed = |origin| matches!(origin, Some(Origin::Stage(at)) if renewed[at]);
    reads.iter().any(|read| is_renewed(read.origin()))
}

impl Build<'_> {
    /// Returns the layer recorded under the step's definition key, when it was made on `layers` and
    /// can be had. Needs none of the stages that the step reads.
    pub(super) fn by_definition(
        &self,
        position: usize,
        number: usize,
        layers: &Stack,
    ) -> Result<Option<Layer>, Error> {
        let Some(record) = self.step_record(position, number)? else { return Ok(None) };
        let step = &self.plan.stages[position].steps[number];
        let fits = cache::is_linked(&step.work) || record.parent == layers.chain();
        Ok((fits && self.is_available(&record.layer)).then_some(record.layer))
    }

    /// Returns the record under the step's definition key, if there is one that may be used.
    pub(super) fn step_record(
        &self,
        position: usize,
        number: usize,
    ) -> Result<Option<StepRecord>, Error> {
        let stage = &self.plan.stages[position];
        let step = &stage.steps[number];
        if !stage.uses_cache || reads_renewed(step, &self.keys.renewed) {
            return Ok(None);
        }
        let Some(keys) = self.keys_before(position, number) else { return Ok(None) };
        StepRecord::read(self.engine.store, &keys.own)
    }

    /// Returns whether the layer is in the store or can be brought there.
    pub(super) fn is_available(&self, layer: &Layer) -> bool {
        let digest = &layer.descriptor.digest;
        let is_of = |layers: &[Layer]| layers.iter().any(|l| l.descriptor.digest == *digest);
        self.engine.store.has_blob(digest)
            || self.engine.caches.holds(digest)
            || self.plan.bases.iter().any(|base| is_of(&base.layers))
    }

    /// Lets the stages begin that steps from number `done` on will read.
    pub(super) fn need_sources(&self, position: usize, done: usize) -> Result<(), Error> {
        for (number, step) in self.plan.stages[position].steps.iter().enumerate().skip(done) {
            let reads = cache::reads(&step.work);
            let sources = reads.iter().filter_map(|read| match read.origin() {
                Some(Origin::Stage(source)) => Some(source),
                Some(Origin::Context(_) | Origin::Image(_)) | None => None,
            });
            let sources: Vec<usize> = sources.collect();
            if sources.is_empty() {
                continue;
            }
            let record = self.step_record(position, number)?;
            if record.is_none_or(|record| !self.is_available(&record.layer)) {
                for source in sources {
                    self.need(source);
                }
            }
        }
        Ok(())
    }

    /// Asks other machines' caches for the deepest step of the stage that they know, if that is
    /// deeper than what is known here.
    pub(super) fn find_elsewhere(&self, position: usize) -> Result<Option<Found>, Error> {
        let caches = self.engine.caches;
        let stage = &self.plan.stages[position];
        let is_below_renewed =
            matches!(stage.base, StartingPoint::Stage(below) if self.keys.renewed[below]);
        if caches.is_empty() || !stage.uses_cache || is_below_renewed {
            return Ok(None);
        }
        let usable =
            stage.steps.iter().take_while(|step| !reads_renewed(step, &self.keys.renewed)).count();
        let mut keys: Vec<Arc<StepKeys>> = Vec::with_capacity(usable);
        for number in 0..usable {
            match self.keys(position, number, Hashing::Always) {
                Ok(Some(step)) => keys.push(step),
                // The step itself will say what is wrong with its sources.
                Ok(None) | Err(_) => break,
            }
        }
        let mut here = 0;
        while here < keys.len() {
            let record = StepRecord::read(self.engine.store, &keys[here].own)?;
            if !record.is_some_and(|record| self.is_available(&record.layer)) {
                break;
            }
            here += 1;
        }
        let chain: Vec<Digest> = keys[here..].iter().map(|keys| keys.chain.clone()).collect();
        if chain.is_empty() {
            return Ok(None);
        }
        let Some((at, entry)) = caches.deepest(&chain) else { return Ok(None) };
        let steps = here + at + 1;
        let below: usize = self
            .plan
            .chain(position)
            .iter()
            .rev()
            .skip(1)
            .map(|stage| self.plan.stages[*stage].steps.len())
            .sum();
        if entry.layers.len() != below + steps {
            let (found, expected) = (entry.layers.len(), below + steps);
            let text = format!(
                "a cache entry for `{}` is not used: it has {found} layers instead of {expected}",
                stage.steps[steps - 1].name
            );
            self.engine.sink.emit(crate::event::Event::Warning { text });
            return Ok(None);
        }
        let base = self.plan.base_of(position).map_or_else(Vec::new, |base| base.layers.clone());
        let bottom = base.len();
        let layers: Vec<Layer> = base.into_iter().chain(entry.layers).collect();
        let found = Found { layers, base: bottom, steps };
        self.record_found(position, &keys, &found)?;
        Ok(Some(found))
    }

    /// Records here what was found elsewhere.
    fn record_found(
        &self,
        position: usize,
        keys: &[Arc<StepKeys>],
        found: &Found,
    ) -> Result<(), Error> {
        let below = found.layers.len() - found.steps;
        let mut layers = Stack::from(found.layers[..below].to_vec());
        for (number, keys) in keys.iter().enumerate().take(found.steps) {
            let layer = &found.layers[below + number];
            let (definition, place) = (keys.definition.clone(), self.place(position, number));
            let record = StepRecord::new(definition, layers.chain(), layer.clone(), place);
            record.write(self.engine.store)?;
            layers.push(layer.clone());
        }
        Ok(())
    }

    /// Returns a key that equal steps of this run share.
    pub(super) fn flight_key(
        &self,
        position: usize,
        number: usize,
        step: &Step,
        layers: &Stack,
    ) -> Digest {
        if let Some(keys) = self.keys_before(position, number) {
            return keys.own.clone();
        }
        let platform = &self.plan.stages[position].platform;
        let reads = cache::reads(&step.work);
        let origins: Vec<String> = reads.iter().map(|read| format!("{read:?}")).collect();
        let value = json!([cache::work_of(&step.work), platform, layers.chain(), origins]);
        Digest::of(value.to_string().as_bytes())
    }

    /// Returns the step's keys when they can be known without reading content in vain.
    pub(super) fn keys_before(&self, position: usize, number: usize) -> Option<Arc<StepKeys>> {
        match self.keys(position, number, Hashing::IfRecorded) {
            Ok(keys) => keys,
            Err(error) => {
                // The step reads the same, and its error has its place.
                tracing::debug!(%error, "no definition key");
                None
            }
        }
    }

    /// Returns the keys of a step that was done.
    pub(super) fn keys_after(
        &self,
        position: usize,
        number: usize,
    ) -> Result<Option<Arc<StepKeys>>, Error> {
        self.keys(position, number, Hashing::Always)
    }

    fn keys(
        &self,
        position: usize,
        number: usize,
        hashing: Hashing,
    ) -> Result<Option<Arc<StepKeys>>, Error> {
        let stage = &self.plan.stages[position];
        let mut known = lock(&self.keys.stages[position]);
        while known.len() <= number {
            let below = match known.last() {
                Some(last) => Below::Step(last.chain.clone()),
                None => match self.below(stage, hashing)? {
                    Some(below) => below,
                    None => return Ok(None),
                },
            };
            match self.step_keys(stage, &stage.steps[known.len()], &below, hashing)? {
                Some(keys) => known.push(Arc::new(keys)),
                None => return Ok(None),
            }
        }
        Ok(Some(Arc::clone(&known[number])))
    }

    /// Returns what the first step of a stage stands on.
    fn below(&self, stage: &Stage, hashing: Hashing) -> Result<Option<Below>, Error> {
        Ok(match stage.base {
            StartingPoint::Scratch => Some(Below::Scratch),
            StartingPoint::Image(image) => {
                Some(Below::Image(chain_of(&self.plan.bases[image].layers)))
            }
            StartingPoint::Stage(below) => self.stage_key(below, hashing)?.map(Below::Step),
        })
    }

    /// Returns the key of a whole stage.
    fn stage_key(&self, position: usize, hashing: Hashing) -> Result<Option<Digest>, Error> {
        let stage = &self.plan.stages[position];
        match stage.steps.len().checked_sub(1) {
            Some(last) => Ok(self.keys(position, last, hashing)?.map(|keys| keys.chain.clone())),
            None => Ok(self.below(stage, hashing)?.map(|below| below.key())),
        }
    }

    fn step_keys(
        &self,
        stage: &Stage,
        step: &Step,
        below: &Below,
        hashing: Hashing,
    ) -> Result<Option<StepKeys>, Error> {
        let (work, platform) = (cache::work_of(&step.work), stage.platform.clone());
        let own_below = if cache::is_linked(&step.work) { Below::Anything } else { below.clone() };
        let mut definition = Definition::new(work, platform, own_below, Vec::new());
        let reads = cache::reads(&step.work);
        if hashing == Hashing::IfRecorded && reads.iter().any(is_content) {
            let marker = definition.key_without_inputs();
            let is_known = reads.iter().all(|read| !is_content(read) || self.is_noted(read));
            if !is_known && self.engine.store.cache_record(&marker)?.is_none() {
                return Ok(None);
            }
        }
        for read in &reads {
            let Some(input) = self.input(read, hashing)? else { return Ok(None) };
            definition.inputs.push(input);
        }
        let own = definition.key();
        let chain = definition.chain_key(&own, below);
        Ok(Some(StepKeys { definition, own, chain }))
    }

    fn input(&self, read: &Reads<'_>, hashing: Hashing) -> Result<Option<Input>, Error> {
        let (name, digest) = match (read, read.origin()) {
            (Reads::Remote(remote), _) => (remote_name(remote), self.remote_digest(remote)?),
            (_, Some(Origin::Stage(source))) => {
                let Some(key) = self.stage_key(source, hashing)? else { return Ok(None) };
                (format!("stage `{}`", self.plan.stages[source].name), key)
            }
            (_, Some(Origin::Image(image))) => {
                let base = &self.plan.bases[image];
                let key = Below::Image(chain_of(&base.layers)).key();
                (format!("image `{}`", base.reference.familiar()), key)
            }
            (read, Some(Origin::Context(context))) => {
                let Some(request) = self.context_request(read)? else { return Ok(None) };
                let name = match self.plan.contexts.get(context) {
                    Some(ContextName::Named(name)) => format!("build context `{name}`"),
                    Some(ContextName::Main) | None => "the build context".to_owned(),
                };
                (name, self.context_digest(context, &request)?)
            }
            (Reads::Copied(_) | Reads::Mounted { .. }, None) => return Ok(None),
        };
        Ok(Some(Input { name, digest }))
    }

    /// Returns the request that selects what `read` means in a context.
    fn context_request(&self, read: &Reads<'_>) -> Result<Option<CopyRequest>, Error> {
        match read {
            Reads::Copied(copy) => self.request(copy).map(Some),
            Reads::Mounted { path, .. } => Ok(Some(mount_request(path, false))),
            Reads::Remote(_) => Ok(None),
        }
    }

    /// Returns whether the content that `read` means is known already.
    fn is_noted(&self, read: &Reads<'_>) -> bool {
        match (read, read.origin()) {
            (Reads::Remote(remote), _) => lock(&self.keys.remotes).contains_key(*remote),
            (Reads::Copied(copy), _) if copy.sources.iter().any(is_remote) => false,
            (read, Some(Origin::Context(context))) => {
                let request = self.context_request(read).ok().flatten();
                let key = request.map(|request| note_key(context, &request));
                key.is_some_and(|key| lock(&self.keys.contents).contains_key(&key))
            }
            (_, Some(Origin::Stage(_) | Origin::Image(_)) | None) => true,
        }
    }

    fn remote_digest(&self, remote: &Remote) -> Result<Digest, Error> {
        if let Remote::Http { checksum: Some(checksum), .. } = remote {
            return Ok(checksum.clone());
        }
        if let Some(digest) = lock(&self.keys.remotes).get(remote) {
            return Ok(digest.clone());
        }
        let fetched = self.engine.remotes.fetch(remote);
        let fetched = fetched.map_err(|source| Error::Remote { source })?;
        let digest = Digest::of(fetched.identity.as_bytes());
        lock(&self.keys.remotes).insert(remote.clone(), digest.clone());
        Ok(digest)
    }

    /// Returns the content digest of what `request`, without an owner, selects in a context.
    pub(super) fn context_digest(
        &self,
        position: usize,
        request: &CopyRequest,
    ) -> Result<Digest, Error> {
        if let Some(digest) = lock(&self.keys.contents).get(&note_key(position, request)) {
            return Ok(digest.clone());
        }
        let selection = select_in(self.engine.contexts.get(position), request)?;
        self.content_digest(position, request, &selection)
    }

    /// Returns the content digest of `selection`, which `request` selects in a context.
    pub(super) fn content_digest(
        &self,
        position: usize,
        request: &CopyRequest,
        selection: &Selection,
    ) -> Result<Digest, Error> {
        let key = note_key(position, request);
        if let Some(digest) = lock(&self.keys.contents).get(&key) {
            return Ok(digest.clone());
        }
        let fingerprint = selection.fingerprint(self.stat_cache())?;
        let digest = fingerprint.digest().clone();
        self.keep_listing(&digest, || fingerprint.listing())?;
        lock(&self.keys.contents).insert(key, digest.clone());
        Ok(digest)
    }
}

fn is_remote(source: &CopySource) -> bool {
    matches!(source, CopySource::Remote(_))
}

fn is_content(read: &Reads<'_>) -> bool {
    matches!(read, Reads::Remote(_)) || matches!(read.origin(), Some(Origin::Context(_)))
}

fn note_key(position: usize, request: &CopyRequest) -> Digest {
    // The owner plays no part in what is selected, and is not known before there is a file system.
    let request = CopyRequest { owner: None, ..request.clone() };
    Digest::of(json!([position, request]).to_string().as_bytes())
}

fn remote_name(remote: &Remote) -> String {
    match remote {
        Remote::Http { url, .. } | Remote::Git { url, .. } => url.clone(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
