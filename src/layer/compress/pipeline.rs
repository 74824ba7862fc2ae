//! The threads behind a [`LayerWriter`](super::LayerWriter): workers compress blocks, one more puts
//! them in order, hashes and writes them.
//!
//! The caller sends each block twice: as a job, to whichever worker is free, and as a place in the
//! order, to the output thread, which waits there for that block's result. Both channels are
//! bounded, so a slow writer holds the caller back. Whoever fails drops its end of a channel; the
//! others see that and end, and the caller finds the error when it joins the output thread.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::blob::Hasher;
use crate::image::Digest;

use super::Compression;
use super::block::BlockCompressor;

struct Job {
    block: Vec<u8>,
    result: SyncSender<io::Result<Vec<u8>>>,
}

/// Buffers that are used again, so that a layer costs as many as are in flight.
#[derive(Debug, Default)]
struct Pool {
    blocks: Mutex<Vec<Vec<u8>>>,
    outputs: Mutex<Vec<Vec<u8>>>,
}

fn take(buffers: &Mutex<Vec<Vec<u8>>>) -> Vec<u8> {
    buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
}

fn give(buffers: &Mutex<Vec<Vec<u8>>>, mut buffer: Vec<u8>) {
    buffer.clear();
    buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
}

/// Where compressed blocks go, in order: the writer and the digest of what it got.
pub(super) struct Output<W> {
    out: W,
    hasher: Hasher,
}

impl<W: Write> Output<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, hasher: Hasher::default() }
    }

    /// Writes one compressed block.
    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }

    /// Returns the writer and what it got.
    pub(super) fn finish(mut self) -> io::Result<(W, Digest, u64)> {
        self.out.flush()?;
        let (digest, size) = self.hasher.finish();
        Ok((self.out, digest, size))
    }
}

/// The running threads of one layer.
pub(super) struct Pipeline<W> {
    jobs: Option<SyncSender<Job>>,
    order: Option<SyncSender<Receiver<io::Result<Vec<u8>>>>>,
    workers: Vec<JoinHandle<()>>,
    output: Option<JoinHandle<io::Result<Output<W>>>>,
    pool: Arc<Pool>,
}

impl<W: Write + Send + 'static> Pipeline<W> {
    /// Starts `threads` workers and the output thread.
    pub(super) fn start(
        output: Output<W>,
        compression: Compression,
        threads: usize,
    ) -> io::Result<Self> {
        let pool = Arc::new(Pool::default());
        let (jobs, jobs_receiver) = sync_channel(threads);
        // Room for what the workers hold and as much again that waits for its turn to be written.
        let (order, order_receiver) = sync_channel(2 * threads);
        let mut pipeline = Self {
            jobs: Some(jobs),
            order: Some(order),
            workers: Vec::with_capacity(threads),
            output: None,
            pool: Arc::clone(&pool),
        };
        let jobs_receiver = Arc::new(Mutex::new(jobs_receiver));
        for _ in 0..threads {
            let (jobs, pool) = (Arc::clone(&jobs_receiver), Arc::clone(&pool));
            let worker = thread::Builder::new()
                .name("compress".to_owned())
                .spawn(move || work(compression, &jobs, &pool))?;
            pipeline.workers.push(worker);
        }
        let thread = thread::Builder::new()
            .name("seal".to_owned())
            .spawn(move || write_in_order(output, &order_receiver, &pool))?;
        pipeline.output = Some(thread);
        Ok(pipeline)
    }

    /// Sends a whole block off and returns an empty one.
    pub(super) fn send(&mut self, block: Vec<u8>) -> io::Result<Vec<u8>> {
        let (result, receiver) = sync_channel(1);
        let placed = self.order.as_ref().is_some_and(|order| order.send(receiver).is_ok());
        let sent = placed
            && self.jobs.as_ref().is_some_and(|jobs| jobs.send(Job { block, result }).is_ok());
        if sent { Ok(take(&self.pool.blocks)) } else { Err(self.failure()) }
    }

    /// Waits until everything sent is written, and returns the output.
    pub(super) fn finish(mut self) -> io::Result<Output<W>> {
        self.join()
    }

    /// Returns why the output thread ended before it was told to.
    fn failure(&mut self) -> io::Error {
        match self.join() {
            Err(error) => error,
            Ok(_) => io::Error::other("the layer's threads ended early"),
        }
    }

    fn join(&mut self) -> io::Result<Output<W>> {
        self.jobs = None;
        self.order = None;
        let output = self.output.take().map(JoinHandle::join);
        for worker in self.workers.drain(..) {
            // A worker's panic shows as a result that never comes, which the output thread reports.
            drop(worker.join());
        }
        match output {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the thread that writes the layer panicked")),
            None => Err(io::Error::other("the layer's writer failed before")),
        }
    }
}

impl<W> Drop for Pipeline<W> {
    /// Ends the threads of a layer that is given up, so that its writer is dropped when this returns.
    fn drop(&mut self) {
        self.jobs = None;
        self.order = None;
        drop(self.output.take().map(JoinHandle::join));
        for worker in self.workers.drain(..) {
            drop(worker.join());
        }
    }
}

fn work(compression: Compression, jobs: &Mutex<Receiver<Job>>, pool: &Pool) {
    let mut compressor = BlockCompressor::new(compression);
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { block, result }) = job else { return };
        let done = compressor
            .as_mut()
            .map_err(|error| io::Error::new(error.kind(), error.to_string()))
            .and_then(|compressor| {
                let mut bytes = take(&pool.outputs);
                compressor.compress(&block, &mut bytes)?;
                Ok(bytes)
            });
        give(&pool.blocks, block);
        // Nobody listens any more when the output thread has failed; the next `recv` then ends this.
        drop(result.send(done));
    }
}

fn write_in_order<W: Write>(
    mut output: Output<W>,
    order: &Receiver<Receiver<io::Result<Vec<u8>>>>,
    pool: &Pool,
) -> io::Result<Output<W>> {
    for pending in order {
        let bytes = pending
            .recv()
            .map_err(|_| io::Error::other("a thread that compresses the layer panicked"))??;
        output.put(&bytes)?;
        give(&pool.outputs, bytes);
    }
    Ok(output)
}
