//! A blob's bytes on their way from one registry to one other: through memory while the reader keeps
//! up, the rest through a file when it does not, so that the sender is not kept waiting.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::{Buf as _, Bytes};
use tokio::sync::Notify;

use super::spool::{End, Spool, SpoolReader, broken};

/// How much waits in memory for the reader.
const WINDOW_BYTES: usize = 512 << 10;

/// What the two ends share.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    state: Mutex<State>,
    filled: Condvar,
    drained: Notify,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// Where everything after the chunks is.
    rest: Option<Arc<Spool>>,
    end: Option<End>,
    has_reader: bool,
}

/// What became of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It is on its way.
    Taken,
    /// The reader is too far behind.
    Full(Bytes),
    /// Nobody reads any more.
    Closed,
}

impl Pipe {
    /// Returns the two ends.
    pub(super) fn new() -> (Arc<Self>, PipeReader) {
        let pipe = Arc::new(Self::default());
        pipe.state().has_reader = true;
        let reader = PipeReader { pipe: Arc::clone(&pipe), chunk: Bytes::new(), rest: None };
        (pipe, reader)
    }

    /// Offers a chunk to the reader.
    pub(super) fn offer(&self, chunk: Bytes) -> Offer {
        let mut state = self.state();
        if !state.has_reader {
            return Offer::Closed;
        }
        if state.bytes > 0 && state.bytes + chunk.len() > WINDOW_BYTES {
            return Offer::Full(chunk);
        }
        state.bytes += chunk.len();
        state.chunks.push_back(chunk);
        self.filled.notify_one();
        Offer::Taken
    }

    /// Returns when the reader has taken something since the last call, or is gone.
    pub(super) async fn drained(&self) {
        self.drained.notified().await;
    }

    /// Sends the reader to `spool` for everything that comes after what was taken so far.
    pub(super) fn continue_in(&self, spool: Arc<Spool>) {
        self.state().rest = Some(spool);
        self.filled.notify_one();
    }

    /// Says that nothing more comes.
    pub(super) fn finish(&self, end: End) {
        let mut state = self.state();
        if let Some(spool) = &state.rest {
            spool.finish(end);
        }
        state.end = Some(end);
        self.filled.notify_one();
    }

    /// Returns whether nobody reads any more.
    pub(super) fn is_closed(&self) -> bool {
        !self.state().has_reader
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reader's end.
#[derive(Debug)]
pub(super) struct PipeReader {
    pipe: Arc<Pipe>,
    chunk: Bytes,
    rest: Option<SpoolReader>,
}

impl PipeReader {
    /// Waits for the next bytes; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let mut state = self.pipe.state();
        loop {
            if state.end == Some(End::Broken) {
                return Err(broken());
            }
            if let Some(chunk) = state.chunks.pop_front() {
                state.bytes -= chunk.len();
                self.chunk = chunk;
                self.pipe.drained.notify_one();
                return Ok(true);
            }
            if let Some(spool) = &state.rest {
                self.rest = Some(spool.reader(0));
                return Ok(true);
            }
            if state.end.is_some() {
                return Ok(false);
            }
            state = self.pipe.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(rest) = &mut self.rest {
                return rest.read(buffer);
            }
            if self.chunk.has_remaining() {
                let count = self.chunk.len().min(buffer.len());
                self.chunk.copy_to_slice(&mut buffer[..count]);
                return Ok(count);
            }
            if !self.fill()? {
                return Ok(0);
            }
        }
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        state.has_reader = false;
        state.chunks.clear();
        self.pipe.drained.notify_one();
    }
}
