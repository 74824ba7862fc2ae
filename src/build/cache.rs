//! Keys and records of the build cache.
//!
//! A step's key is the digest of its *preimage*: its definition (what the instruction does, with
//! every variable expanded), the chainID of the layers below it, the platform, and the digests of
//! the content it reads. Because the parent counts by content, a step above one that was redone
//! with the same result is not redone. The record keeps the preimage beside the layer, so that a
//! later miss can be explained.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::image::{ChainId, Digest, Platform};
use crate::store::Store;

use super::Error;
use super::layer::Layer;

/// Version of keys and records. A change of what a step's layer looks like raises it, so that
/// older results are not taken for newer ones.
const VERSION: u32 = 1;

/// Everything that a step's result depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preimage {
    version: u32,
    /// What the step does.
    pub definition: Value,
    /// The layers below it.
    pub parent: Option<ChainId>,
    /// What it is built for.
    pub platform: Platform,
    /// The content it reads.
    pub inputs: Vec<Digest>,
}

/// What a step made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// Where the key came from.
    pub preimage: Preimage,
    /// The layer.
    pub layer: Layer,
}

impl Preimage {
    /// Returns the preimage of a step.
    #[must_use]
    pub fn new(
        definition: Value,
        parent: Option<ChainId>,
        platform: Platform,
        inputs: Vec<Digest>,
    ) -> Self {
        Self { version: VERSION, definition, parent, platform, inputs }
    }

    /// Returns the key.
    ///
    /// # Panics
    ///
    /// Never: the preimage holds nothing that JSON cannot express.
    #[must_use]
    pub fn key(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("preimages serialise to JSON"))
    }
}

/// Returns the layer recorded for `preimage` when its blob is still in the store.
///
/// A record that cannot be read counts as a miss: the step is simply done again.
pub(super) fn look_up(store: &Store, preimage: &Preimage) -> Result<Option<Layer>, Error> {
    let Some(bytes) = store.cache_record(&preimage.key())? else { return Ok(None) };
    let Ok(record) = serde_json::from_slice::<Record>(&bytes) else {
        tracing::debug!(key = %preimage.key(), "unreadable cache record");
        return Ok(None);
    };
    let usable = record.version == VERSION && store.has_blob(&record.layer.descriptor.digest);
    Ok(usable.then_some(record.layer))
}

/// Records the layer that a step made.
pub(super) fn record(store: &Store, preimage: &Preimage, layer: &Layer) -> Result<(), Error> {
    let record = Record { version: VERSION, preimage: preimage.clone(), layer: layer.clone() };
    let bytes = serde_json::to_vec(&record).expect("records serialise to JSON");
    store.put_cache_record(&preimage.key(), &bytes)?;
    Ok(())
}
