//! A blob of one registry as the source of uploads to others.
//!
//! By the case. One upload reads it: its bytes pass through memory. That upload falls behind: the rest
//! goes to a [`Spool`] while there is room, so that the registry that sends is not kept waiting. The
//! upload is begun anew, or there are several: the blob is fetched into a spool, once, and read from
//! there. The last bytes are given out only when the digest of the whole was right.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::blob::Source;
use crate::event::TransferId;
use crate::image::{Descriptor, Repository};
use crate::operations::{Error, Kind, Session};
use crate::registry::BlobStream;

use super::pipe::{Offer, Pipe};
use super::spool::{End, Spool};

/// For how long in all a reader may keep the sender waiting before the rest goes to a file.
const PATIENCE: Duration = Duration::from_secs(1);
/// Chunks under way between the network and a spool.
const CHUNKS_AHEAD: usize = 16;
/// The unit in which room is counted.
const UNIT_BYTES: u64 = 1 << 20;
/// How much room there is: enough for the largest layers, little for a runner's disk.
const ROOM_BYTES: u64 = 4 << 30;

/// Room on disk for spools, shared by all copies of a run.
#[derive(Debug, Clone)]
pub(super) struct SpoolRoom(Arc<Semaphore>);

impl SpoolRoom {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(units(ROOM_BYTES) as usize)))
    }

    /// Waits until there is room for `bytes`; a blob larger than all of it gets all of it.
    pub(super) async fn take(&self, bytes: u64) -> OwnedSemaphorePermit {
        let taken = Arc::clone(&self.0).acquire_many_owned(units(bytes.min(ROOM_BYTES))).await;
        taken.expect("the semaphore is never closed")
    }

    fn try_take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_many_owned(units(bytes)).ok()
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

/// The blob. Reading it begins to fetch it.
pub(super) struct Relay {
    fetch: Fetch,
    /// What the blob is kept in for several readers; none for one.
    kept: Option<OwnedSemaphorePermit>,
    state: Mutex<State>,
    runtime: Handle,
}

#[derive(Default)]
struct State {
    is_begun: bool,
    spool: Option<Arc<Spool>>,
}

impl Relay {
    /// Returns the blob of `repository`, for one reader, or for any number of them where `kept` is
    /// the room for it. Must be called within the runtime.
    pub(super) fn new(
        session: &Session,
        repository: &Repository,
        descriptor: &Descriptor,
        room: &SpoolRoom,
        kept: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let fetch = Fetch {
            session: session.clone(),
            repository: repository.clone(),
            descriptor: descriptor.clone(),
            room: room.clone(),
            failure: Arc::default(),
        };
        Self { fetch, kept, state: Mutex::default(), runtime: Handle::current() }
    }

    /// Takes why the blob could not be read, when it could not.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.fetch.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Source for Relay {
    fn size(&self) -> u64 {
        self.fetch.descriptor.size
    }

    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        // Of an earlier try, after which there is this one.
        self.take_failure();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = !std::mem::replace(&mut state.is_begun, true);
        if is_first && offset == 0 && self.kept.is_none() {
            let (pipe, reader) = Pipe::new();
            self.runtime.spawn(self.fetch.clone().through(pipe));
            return Ok(Box::new(reader));
        }
        if let Some(spool) = state.spool.as_ref().filter(|spool| spool.is_good()) {
            return Ok(Box::new(spool.reader(offset)));
        }
        let spool = Spool::new(&self.fetch.session.store).map_err(io::Error::other)?;
        let spool = Arc::new(spool);
        self.runtime.spawn(self.fetch.clone().into_spool(Arc::clone(&spool)));
        state.spool = Some(Arc::clone(&spool));
        Ok(Box::new(spool.reader(offset)))
    }
}

/// The blob on its way in.
#[derive(Clone)]
struct Fetch {
    session: Session,
    repository: Repository,
    descriptor: Descriptor,
    room: SpoolRoom,
    failure: Arc<Mutex<Option<Error>>>,
}

impl Fetch {
    async fn through(self, pipe: Arc<Pipe>) {
        let done = Box::pin(self.try_through(&pipe)).await;
        pipe.finish(self.end(done));
    }

    async fn try_through(&self, pipe: &Arc<Pipe>) -> Result<(), Error> {
        let mut outlet = Outlet { fetch: self, pipe, patience: PATIENCE, passed: 0, rest: None };
        let mut stream = self.stream().await?;
        let mut last = None;
        while let Some(chunk) = stream.next().await? {
            if let Some(chunk) = last.replace(chunk)
                && !outlet.give(chunk).await?
            {
                return Ok(());
            }
        }
        if let Some(chunk) = last {
            outlet.give(chunk).await?;
        }
        match outlet.rest {
            Some((writer, _room)) => writer.finish(self).await,
            None => Ok(()),
        }
    }

    async fn into_spool(self, spool: Arc<Spool>) {
        let writer = SpoolWriter::start(&spool);
        let done = Box::pin(self.try_into_spool(writer)).await;
        spool.finish(self.end(done));
    }

    async fn try_into_spool(&self, writer: SpoolWriter) -> Result<(), Error> {
        let mut stream = self.stream().await?;
        let mut last = None;
        while let Some(chunk) = stream.next().await? {
            if let Some(chunk) = last.replace(chunk)
                && !writer.write(chunk).await
            {
                return writer.finish(self).await;
            }
        }
        if let Some(chunk) = last {
            writer.write(chunk).await;
        }
        writer.finish(self).await
    }

    async fn stream(&self) -> Result<BlobStream, Error> {
        let client = &self.session.client;
        Ok(client.fetch_blob(&self.repository, &self.descriptor, TransferId::next()).await?)
    }

    fn end(&self, done: Result<(), Error>) -> End {
        let Err(error) = done else { return End::Whole };
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        End::Broken
    }
}

/// Where the chunks of a blob with one reader go.
struct Outlet<'a> {
    fetch: &'a Fetch,
    pipe: &'a Arc<Pipe>,
    patience: Duration,
    /// Bytes that went into the pipe.
    passed: u64,
    rest: Option<(SpoolWriter, OwnedSemaphorePermit)>,
}

impl Outlet<'_> {
    /// Passes a chunk on; `false` when nobody wants it.
    async fn give(&mut self, mut chunk: Bytes) -> Result<bool, Error> {
        loop {
            if let Some((writer, _)) = &self.rest {
                return Ok(!self.pipe.is_closed() && writer.write(chunk).await);
            }
            let size = chunk.len() as u64;
            chunk = match self.pipe.offer(chunk) {
                Offer::Taken => {
                    self.passed += size;
                    return Ok(true);
                }
                Offer::Closed => return Ok(false),
                Offer::Full(chunk) => chunk,
            };
            let begun = Instant::now();
            let waited = tokio::time::timeout(self.patience, self.pipe.drained()).await;
            self.patience = self.patience.saturating_sub(begun.elapsed());
            if waited.is_err() || self.patience.is_zero() {
                self.fall_behind()?;
            }
        }
    }

    /// Sends the rest to a file when there is room, or else waits for the reader a little more.
    fn fall_behind(&mut self) -> Result<(), Error> {
        let left = self.fetch.descriptor.size - self.passed.min(self.fetch.descriptor.size);
        let Some(room) = self.fetch.room.try_take(left) else {
            self.patience = PATIENCE;
            return Ok(());
        };
        let spool = Arc::new(Spool::new(&self.fetch.session.store)?);
        self.rest = Some((SpoolWriter::start(&spool), room));
        self.pipe.continue_in(spool);
        Ok(())
    }
}

/// The thread that writes a spool.
struct SpoolWriter {
    sender: mpsc::Sender<Bytes>,
    thread: JoinHandle<io::Result<()>>,
}

impl SpoolWriter {
    fn start(spool: &Arc<Spool>) -> Self {
        let (sender, mut chunks) = mpsc::channel::<Bytes>(CHUNKS_AHEAD);
        let spool = Arc::clone(spool);
        let thread = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = chunks.blocking_recv() {
                spool.append(&chunk)?;
            }
            Ok(())
        });
        Self { sender, thread }
    }

    /// Returns `false` when writing has failed, which [`SpoolWriter::finish`] reports.
    async fn write(&self, chunk: Bytes) -> bool {
        self.sender.send(chunk).await.is_ok()
    }

    async fn finish(self, fetch: &Fetch) -> Result<(), Error> {
        drop(self.sender);
        let name = fetch.descriptor.digest.short();
        let failed = |error: io::Error| {
            let what = format!("failed to keep {name} on disk while it is copied");
            Error::new(Kind::Internal, what)
                .because(error)
                .hint("make room on the store's disk, as by `rpub prune`")
        };
        self.thread.await.map_err(io::Error::other).and_then(|done| done).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Discard;
    use crate::operations::SessionSettings;

    fn fetch(store: &std::path::Path, content: &[u8]) -> Fetch {
        let settings = SessionSettings { store: store.to_owned(), ..SessionSettings::default() };
        let session = Session::open(settings, Arc::new(Discard)).expect("a session");
        let repository = "r.example/a".parse::<crate::image::Reference>().expect("valid");
        Fetch {
            session,
            repository: repository.repository,
            descriptor: Descriptor::of("x", content),
            room: SpoolRoom::new(),
            failure: Arc::default(),
        }
    }

    /// Gives chunks to a reader that begins to read only when all are given.
    async fn give_all(fetch: &Fetch, chunks: &[Bytes]) -> Vec<u8> {
        let (pipe, mut reader) = Pipe::new();
        let patience = Duration::ZERO;
        let mut outlet = Outlet { fetch, pipe: &pipe, patience, passed: 0, rest: None };
        for chunk in chunks {
            assert!(outlet.give(chunk.clone()).await.expect("given"));
        }
        let (writer, _room) = outlet.rest.take().expect("the reader is behind");
        writer.finish(fetch).await.expect("written");
        pipe.finish(End::Whole);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        });
        read.await.expect("joined").expect("read")
    }

    #[tokio::test]
    async fn a_slow_reader_gets_the_rest_out_of_a_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let chunks: Vec<Bytes> = (0..40u8).map(|at| Bytes::from(vec![at; 64 << 10])).collect();
        let content: Vec<u8> = chunks.concat();
        let fetch = fetch(directory.path(), &content);
        assert!(give_all(&fetch, &chunks).await == content);
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_ends_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let fetch = fetch(directory.path(), b"content");
        let (pipe, reader) = Pipe::new();
        let patience = PATIENCE;
        let mut outlet = Outlet { fetch: &fetch, pipe: &pipe, patience, passed: 0, rest: None };
        drop(reader);
        assert!(!outlet.give(Bytes::from_static(b"content")).await.expect("offered"));
    }

    #[tokio::test]
    async fn what_breaks_is_never_the_end() {
        let (pipe, mut reader) = Pipe::new();
        assert_eq!(pipe.offer(Bytes::from_static(b"half")), Offer::Taken);
        pipe.finish(End::Broken);
        let read = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
        assert!(read.await.expect("joined").is_err());
    }
}
