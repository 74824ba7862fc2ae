//! Telling how a layer grows while it is sealed.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use crate::image::Descriptor;

/// Follows one layer of the final image while it is being sealed.
///
/// [`Growth::reached`] comes any number of times, with rising positions, then at most once
/// [`Growth::sealed`]; a layer that fails is dropped without it. Neither may block: both are called
/// from the threads that make the layer.
pub trait Growth: Send + Sync {
    /// The first `position_bytes` bytes of the blob are in the file and will not change.
    fn reached(&self, position_bytes: u64);

    /// The file holds the whole blob. It is not in the store yet:
    /// [`Observer::sealed`](super::Observer::sealed) comes when it is, and not at all when that, or
    /// the step, fails.
    fn sealed(&self, descriptor: &Descriptor);
}

/// The file that a layer is written to, with who follows it.
pub(super) struct LayerFile {
    file: File,
    position_bytes: u64,
    growth: Option<Arc<dyn Growth>>,
}

impl LayerFile {
    pub(super) fn new(file: File, growth: Option<Arc<dyn Growth>>) -> Self {
        Self { file, position_bytes: 0, growth }
    }
}

impl Write for LayerFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.position_bytes += count as u64;
        if let Some(growth) = &self.growth {
            growth.reached(self.position_bytes);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
