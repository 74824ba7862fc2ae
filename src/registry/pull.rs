//! Blobs on their way in (OCI distribution-spec, "Pulling blobs").

use bytes::Bytes;
use http::header::{CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::answer::Answer;
use super::location::redacted;
use super::pace::{Epoch, Lane, Permit};
use super::progress::Progress;
use super::retry::{self, Budget};
use super::session::Session;
use super::{Error, Result};
use crate::blob::{Hasher, Mismatch};
use crate::event::TransferOutcome;
use crate::image::Descriptor;

/// A download that came on so far since its last failure has all its tries again: a bad network may
/// break a large blob off any number of times, as long as it gets there.
const RENEWING_BYTES: u64 = 4 << 20;

/// A blob's bytes as they arrive, verified, resumed after a cut.
///
/// Dropping it before the end ends the transfer as failed.
pub struct BlobStream {
    /// Where the blob may be had, the place in use first.
    places: Vec<Session>,
    descriptor: Descriptor,
    budget: Budget,
    progress: Progress,
    /// `None` once the end was reached or an error was given.
    hasher: Option<Hasher>,
    answer: Option<Answer>,
    /// Bytes at the answer's beginning that were handed out already: the registry ignored `Range`.
    skip: u64,
    /// Where the connection broke last.
    failed_at: u64,
    /// Held while bytes may come.
    permit: Option<(Permit, Epoch)>,
}

impl BlobStream {
    /// Opens the blob at the first of `places` that has it; there is at least one.
    pub(super) async fn open(
        places: Vec<Session>,
        descriptor: Descriptor,
        budget: Budget,
        progress: Progress,
    ) -> Result<Self> {
        let hasher = Some(Hasher::new(descriptor.digest.algorithm()));
        let (answer, skip, failed_at, permit) = (None, 0, 0, None);
        let mut stream =
            Self { places, descriptor, budget, progress, hasher, answer, skip, failed_at, permit };
        stream
            .connect()
            .await
            .inspect_err(|_| stream_failed(&mut stream.hasher, &stream.progress))?;
        Ok(stream)
    }

    /// Returns the next bytes, or `None` after the last when size and digest were right.
    ///
    /// A broken connection is taken up again where it broke, within the operation's retry budget.
    /// Bytes handed out before an error must be thrown away.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] instead of the end when the bytes are not those of the descriptor, and
    /// whatever keeps the blob from being read.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let next = self.try_next().await;
        if next.is_err() {
            stream_failed(&mut self.hasher, &self.progress);
            self.answer = None;
            self.permit = None;
        }
        next
    }

    // Chunks are at most a few hundred KiB, so hashing them here takes the runtime's thread for
    // some tens of microseconds: less than handing them to another thread would cost.
    async fn try_next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some(hasher) = &mut self.hasher else { return Ok(None) };
            let Some(answer) = &mut self.answer else {
                self.connect().await?;
                continue;
            };
            match answer.chunk().await {
                Ok(Some(mut chunk)) => {
                    let skipped = self.skip.min(chunk.len() as u64);
                    self.skip -= skipped;
                    // At most the chunk's own length.
                    let chunk = chunk.split_off(usize::try_from(skipped).unwrap_or(chunk.len()));
                    if chunk.is_empty() {
                        continue;
                    }
                    hasher.update(&chunk);
                    if hasher.count() > self.descriptor.size {
                        return Err(self.wrong_size(hasher_count(self.hasher.as_ref())));
                    }
                    self.progress.moved_to(hasher.count());
                    self.progress.throttle.moved(chunk.len() as u64).await;
                    return Ok(Some(chunk));
                }
                Ok(None) if hasher.count() == self.descriptor.size => return self.finish(),
                Ok(None) => {
                    // Without a length the connection's end looks like the content's end.
                    let error = answer.protocol("the answer ended before the blob did");
                    self.answer = None;
                    self.reconnect_after(error, Cut::Short).await?;
                }
                Err(error) => {
                    self.answer = None;
                    self.reconnect_after(error, Cut::Broken).await?;
                }
            }
        }
    }

    fn finish(&mut self) -> Result<Option<Bytes>> {
        let Some(hasher) = self.hasher.take() else { return Ok(None) };
        let url = self.answer.take().map(|answer| redacted(&answer.url)).unwrap_or_default();
        if let Some(session) = self.places.first() {
            session.host.pace.speed_up(Lane::Downloads);
        }
        self.permit = None;
        if let Err(source) = hasher.verify(&self.descriptor) {
            self.progress.end(TransferOutcome::Failed);
            return Err(Error::Mismatch { url, source });
        }
        self.progress.moved_to(self.descriptor.size);
        self.progress.end(TransferOutcome::Moved);
        Ok(None)
    }

    fn wrong_size(&self, actual: u64) -> Error {
        let url = self.answer.as_ref().map(|answer| redacted(&answer.url)).unwrap_or_default();
        let (digest, expected) = (self.descriptor.digest.clone(), self.descriptor.size);
        Error::Mismatch { url, source: Mismatch::Size { digest, expected, actual } }
    }

    async fn reconnect_after(&mut self, error: Error, cut: Cut) -> Result<()> {
        let position = hasher_count(self.hasher.as_ref());
        if let (Some(session), Some((_, epoch))) = (self.places.first(), &self.permit) {
            session.host.heed(Err(&error), *epoch, &session.shared.options.retry);
        }
        if position >= self.failed_at + RENEWING_BYTES {
            self.budget.renew();
        }
        self.failed_at = position;
        match cut {
            Cut::Broken => self.wait(error).await,
            // Every further try may end as early, so that it is the size that is reported.
            Cut::Short if self.budget.spend() => Ok(()),
            Cut::Short => Err(self.wrong_size(position)),
        }
    }

    async fn wait(&mut self, error: Error) -> Result<()> {
        let Some(session) = self.places.first() else { return Err(error) };
        let what = format!("GET {}@{}", session.repository, self.descriptor.digest);
        self.budget.wait(&what, error, &*session.shared.options.events).await
    }

    /// Gets an answer whose body goes on where the blob stopped: from the place in use while its
    /// failures are transient and the budget lasts, else from the next place.
    async fn connect(&mut self) -> Result<()> {
        loop {
            let Some(session) = self.places.first().cloned() else {
                unreachable!("there is always a place left");
            };
            let error = match self.connect_to(&session).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let has_other = self.places.len() > 1;
            if has_other {
                tracing::debug!(%error, repository = %session.repository, "mirror passed over");
                self.places.remove(0);
            } else if retry::is_transient(&error) {
                self.wait(error).await?;
            } else {
                return Err(error);
            }
        }
    }

    async fn connect_to(&mut self, session: &Session) -> Result<()> {
        self.permit = None;
        let pace = &session.host.pace;
        let permit = (pace.enter(Lane::Downloads).await, pace.epoch());
        let position = hasher_count(self.hasher.as_ref());
        let url = session.url(&format!("blobs/{}", self.descriptor.digest)).await?;
        let scopes = vec![session.scope("pull")];
        let mut request = super::session::Request::new(Method::GET, url, scopes);
        if position > 0 {
            let range = HeaderValue::from_str(&format!("bytes={position}-"));
            request.headers = HeaderMap::from_iter([(RANGE, range.expect("digits make a header"))]);
        }
        let answer = session.send(&request).await?.expect_success().await?;
        let whole = match answer.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(answer.header(CONTENT_RANGE), position) => {
                self.skip = 0;
                self.descriptor.size.checked_sub(position)
            }
            StatusCode::OK => {
                self.skip = position;
                Some(self.descriptor.size)
            }
            _ => return Err(answer.protocol("the answer is not the range that was asked for")),
        };
        let length = answer.content_length();
        self.answer = Some(answer);
        if let (Some(expected), Some(actual)) = (whole, length)
            && actual != expected
        {
            return Err(self.wrong_size(actual + self.descriptor.size - expected));
        }
        self.permit = Some(permit);
        Ok(())
    }
}

impl Drop for BlobStream {
    fn drop(&mut self) {
        stream_failed(&mut self.hasher, &self.progress);
    }
}

impl std::fmt::Debug for BlobStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("BlobStream")
            .field("descriptor", &self.descriptor)
            .finish_non_exhaustive()
    }
}

/// How an answer stopped before the blob's end.
enum Cut {
    Broken,
    Short,
}

/// Ends the transfer as failed, once.
fn stream_failed(hasher: &mut Option<Hasher>, progress: &Progress) {
    if hasher.take().is_some() {
        progress.end(TransferOutcome::Failed);
    }
}

fn hasher_count(hasher: Option<&Hasher>) -> u64 {
    hasher.map_or(0, Hasher::count)
}

/// Returns whether `Content-Range: bytes first-last/length` begins at `position`.
fn begins_at(content_range: &str, position: u64) -> bool {
    let range = content_range.strip_prefix("bytes").map(str::trim_start);
    let first = range.and_then(|range| range.split('-').next());
    first.is_some_and(|first| first.trim().parse() == Ok(position))
}
