//! Bodies with the bytes of blobs.

use std::io::{self, Read as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Method;
use http::header::CONTENT_LENGTH;
use reqwest::{RequestBuilder, Url};
use tokio::sync::mpsc;

use super::answer::{Answer, transport};
use super::location::redacted;
use super::progress::Progress;
use super::{Error, Result};
use crate::blob::Source;
use crate::image::Digest;

/// Size of the pieces that a blob is read and sent in.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// Pieces read ahead of the network; with [`CHUNK_BYTES`] this bounds an upload's memory.
const CHUNKS_AHEAD: usize = 4;
/// How many times the idle timeout a registry has to store a blob that it has all of.
pub(super) const COMMIT_SPANS: u32 = 7;

/// Part of a blob, or all of it, as the body of a request. It is opened anew for each try.
pub(super) struct Upload {
    source: Arc<dyn Source>,
    digest: Digest,
    progress: Progress,
    /// Where in the blob the body begins.
    offset: u64,
    length: u64,
    sent: AtomicU64,
    failure: Mutex<Option<io::Error>>,
}

impl Upload {
    /// Returns a body of `length` bytes of the blob, from `offset` on.
    pub(super) fn new(
        source: &Arc<dyn Source>,
        digest: &Digest,
        progress: &Progress,
        offset: u64,
        length: u64,
    ) -> Self {
        Self {
            source: Arc::clone(source),
            digest: digest.clone(),
            progress: progress.clone(),
            offset,
            length,
            sent: AtomicU64::new(0),
            failure: Mutex::new(None),
        }
    }

    /// Sends `request` with the blob as its body, as long as the blob moves.
    pub(super) async fn send(
        self: &Arc<Self>,
        request: RequestBuilder,
        method: Method,
        url: Url,
        patience: Duration,
    ) -> Result<Answer> {
        let request = request.header(CONTENT_LENGTH, self.length).body(self.body());
        let mut sending = std::pin::pin!(request.send());
        let (mut before, mut idle) = (0, 0);
        loop {
            let Ok(outcome) = tokio::time::timeout(patience, &mut sending).await else {
                let sent = self.sent.load(Ordering::Relaxed);
                idle = if sent == before { idle + 1 } else { 0 };
                before = sent;
                let limit = if sent == self.length { COMMIT_SPANS } else { 1 };
                if idle >= limit {
                    return Err(Error::Stalled {
                        method,
                        url: redacted(&url),
                        after: patience * limit,
                    });
                }
                continue;
            };
            return match outcome {
                Ok(response) => Ok(Answer::new(response, method, url, patience)),
                Err(error) => match self.take_failure() {
                    Some(source) => Err(Error::Source { digest: self.digest.clone(), source }),
                    None => Err(transport(&method, &url, error)),
                },
            };
        }
    }

    fn take_failure(&self) -> Option<io::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn body(self: &Arc<Self>) -> reqwest::Body {
        self.sent.store(0, Ordering::Relaxed);
        self.progress.moved_to(self.offset);
        if self.length == 0 {
            return reqwest::Body::from("");
        }
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let reader = Arc::clone(self);
        // Ends when everything is read or the receiver is gone.
        tokio::task::spawn_blocking(move || reader.read_into(&sender));
        let state = (receiver, Arc::clone(self));
        reqwest::Body::wrap_stream(stream::unfold(state, async |(mut receiver, upload)| {
            let piece: Result<Bytes, io::Error> = receiver.recv().await?;
            if let Ok(bytes) = &piece {
                let count = bytes.len() as u64;
                upload.progress.throttle.moved(count).await;
                let sent = upload.sent.fetch_add(count, Ordering::Relaxed) + count;
                upload.progress.moved_to(upload.offset + sent);
            }
            Some((piece, (receiver, upload)))
        }))
    }

    fn read_into(&self, sender: &mpsc::Sender<Result<Bytes, io::Error>>) {
        if let Err(error) = self.try_read_into(sender) {
            let kind = error.kind();
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            // Breaks the request off. The receiver may be gone already.
            let _ = sender.blocking_send(Err(io::Error::from(kind)));
        }
    }

    fn try_read_into(&self, sender: &mpsc::Sender<Result<Bytes, io::Error>>) -> io::Result<()> {
        let mut left = self.length;
        let mut reader = self.source.open(self.offset)?;
        while left > 0 {
            let most = self.progress.throttle.piece(CHUNK_BYTES);
            let size = usize::try_from(left).map_or(most, |left| left.min(most));
            let mut piece = vec![0; size];
            reader.read_exact(&mut piece)?;
            left -= size as u64;
            if sender.blocking_send(Ok(Bytes::from(piece))).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}
