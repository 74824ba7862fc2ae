//! Large blobs over several connections side by side, handed out in order.
//!
//! A large blob begins with a request for its first part only. By the case. The registry gives the
//! whole blob instead: that is read to its end. The one connection is not what holds the transfer
//! back (see [`gauge`](super::gauge)): the rest comes in one more request. It is: further parts are
//! begun beside it, one at each look, while fewer than four downloads from the registry are under way
//! (several blobs use the network as well as several parts do) and there is room for what comes before
//! its turn. No more may begin: the next step of the one connection
//! is twice as long. A part fails for a reason that does not pass: the rest comes over one
//! connection, which finds out what it is.
//!
//! A part's task never waits for its reader, so that it gives its place in the registry's lane back
//! whatever becomes of the parts before it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::Result;
use super::gauge::{Gauge, Verdict};
use super::range::{RangeStream, WholeBlob};
use super::retry::{self, Budget};
use super::session::Session;
use crate::image::Descriptor;

/// The size of a part: so large that the round trips before it do not matter, and so small that some
/// of them may wait in memory.
const PART_BYTES: u64 = 8 << 20;
/// In which pieces what has come of a part waits.
const BLOCK_BYTES: usize = 256 << 10;
/// How many parts may wait for their turn, of all blobs together: their memory is bounded by this.
pub(super) const ROOMS: usize = 3;
/// Less than this is there over one connection before others would be of use.
const LEAST_BYTES: u64 = 4 * PART_BYTES;

/// The bytes of a blob from its registry, in order. They are not verified.
pub(super) struct Spread {
    /// What is read when no part is, and what begins parts.
    own: RangeStream,
    /// The part that is being read.
    current: Option<Part>,
    /// The parts that come after it, in order.
    ahead: VecDeque<Part>,
    session: Option<Session>,
    gauge: Gauge,
    /// Where the next byte belongs.
    position: u64,
    /// Where what nobody has been asked for begins.
    assigned: u64,
    size: u64,
    /// How much is asked for next over the one connection.
    step: u64,
    /// How many parts were begun.
    begun: usize,
}

impl Spread {
    /// Returns the blob from `position` on. Asks nobody yet.
    pub(super) fn new(
        places: Vec<Session>,
        descriptor: Descriptor,
        budget: Budget,
        position: u64,
    ) -> Self {
        let size = descriptor.size;
        // Where the user sets the rate, more connections only share it.
        let session = places.first().filter(|it| it.shared.options.bytes_per_second.is_none());
        let session = session.filter(|_| size.saturating_sub(position) >= LEAST_BYTES).cloned();
        let end = if session.is_some() { position + PART_BYTES } else { size };
        let own = RangeStream::new(places, descriptor, budget, (position, end), WholeBlob::Take);
        Self {
            own,
            current: None,
            ahead: VecDeque::new(),
            session,
            gauge: Gauge::default(),
            position,
            assigned: end,
            size,
            step: PART_BYTES,
            begun: 0,
        }
    }

    /// Makes sure that there is an answer to read from, unless nothing is to be read.
    pub(super) async fn open(&mut self) -> Result<()> {
        self.own.open().await?;
        self.assigned = self.own.end();
        Ok(())
    }

    /// Returns the next bytes, or `None` at the end of the blob.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let begun = Instant::now();
            let next = match &mut self.current {
                Some(part) => part.chunks.recv().await.transpose(),
                None => self.own.next().await,
            };
            match next {
                Ok(Some(chunk)) => {
                    self.position += chunk.len() as u64;
                    self.gauge.took(chunk.len(), begun, Instant::now());
                    self.look();
                    return Ok(Some(chunk));
                }
                Ok(None) if self.position == self.size => {
                    self.close();
                    return Ok(None);
                }
                Ok(None) => self.go_on(),
                Err(error) if self.current.is_some() && !retry::is_transient(&error) => {
                    tracing::debug!(%error, "the rest comes over one connection");
                    self.close();
                    self.ask_for(self.size);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the redacted URL of the blob where it is being had.
    pub(super) fn url(&self) -> String {
        self.own.url()
    }

    /// Says that the blob is there and was what it should be.
    pub(super) fn went_well(&self) {
        self.own.went_well();
    }

    /// Lets go of all connections.
    pub(super) fn close(&mut self) {
        self.own.close();
        self.current = None;
        self.ahead.clear();
    }

    fn streams(&self) -> usize {
        1 + self.ahead.len()
    }

    /// Begins one more part when that would make the transfer faster.
    fn look(&mut self) {
        if self.is_asked_for() {
            return;
        }
        let verdict = self.gauge.look(self.streams(), Instant::now());
        if verdict == Some(Verdict::Faster) {
            self.begin_part();
        }
    }

    /// Returns whether nothing is left that could be asked for.
    fn is_asked_for(&mut self) -> bool {
        // The registry may have turned to giving the whole blob.
        if self.current.is_none() {
            self.assigned = self.assigned.max(self.own.end());
        }
        self.assigned == self.size
    }

    /// Takes up what comes after the part that has been read.
    fn go_on(&mut self) {
        let streams = self.streams();
        self.current = self.ahead.pop_front().filter(|part| part.begins_at == self.position);
        let verdict = self.gauge.verdict(streams, Instant::now());
        if let Some(part) = &mut self.current {
            // Most of it has been waiting, and is taken at once.
            part.room = None;
            self.own.close();
            if verdict == Verdict::Faster && !self.is_asked_for() {
                self.begin_part();
            }
            return;
        }
        self.ahead.clear();
        self.ask_for(match verdict {
            Verdict::Same => self.size,
            Verdict::Faster => self.part_end(self.position, PART_BYTES),
        });
        if self.assigned < self.size && !self.begin_part() {
            self.step = self.step.saturating_mul(2);
            self.ask_for(self.part_end(self.position, self.step));
        }
    }

    /// Returns where a part of about `length` bytes ends: none is left that is not worth a request.
    fn part_end(&self, begins_at: u64, length: u64) -> u64 {
        let left = self.size - begins_at;
        if left < length + PART_BYTES / 4 { self.size } else { begins_at + length }
    }

    /// Has what comes up to `end` over the one connection.
    fn ask_for(&mut self, end: u64) {
        self.own.go_on((self.position, end));
        self.assigned = end;
    }

    /// Begins one more part, if there is room for it and the registry has nothing else to do;
    /// returns whether it did.
    fn begin_part(&mut self) -> bool {
        let Some(session) = &self.session else { return false };
        let Ok(room) = Arc::clone(&session.shared.rooms).try_acquire_owned() else { return false };
        let begins_at = self.assigned;
        let end = self.part_end(begins_at, PART_BYTES);
        let strand = 1 + self.begun % ROOMS;
        let range = self.own.beside((begins_at, end), strand, 1 + ROOMS);
        let Some(range) = range else { return false };
        self.begun += 1;
        (self.assigned, self.step) = (end, PART_BYTES);
        self.ahead.push_back(Part::begin(range, begins_at, room));
        true
    }
}

/// Fails when whoever read a part is gone.
type Sent = Result<(), mpsc::error::SendError<Result<Bytes>>>;

/// A part on its way, by a task of its own.
struct Part {
    begins_at: u64,
    /// What has come and was not read yet: no more than the part.
    chunks: mpsc::UnboundedReceiver<Result<Bytes>>,
    /// Held until it is the part's turn.
    room: Option<OwnedSemaphorePermit>,
    _task: AbortOnDropHandle<()>,
}

impl Part {
    fn begin(mut range: RangeStream, begins_at: u64, room: OwnedSemaphorePermit) -> Self {
        let (sender, chunks) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            // Whoever read the part is gone.
            let _ = fill(&mut range, &sender).await;
        });
        Self { begins_at, chunks, room: Some(room), _task: AbortOnDropHandle::new(task) }
    }
}

/// Sends what comes in blocks, and at last the error that ended it, if any. What waits long must not
/// keep the connection's own buffers, which are mostly larger than what came in them.
async fn fill(range: &mut RangeStream, blocks: &mpsc::UnboundedSender<Result<Bytes>>) -> Sent {
    let mut block = Vec::new();
    let failed = loop {
        match range.next().await {
            Ok(Some(mut chunk)) => {
                while !chunk.is_empty() {
                    if block.capacity() == 0 {
                        block = Vec::with_capacity(BLOCK_BYTES);
                    }
                    let fitting = chunk.len().min(BLOCK_BYTES - block.len());
                    block.extend_from_slice(&chunk.split_to(fitting));
                    if block.len() == BLOCK_BYTES {
                        blocks.send(Ok(std::mem::take(&mut block).into()))?;
                    }
                }
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    if !block.is_empty() {
        blocks.send(Ok(block.into()))?;
    }
    failed.map_or(Ok(()), |error| blocks.send(Err(error)))
}
