//! Bytes on their way to a client, piece by piece: nothing is held but the piece under way.

use std::io::{self, Read};
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tokio::sync::Semaphore;

use super::growth::Arrival;

/// How much is read at once.
const PIECE: u64 = 128 << 10;

/// How many reads happen at once: enough to keep disks busy, and few threads.
const MAX_READS: usize = 32;

static READING: Semaphore = Semaphore::const_new(MAX_READS);

/// A part of a blob that is read as fast as the client takes it, on the runtime's blocking threads.
pub(super) struct Pieces {
    reader: Box<dyn Read + Send>,
    range: Range<u64>,
    /// What tells how far the blob has come that is still arriving.
    arrival: Option<Arrival>,
}

impl Pieces {
    /// Returns the bytes of `range`, at whose beginning `reader` is.
    pub(super) fn of(reader: Box<dyn Read + Send>, range: Range<u64>) -> Self {
        Self { reader, range, arrival: None }
    }

    /// Like [`Pieces::of`], for a blob of which more is still to come.
    pub(super) fn arriving(
        reader: Box<dyn Read + Send>,
        range: Range<u64>,
        arrival: Arrival,
    ) -> Self {
        Self { reader, range, arrival: Some(arrival) }
    }

    /// Returns how many bytes there are.
    pub(super) fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Returns the pieces. Fewer bytes than there should be are an error: the client must not take
    /// the rest of the connection for them.
    pub(super) fn stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::try_unfold(self, |mut pieces| async move {
            if pieces.range.is_empty() {
                return Ok(None);
            }
            let end = match &mut pieces.arrival {
                Some(arrival) => arrival.readable(pieces.range.start).await?.min(pieces.range.end),
                None => pieces.range.end,
            };
            let most = PIECE.min(end - pieces.range.start);
            let _place = READING.acquire().await.map_err(io::Error::other)?;
            let reading =
                tokio::task::spawn_blocking(move || pieces.read(most).map(|b| (b, pieces)));
            Ok(Some(reading.await.map_err(io::Error::other)??))
        })
    }

    fn read(&mut self, most: u64) -> io::Result<Bytes> {
        let mut bytes = Vec::with_capacity(usize::try_from(most).unwrap_or_default());
        self.reader.by_ref().take(most).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.range.start += bytes.len() as u64;
        Ok(bytes.into())
    }
}
