//! Results of other machines, as the engine sees them.

use std::fs::File;

use crate::build::layer::Layer;
use crate::image::Digest;

/// What is recorded elsewhere under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// The layers that the step and those below it made, the lowest first; not those of the base.
    pub layers: Vec<Layer>,
}

/// Looks results of other machines up.
pub trait Caches: Send + Sync {
    /// Returns whether there is nobody to ask.
    fn is_empty(&self) -> bool;

    /// Finds the last of `keys`, those of one stage's steps in their order, that has an entry, and
    /// returns its position with the entry. Blocks. Who cannot be asked has nothing.
    fn deepest(&self, keys: &[Digest]) -> Option<(usize, CacheEntry)>;

    /// Returns whether the blob can be had by [`Caches::fetch`].
    fn holds(&self, blob: &Digest) -> bool;

    /// Brings the layer's blob into the store, and writes its bytes to `copy` while they arrive.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// Whatever getting it gives; the store then has nothing of it.
    fn fetch(
        &self,
        layer: &Layer,
        copy: File,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// Nobody to ask.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCaches;

impl Caches for NoCaches {
    fn is_empty(&self) -> bool {
        true
    }

    fn deepest(&self, _keys: &[Digest]) -> Option<(usize, CacheEntry)> {
        None
    }

    fn holds(&self, _blob: &Digest) -> bool {
        false
    }

    fn fetch(
        &self,
        _layer: &Layer,
        _copy: File,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Err("there is no cache to fetch from".into())
    }
}
