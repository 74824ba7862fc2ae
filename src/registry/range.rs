//! A part of a blob on its way in, taken up again where it broke off.

use bytes::Bytes;
use http::header::{CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::answer::Answer;
use super::location::redacted;
use super::pace::{Epoch, Lane, Permit};
use super::retry::{self, Budget};
use super::session::{Request, Session};
use super::{Error, Result};
use crate::blob::Mismatch;
use crate::image::Descriptor;

/// A download that came on so far since its last failure has all its tries again: a bad network may
/// break a large blob off any number of times, as long as it gets there.
const RENEWING_BYTES: u64 = 4 << 20;

/// What to do where the registry gives the whole blob though a part was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WholeBlob {
    /// Read past what is not wanted, then on to the blob's end.
    Take,
    /// Fail: others are fetching the rest.
    Refuse,
}

/// Bytes of a part of a blob as they arrive. They are not verified.
///
/// Each try asks the registry itself, never the place where it redirected to before: such places
/// are valid for minutes only.
pub(super) struct RangeStream {
    /// Where the blob may be had, the place in use first.
    places: Vec<Session>,
    descriptor: Descriptor,
    budget: Budget,
    /// Where the next byte belongs.
    position: u64,
    /// Where the part ends.
    end: u64,
    whole_blob: WholeBlob,
    /// Whether a part was refused, or answered with another one.
    is_refused: bool,
    answer: Option<Answer>,
    /// Bytes at the answer's beginning that are not wanted.
    skip: u64,
    /// Where the connection broke last.
    failed_at: u64,
    /// Held while bytes may come.
    permit: Option<(Permit, Epoch)>,
    /// The permit for the next request, when it is held already.
    reserved: Option<Permit>,
    /// Whether the answer does not say how long it is, so that its end is to be looked at.
    is_open_ended: bool,
    /// Which of several connections to one server is used.
    strand: usize,
    /// What the last answer showed.
    shown: Shown,
    /// Whether it was said which mirror serves the blob.
    is_said: bool,
}

/// What an answer showed of who gave it.
#[derive(Debug, Clone, Copy, Default)]
struct Shown {
    gives_parts: bool,
    /// Whether all requests to the server share one connection unless told otherwise.
    is_multiplexed: bool,
}

impl RangeStream {
    /// Returns the part from `position` to `end`. Asks nobody yet.
    pub(super) fn new(
        places: Vec<Session>,
        descriptor: Descriptor,
        budget: Budget,
        (position, end): (u64, u64),
        whole_blob: WholeBlob,
    ) -> Self {
        Self {
            places,
            descriptor,
            budget,
            position,
            end,
            whole_blob,
            is_refused: false,
            answer: None,
            skip: 0,
            failed_at: position,
            permit: None,
            reserved: None,
            is_open_ended: false,
            strand: 0,
            shown: Shown::default(),
            is_said: false,
        }
    }

    /// Returns another part of the same blob, to be had beside this one; `None` when the registry
    /// has not shown that it gives parts, or `most` downloads from it are under way.
    pub(super) fn beside(&self, part: (u64, u64), strand: usize, most: usize) -> Option<Self> {
        let session = self.places.first().filter(|_| self.shown.gives_parts)?;
        let permit = session.host.pace.try_enter(Lane::Downloads, most)?;
        // Each part is as much as gives a download all its tries again.
        let (places, budget) = (self.places.clone(), Budget::new(session.shared.options.retry));
        let mut other = Self::new(places, self.descriptor.clone(), budget, part, WholeBlob::Refuse);
        other.reserved = Some(permit);
        other.strand = if self.shown.is_multiplexed { strand } else { 0 };
        other.is_said = true;
        Some(other)
    }

    /// Goes on with the part from `position` to `end`.
    pub(super) fn go_on(&mut self, (position, end): (u64, u64)) {
        (self.position, self.end, self.failed_at) = (position, end, position);
    }

    /// Returns where the part ends. That changes where the registry gives the whole blob instead.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Makes sure that there is an answer to read from, unless nothing is to be read.
    pub(super) async fn open(&mut self) -> Result<()> {
        if self.answer.is_none() && self.position < self.end {
            self.connect().await?;
        }
        Ok(())
    }

    /// Returns the next bytes, or `None` at the end of the part.
    ///
    /// A broken connection is taken up again where it broke, within the budget.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.position == self.end {
                return self.finish().await.map(|()| None);
            }
            let Some(answer) = &mut self.answer else {
                self.connect().await?;
                continue;
            };
            match answer.chunk().await {
                Ok(Some(chunk)) => {
                    let Some(chunk) = self.wanted(chunk)? else { continue };
                    self.position += chunk.len() as u64;
                    if let Some(session) = self.places.first() {
                        session.shared.throttle.moved(chunk.len() as u64).await;
                    }
                    return Ok(Some(chunk));
                }
                Ok(None) => {
                    // Every further try may end as early: then it is the size that is reported.
                    let error = answer.protocol("the answer ended before the blob did");
                    self.broke_off(&error);
                    if !self.budget.spend() {
                        return Err(self.wrong_size(self.position));
                    }
                }
                Err(error) => {
                    self.broke_off(&error);
                    self.wait(error).await?;
                }
            }
        }
    }

    /// Looks whether anything comes after the blob's end, where the answer did not say its length.
    async fn finish(&mut self) -> Result<()> {
        let is_whole = self.is_open_ended && self.end == self.descriptor.size;
        if let Some(answer) = self.answer.as_mut().filter(|_| is_whole)
            && let Ok(Some(more)) = answer.chunk().await
        {
            return Err(self.wrong_size(self.end + more.len() as u64));
        }
        // The next part, if there is one, may begin at once.
        let permit = self.permit.take();
        self.close();
        self.reserved = permit.map(|(permit, _)| permit);
        Ok(())
    }

    /// Returns the part of a chunk that is wanted; `None` when nothing is.
    fn wanted(&mut self, mut chunk: Bytes) -> Result<Option<Bytes>> {
        let skipped = self.skip.min(chunk.len() as u64);
        self.skip -= skipped;
        // At most the chunk's own length.
        let mut chunk = chunk.split_off(usize::try_from(skipped).unwrap_or(chunk.len()));
        let left = self.end - self.position;
        if chunk.len() as u64 > left {
            if self.end == self.descriptor.size {
                return Err(self.wrong_size(self.position + chunk.len() as u64));
            }
            chunk.truncate(usize::try_from(left).unwrap_or(chunk.len()));
        }
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }

    /// Says that the part is there and was what it should be: the registry may get more to do.
    pub(super) fn went_well(&self) {
        if let Some(session) = self.places.first() {
            session.host.pace.speed_up(Lane::Downloads);
        }
    }

    /// Lets go of the connection, and lets others have its place.
    pub(super) fn close(&mut self) {
        self.answer = None;
        self.permit = None;
        self.reserved = None;
    }

    /// Returns the redacted URL of the blob where it is being had.
    pub(super) fn url(&self) -> String {
        match (&self.answer, self.places.first()) {
            (Some(answer), _) => redacted(&answer.url),
            (None, Some(session)) => format!("{}@{}", session.repository, self.descriptor.digest),
            (None, None) => self.descriptor.digest.to_string(),
        }
    }

    fn wrong_size(&self, actual: u64) -> Error {
        let (digest, expected) = (self.descriptor.digest.clone(), self.descriptor.size);
        Error::Mismatch { url: self.url(), source: Mismatch::Size { digest, expected, actual } }
    }

    fn broke_off(&mut self, error: &Error) {
        if let (Some(session), Some((_, epoch))) = (self.places.first(), &self.permit) {
            session.host.heed(Err(error), *epoch, &session.shared.options.retry);
        }
        if self.position >= self.failed_at + RENEWING_BYTES {
            self.budget.renew();
        }
        self.failed_at = self.position;
        self.close();
    }

    async fn wait(&mut self, error: Error) -> Result<()> {
        let Some(session) = self.places.first() else { return Err(error) };
        let what = format!("GET {}@{}", session.repository, self.descriptor.digest);
        self.budget.wait(&what, error, &*session.shared.options.events).await
    }

    /// Gets an answer whose body goes on where the part stopped: from the place in use while its
    /// failures are transient and the budget lasts, else from the next place.
    async fn connect(&mut self) -> Result<()> {
        loop {
            let Some(session) = self.places.first().cloned() else {
                unreachable!("there is always a place left");
            };
            let error = match self.connect_to(&session).await {
                Ok(()) => {
                    if !std::mem::replace(&mut self.is_said, true) {
                        session.served(&self.descriptor.digest);
                    }
                    return Ok(());
                }
                Err(error) => error,
            };
            let has_other = self.places.len() > 1;
            if has_other {
                tracing::debug!(%error, repository = %session.repository, "mirror passed over");
                self.places.remove(0);
                (self.is_refused, self.is_said) = (false, false);
            } else if self.is_refused && self.whole_blob == WholeBlob::Take && self.budget.spend() {
                tracing::debug!(%error, "asked for the whole blob instead of its rest");
            } else if retry::is_transient(&error) {
                self.wait(error).await?;
            } else {
                return Err(error);
            }
        }
    }

    /// Sends the request and checks that the answer is what was asked for.
    async fn connect_to(&mut self, session: &Session) -> Result<()> {
        let reserved = self.reserved.take();
        self.close();
        let pace = &session.host.pace;
        let permit = match reserved {
            Some(permit) => permit,
            None => pace.enter(Lane::Downloads).await,
        };
        let epoch = pace.epoch();
        let url = session.url(&format!("blobs/{}", self.descriptor.digest)).await?;
        let mut request = Request::new(Method::GET, url, vec![session.scope("pull")]);
        let range = self.range().filter(|_| !self.is_refused);
        let asks_for_part = range.is_some();
        request.headers = HeaderMap::from_iter(range.map(|range| (RANGE, range)));
        request.strand = self.strand;
        let answer = session.send(&request).await?;
        if asks_for_part && answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            self.is_refused = true;
        }
        let answer = answer.expect_success().await?;
        let expected = match answer.status() {
            StatusCode::PARTIAL_CONTENT if asks_for_part => {
                let Some(last) = self.last_of(&answer) else {
                    self.is_refused = true;
                    return Err(answer.protocol("the answer is not the range that was asked for"));
                };
                self.skip = 0;
                last + 1 - self.position
            }
            StatusCode::OK if asks_for_part && self.whole_blob == WholeBlob::Refuse => {
                return Err(answer.protocol("the registry gives no parts of blobs"));
            }
            StatusCode::OK => {
                self.skip = self.position;
                self.descriptor.size
            }
            _ => return Err(answer.protocol("the answer is not the blob")),
        };
        self.shown = Shown {
            gives_parts: answer.status() == StatusCode::PARTIAL_CONTENT,
            is_multiplexed: answer.is_multiplexed(),
        };
        if !self.shown.gives_parts {
            self.end = self.descriptor.size;
        }
        let length = answer.content_length();
        self.is_open_ended = length.is_none();
        self.answer = Some(answer);
        if let Some(actual) = length.filter(|length| *length != expected) {
            return Err(self.wrong_size((actual + self.descriptor.size).saturating_sub(expected)));
        }
        self.permit = Some((permit, epoch));
        Ok(())
    }

    /// Returns the value of `Range`; `None` for the whole blob.
    fn range(&self) -> Option<HeaderValue> {
        let (first, last) = (self.position, self.end - 1);
        let text = match (first, self.end == self.descriptor.size) {
            (0, true) => return None,
            (first, true) => format!("bytes={first}-"),
            (first, false) => format!("bytes={first}-{last}"),
        };
        Some(HeaderValue::from_str(&text).expect("digits make a header"))
    }

    /// Returns where the part that was sent ends, when it begins where it should.
    fn last_of(&self, answer: &Answer) -> Option<u64> {
        let mut values = answer.headers().get_all(CONTENT_RANGE).into_iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let (first, last, size) = parse_content_range(value.to_str().ok()?)?;
        let is_right = first == self.position
            && (first..self.end).contains(&last)
            && size.is_none_or(|size| size == self.descriptor.size);
        is_right.then_some(last)
    }
}

/// Reads `bytes first-last/size`, whose size may be `*` (RFC 9110, section 14.4).
pub(super) fn parse_content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, size) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let size = if size.trim() == "*" { None } else { Some(number(size)?) };
    Some((number(first)?, number(last)?, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(parse_content_range("bytes 5-12/13"), Some((5, 12, Some(13))));
        assert_eq!(parse_content_range(" bytes 0-0/*"), Some((0, 0, None)));
        for text in ["", "bytes */13", "5-12/13", "bytes 5-12", "bytes a-b/c", "items 1-2/3"] {
            assert_eq!(parse_content_range(text), None, "{text}");
        }
    }
}
