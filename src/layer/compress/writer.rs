//! The writer that makes a layer's blob out of its tar.

use std::io::{self, Write};
use std::thread;

use crate::blob::Hasher;
use crate::image::DiffId;

use super::block::BlockCompressor;
use super::pipeline::{Output, Pipeline};
use super::{Compression, SealedLayer};

/// More threads than this do not help: one thread that reads and hashes feeds about eight.
const MOST_THREADS: usize = 8;

/// How much of the tar a block takes. Part of the format: another size makes other bytes.
const fn block_size(compression: Compression) -> usize {
    match compression {
        // Large enough that what deflate learns from it is nearly all there is to learn; few enough
        // bytes in flight.
        Compression::Gzip(_) => 512 * 1024,
        // Each block is a frame that knows nothing of the one before, so it is larger.
        Compression::Zstd(_) => 4 * 1024 * 1024,
        Compression::None => 256 * 1024,
    }
}

enum Stage<W: Write + Send + 'static> {
    /// Nothing was compressed yet, or everything is on this thread.
    Here(Output<W>, Option<BlockCompressor>),
    Threads(Pipeline<W>),
    Failed,
}

/// Takes a layer's tar, writes it compressed, and computes both digests on the way.
///
/// The bytes written depend on the tar and on the [`Compression`], not on the number of threads nor
/// on how the tar is cut into calls of `write`; `flush` therefore does nothing. Layers of less than
/// a block start no threads. Memory is bounded by a few blocks a thread. When the writer below
/// fails, that error comes from a later `write` or from [`LayerWriter::finish`]. Dropping it before
/// that ends the threads and leaves the bytes written so far as they are.
///
/// ```
/// use std::io::Write;
/// use rpub::layer::{Compression, LayerWriter};
/// let mut writer = LayerWriter::new(Vec::new(), Compression::default());
/// writer.write_all(&[0; 1024])?;
/// let (layer, bytes) = writer.finish_with_output()?;
/// assert_eq!((layer.size, layer.uncompressed_size), (bytes.len() as u64, 1024));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct LayerWriter<W: Write + Send + 'static> {
    compression: Compression,
    threads: usize,
    tar: Hasher,
    block: Vec<u8>,
    stage: Stage<W>,
}

impl<W: Write + Send + 'static> LayerWriter<W> {
    /// Returns a writer that compresses on as many threads as there are processors, at most eight.
    #[must_use]
    pub fn new(out: W, compression: Compression) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        Self::with_threads(out, compression, threads)
    }

    /// Returns a writer that compresses on `threads` threads; with one, on the caller's.
    #[must_use]
    pub fn with_threads(out: W, compression: Compression, threads: usize) -> Self {
        Self {
            compression,
            threads,
            tar: Hasher::default(),
            block: Vec::new(),
            stage: Stage::Here(Output::new(out), None),
        }
    }

    /// Compresses and writes what is left, and returns the layer's digests and sizes.
    ///
    /// # Errors
    ///
    /// What the writer below gave, now or earlier.
    pub fn finish(self) -> io::Result<SealedLayer> {
        Ok(self.finish_with_output()?.0)
    }

    /// Does what [`LayerWriter::finish`] does and gives the writer below back as well.
    ///
    /// # Errors
    ///
    /// What the writer below gave, now or earlier.
    pub fn finish_with_output(mut self) -> io::Result<(SealedLayer, W)> {
        // An empty tar still makes a whole gzip member or zstd frame.
        if !self.block.is_empty() || self.tar.count() == 0 {
            self.seal_block()?;
        }
        let output = match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Here(output, _) => output,
            Stage::Threads(pipeline) => pipeline.finish()?,
            Stage::Failed => return Err(failed_before()),
        };
        let (diff_id, uncompressed_size) = self.tar.finish();
        let (out, digest, size) = output.finish()?;
        let diff_id = DiffId(diff_id);
        let media_type = self.compression.media_type().to_owned();
        Ok((SealedLayer { digest, size, diff_id, uncompressed_size, media_type }, out))
    }

    /// Hashes the block and compresses it here or sends it to the threads.
    fn seal_block(&mut self) -> io::Result<()> {
        self.tar.update(&self.block);
        let block = std::mem::take(&mut self.block);
        let sealed = self.seal(block);
        if sealed.is_err() {
            self.stage = Stage::Failed;
        }
        self.block = sealed?;
        Ok(())
    }

    fn seal(&mut self, block: Vec<u8>) -> io::Result<Vec<u8>> {
        let is_whole = block.len() == block_size(self.compression);
        let in_threads = self.threads > 1 && is_whole && self.compression != Compression::None;
        self.stage = match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Here(output, _) if in_threads => {
                Stage::Threads(Pipeline::start(output, self.compression, self.threads)?)
            }
            stage => stage,
        };
        match &mut self.stage {
            Stage::Here(output, compressor) => {
                let compressor = match compressor {
                    Some(compressor) => compressor,
                    None => compressor.insert(BlockCompressor::new(self.compression)?),
                };
                seal_here(output, compressor, block)
            }
            Stage::Threads(pipeline) => pipeline.send(block),
            Stage::Failed => Err(failed_before()),
        }
    }
}

fn seal_here<W: Write>(
    output: &mut Output<W>,
    compressor: &mut BlockCompressor,
    mut block: Vec<u8>,
) -> io::Result<Vec<u8>> {
    if matches!(compressor, BlockCompressor::None) {
        output.put(&block)?;
        block.clear();
        return Ok(block);
    }
    let mut bytes = Vec::new();
    compressor.compress(&block, &mut bytes)?;
    output.put(&bytes)?;
    bytes.clear();
    Ok(bytes)
}

fn failed_before() -> io::Error {
    io::Error::other("the layer's writer failed before")
}

impl<W: Write + Send + 'static> Write for LayerWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if matches!(self.stage, Stage::Failed) {
            return Err(failed_before());
        }
        let size = block_size(self.compression);
        let count = bytes.len().min(size - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == size {
            self.seal_block()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
