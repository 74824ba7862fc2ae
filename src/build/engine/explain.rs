//! `--explain`: why a step was not in the cache.

use crate::build::Error;
use crate::build::cache::{self, Cause, Current, Place, StepRecord, difference, nearest};
use crate::build::layer::Layer;
use crate::event::Event;
use crate::image::Digest;
use crate::layer::ListedFile;
use crate::store::Store;

use super::keys::StepKeys;
use super::{Build, Stack};

/// Whether misses are explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Explain {
    /// They are not.
    #[default]
    Nothing,
    /// By an event each.
    Misses,
}

/// What was recorded before this build.
pub(super) struct History(Vec<StepRecord>);

impl History {
    /// Reads all records, in the order of their last use.
    pub(super) fn read(store: &Store) -> Result<Self, Error> {
        let mut records = Vec::new();
        for key in store.cache_keys()? {
            let Some((used, _)) = store.cache_record_use(&key)? else { continue };
            if let Some(record) = StepRecord::read_unused(store, &key)? {
                records.push((used, record));
            }
        }
        records.sort_by_key(|(used, _)| *used);
        Ok(Self(records.into_iter().map(|(_, record)| record).collect()))
    }
}

impl Build<'_> {
    /// Tells why a step is not taken from the cache, if somebody wants to know.
    pub(super) fn explain_miss(
        &self,
        position: usize,
        number: usize,
        layers: &Stack,
        lost: Option<&Layer>,
    ) {
        let Some(history) = &self.history else { return };
        let keys = match self.keys_after(position, number) {
            Ok(keys) => keys,
            Err(error) => {
                tracing::debug!(%error, "a miss is not explained");
                None
            }
        };
        let Some(keys) = keys else { return };
        let place = self.place(position, number);
        let cause = self.cause(position, history, &keys, &place, layers, lost);
        self.engine.sink.emit(Event::StepMissed {
            step: self.plan.stages[position].steps[number].id,
            kind: cause.kind.to_owned(),
            reason: cause.text,
        });
    }

    /// Returns the layer that is recorded for a step and is nowhere to be had, as it is before the step
    /// is done again.
    pub(super) fn lost_layer(
        &self,
        position: usize,
        number: usize,
    ) -> Result<Option<Layer>, Error> {
        if self.history.is_none() {
            return Ok(None);
        }
        let record = self.step_record(position, number)?;
        Ok(record.map(|record| record.layer).filter(|layer| !self.is_available(layer)))
    }

    fn cause(
        &self,
        position: usize,
        history: &History,
        keys: &StepKeys,
        place: &Place,
        layers: &Stack,
        lost: Option<&Layer>,
    ) -> Cause {
        let stage = &self.plan.stages[position];
        if !stage.uses_cache {
            return Cause::new("unused", "the cache is not used");
        }
        let now = Current { definition: &keys.definition, place };
        let Some(then) = nearest(now, &history.0) else {
            return Cause::new("new", "no earlier record");
        };
        let listing = |content: &Digest| self.listing(content);
        if let Some(cause) = difference(now, then, &listing) {
            return cause;
        }
        let is_linked = cache::is_linked(&stage.steps[place.number].work);
        if !is_linked && then.parent != layers.chain() {
            let below = match (&place.below, &place.base) {
                (Some(below), _) => format!("`{below}`"),
                (None, Some(base)) => format!("the base image `{}`", base.reference),
                (None, None) => "what is below".to_owned(),
            };
            return Cause::new("parent", format!("{below} was made again with another result"));
        }
        if lost == Some(&then.layer) {
            let text = "the layer of its record is no longer in the store";
            return Cause::new("lost", text);
        }
        let renewed = keys.definition.inputs.iter().find(|input| input.name.starts_with("stage "));
        match renewed {
            Some(input) => {
                Cause::new("stage", format!("{} was made again with other files", input.name))
            }
            None => Cause::new("new", "no earlier record"),
        }
    }

    /// Returns the files that a content digest stands for, if a listing was kept.
    fn listing(&self, content: &Digest) -> Option<Vec<ListedFile>> {
        let bytes = self.engine.store.cache_listing(content).ok()??;
        let text = zstd::bulk::decompress(&bytes, LARGEST_LISTING).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Keeps the files that a content digest stands for, so that a later miss can name them.
    pub(super) fn keep_listing(
        &self,
        content: &Digest,
        files: impl FnOnce() -> Vec<ListedFile>,
    ) -> Result<(), Error> {
        let store = self.engine.store;
        if store.has_cache_listing(content) {
            return Ok(());
        }
        let text = serde_json::to_vec(&files()).expect("listings serialise to JSON");
        if text.len() > LARGEST_LISTING {
            return Ok(());
        }
        let compressed = zstd::bulk::compress(&text, 1)
            .map_err(|source| Error::Io { what: "compress a listing of files", source })?;
        Ok(store.put_cache_listing(content, &compressed)?)
    }
}

/// The largest listing that is kept, uncompressed: some half a million files.
const LARGEST_LISTING: usize = 128 << 20;
