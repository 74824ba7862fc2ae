//! What is kept of a step under its definition key.

use serde::{Deserialize, Serialize};

use crate::build::Error;
use crate::build::layer::Layer;
use crate::image::{ChainId, Digest};
use crate::store::Store;

use super::{Definition, VERSION, read, write};

/// What a step made, under its definition key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::build) struct StepRecord {
    version: u32,
    /// Where the key came from.
    pub(in crate::build) definition: Definition,
    /// The layers that it was made on. By definition, equal steps stand on equal ones; but what is
    /// below may have been made again since, with another result.
    pub(in crate::build) parent: Option<ChainId>,
    /// The layer.
    pub(in crate::build) layer: Layer,
    /// Where the step stands.
    pub(in crate::build) place: Place,
}

/// Where a step stands, and what is around it, in people's words.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::build) struct Place {
    /// The Dockerfile and its context.
    pub(in crate::build) project: String,
    /// The stage's name.
    pub(in crate::build) stage: String,
    /// The number of the step in the stage, from 0.
    pub(in crate::build) number: usize,
    /// The step's name, as in `[build 2/5] RUN make`.
    pub(in crate::build) name: String,
    /// The name of the step below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::build) below: Option<String>,
    /// The base image, where the step is the first on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::build) base: Option<BaseName>,
}

/// A base image by name and digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::build) struct BaseName {
    /// Its reference.
    pub(in crate::build) reference: String,
    /// The digest of its manifest.
    pub(in crate::build) manifest: Digest,
}

impl StepRecord {
    pub(in crate::build) fn new(
        definition: Definition,
        parent: Option<ChainId>,
        layer: Layer,
        place: Place,
    ) -> Self {
        Self { version: VERSION, definition, parent, layer, place }
    }

    /// Returns the record of the definition key `key`.
    pub(in crate::build) fn read(store: &Store, key: &Digest) -> Result<Option<Self>, Error> {
        let record: Option<Self> = read(store, key)?;
        Ok(record.filter(|record| record.version == VERSION))
    }

    /// Returns the record of `key`, which does not count as a use of it.
    pub(in crate::build) fn read_unused(
        store: &Store,
        key: &Digest,
    ) -> Result<Option<Self>, Error> {
        let bytes = store.cache_record_unused(key)?.unwrap_or_default();
        let record: Option<Self> = serde_json::from_slice(&bytes).ok();
        Ok(record.filter(|record| record.version == VERSION))
    }

    /// Keeps the record, and that there is one for some inputs.
    pub(in crate::build) fn write(&self, store: &Store) -> Result<(), Error> {
        if !self.definition.inputs.is_empty() {
            let marker = self.definition.key_without_inputs();
            if store.cache_record(&marker)?.is_none() {
                store.put_cache_record(&marker, b"{}")?;
            }
        }
        write(store, &self.definition.key(), self)
    }
}
