//! Keys and records of the build cache.
//!
//! A step has two keys. Its *definition key* ([`Definition`]) is the digest of what it does and of
//! what it is defined on: the definition key of the step below, or the layers of the base; the
//! definition keys of the stages that it takes files from; the content of what it takes from a build
//! context. It is known before anything runs, so a result can be found without having the inputs. Its
//! *content key* ([`Preimage`]) has the content of the inputs instead: the chainID of the layers below
//! and digests of files. It is looked up second, when the inputs are there: a step above one that was
//! redone with the same result is not redone.
//!
//! A [`StepRecord`] keeps the layer, the layers that it was made on, and everything that the
//! definition key came from, so that a later miss can be explained.

mod definition;
mod explain;
mod record;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::image::{ChainId, Digest, Platform};
use crate::store::Store;

use super::Error;
use super::layer::Layer;

pub(super) use definition::{Below, Definition, Input, Reads, is_linked, reads, work_of};
pub(super) use explain::{Cause, Current, difference, nearest};
pub(super) use record::{BaseName, Place, StepRecord};

/// Version of keys and records. A change of what a step's layer looks like raises it, so that
/// older results are not taken for newer ones.
const VERSION: u32 = 2;

/// Everything that a step's result depends on, by content.
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

/// What a step made, under its content key.
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

/// Returns the layer recorded under the content key of `preimage`. Whether its blob can be had is the
/// caller's business.
///
/// A record that cannot be read counts as a miss: the step is simply done again.
pub(super) fn look_up(store: &Store, preimage: &Preimage) -> Result<Option<Layer>, Error> {
    let record: Option<Record> = read(store, &preimage.key())?;
    Ok(record.filter(|record| record.version == VERSION).map(|record| record.layer))
}

/// Records the layer that a step made under its content key.
pub(super) fn record(store: &Store, preimage: &Preimage, layer: &Layer) -> Result<(), Error> {
    let record = Record { version: VERSION, preimage: preimage.clone(), layer: layer.clone() };
    write(store, &preimage.key(), &record)
}

/// Returns the layer that the bytes of a cache record name, of whichever kind it is.
#[must_use]
pub fn recorded_layer(bytes: &[u8]) -> Option<Layer> {
    #[derive(Deserialize)]
    struct Any {
        layer: Layer,
    }
    serde_json::from_slice::<Any>(bytes).ok().map(|record| record.layer)
}

/// Reads what is recorded under `key`; what cannot be read, or is of another kind, is absent.
fn read<T: serde::de::DeserializeOwned>(store: &Store, key: &Digest) -> Result<Option<T>, Error> {
    let Some(bytes) = store.cache_record(key)? else { return Ok(None) };
    match serde_json::from_slice(&bytes) {
        Ok(record) => Ok(Some(record)),
        Err(error) => {
            tracing::debug!(%key, %error, "unreadable cache record");
            Ok(None)
        }
    }
}

fn write<T: Serialize>(store: &Store, key: &Digest, record: &T) -> Result<(), Error> {
    let bytes = serde_json::to_vec(record).expect("records serialise to JSON");
    Ok(store.put_cache_record(key, &bytes)?)
}
