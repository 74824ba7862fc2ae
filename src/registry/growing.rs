//! Blobs that go out while they are still being written.
//!
//! By the case. The blob grows: an upload session is opened and one `PATCH` of unknown length sends
//! what is there, then waits for more (OCI distribution-spec, "Pushing a blob in chunks"; without
//! `Content-Range`, because registries refuse or spoil ranged ones). The blob is whole: the `PATCH`
//! ends, and a `PUT` with the digest closes the session; when much is left to send, the registry is
//! first asked whether it has the blob already. The blob is given up, or anything goes wrong: the
//! session is cancelled. Nothing is tried again here: the caller has the whole blob by then and
//! falls back on [`Client::push_blob`](super::Client::push_blob), which has its own budget.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use reqwest::{RequestBuilder, Url};
use tokio::sync::watch;

use super::answer::{Answer, transport};
use super::body::{CHUNK_BYTES, COMMIT_SPANS};
use super::location::{self, redacted};
use super::pace::Lane;
use super::progress::Progress;
use super::session::{Body, Request, Session};
use super::upload::{Opened, is_done};
use super::{Error, Pushed, Result};
use crate::image::Descriptor;

/// With more than this left to send of a whole blob, asking whether it is there is worth a request.
const WORTH_ASKING_BYTES: u64 = 16 << 20;

/// How far the writing of a [`Growing`] blob has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Growth {
    /// So many bytes, from the beginning, are in the file and do not change any more.
    Written(u64),
    /// The file holds the whole blob.
    Sealed(Box<Descriptor>),
    /// The blob will never be whole, or nobody wants it any more. Final.
    Abandoned,
}

/// A blob that is still being written to a file. A sender that is dropped counts as abandoned.
#[derive(Debug, Clone)]
pub struct Growing {
    /// The file; it is read by position, so others may write to it with the same offset.
    pub file: Arc<File>,
    /// How far it is.
    pub growth: watch::Receiver<Growth>,
}

impl Growing {
    /// Returns when the blob is whole, or never.
    async fn sealed(&self) -> Descriptor {
        let mut growth = self.growth.clone();
        if let Ok(Growth::Sealed(descriptor)) =
            growth.wait_for(|growth| matches!(growth, Growth::Sealed(_))).await.as_deref()
        {
            return descriptor.as_ref().clone();
        }
        std::future::pending().await
    }

    /// Returns when the blob is given up, or never.
    async fn abandoned(&self) {
        let mut growth = self.growth.clone();
        // An error means that the writer is gone, after the end or without one.
        let is_gone = growth.wait_for(|now| *now == Growth::Abandoned).await.is_err();
        if is_gone && matches!(*growth.borrow(), Growth::Sealed(_)) {
            std::future::pending::<()>().await;
        }
    }
}

/// The body of the `PATCH`: what is in the file, from the beginning at each try.
pub(super) struct Tail {
    growing: Growing,
    progress: Progress,
    sent: AtomicU64,
}

impl Tail {
    /// Sends `request` with the growing blob as its body, as long as what is there moves.
    pub(super) async fn send(
        self: &Arc<Self>,
        request: RequestBuilder,
        method: Method,
        url: Url,
        patience: Duration,
    ) -> Result<Answer> {
        let mut sending = std::pin::pin!(request.body(self.body()).send());
        let (mut before, mut idle) = (0, 0);
        loop {
            if let Ok(outcome) = tokio::time::timeout(patience, &mut sending).await {
                return match outcome {
                    Ok(response) => Ok(Answer::new(response, method, url, patience)),
                    Err(error) => Err(transport(&method, &url, error)),
                };
            }
            let sent = self.sent.load(Ordering::Relaxed);
            let limit = match &*self.growing.growth.borrow() {
                // Waits for the writer, not for the registry.
                Growth::Written(written) if *written <= sent => u32::MAX,
                Growth::Sealed(descriptor) if descriptor.size <= sent => COMMIT_SPANS,
                Growth::Written(_) | Growth::Sealed(_) | Growth::Abandoned => 1,
            };
            idle = if sent == before && limit != u32::MAX { idle + 1 } else { 0 };
            before = sent;
            if idle >= limit {
                let after = patience * limit;
                return Err(Error::Stalled { method, url: redacted(&url), after });
            }
        }
    }

    fn body(self: &Arc<Self>) -> reqwest::Body {
        self.sent.store(0, Ordering::Relaxed);
        self.progress.moved_to(0);
        let state = (Arc::clone(self), self.growing.growth.clone());
        reqwest::Body::wrap_stream(stream::try_unfold(state, async |(tail, mut growth)| {
            let position = tail.sent.load(Ordering::Relaxed);
            let piece = tail.piece(&mut growth, position).await?;
            if let Some(piece) = &piece {
                tail.progress.throttle.moved(piece.len() as u64).await;
            }
            Ok::<_, io::Error>(piece.map(|piece| {
                let sent = position + piece.len() as u64;
                tail.sent.store(sent, Ordering::Relaxed);
                tail.progress.moved_to(sent);
                (piece, (tail, growth))
            }))
        }))
    }

    /// Returns the next bytes as soon as there are some; `None` after the last.
    async fn piece(
        &self,
        growth: &mut watch::Receiver<Growth>,
        position: u64,
    ) -> io::Result<Option<Bytes>> {
        let given_up = || io::Error::new(io::ErrorKind::Interrupted, "the blob was given up");
        let is_news = |now: &Growth| !matches!(now, Growth::Written(end) if *end <= position);
        let end = match &*growth.wait_for(is_news).await.map_err(|_| given_up())? {
            Growth::Written(end) => *end,
            Growth::Sealed(descriptor) => descriptor.size,
            Growth::Abandoned => return Err(given_up()),
        };
        if position >= end {
            return Ok(None);
        }
        let size = usize::try_from(end - position).map_or(CHUNK_BYTES, |n| n.min(CHUNK_BYTES));
        let file = Arc::clone(&self.growing.file);
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; size];
            file.read_exact_at(&mut piece, position).map(|()| Bytes::from(piece))
        });
        read.await.map_err(io::Error::other)?.map(Some)
    }
}

/// One growing blob's way into one repository.
pub(super) struct GrowingPush<'a> {
    session: &'a Session,
    tail: Arc<Tail>,
    /// Where the session is to be continued, or cancelled.
    opened: Mutex<Option<Opened>>,
}

impl<'a> GrowingPush<'a> {
    pub(super) fn new(session: &'a Session, growing: Growing, progress: Progress) -> Self {
        let tail = Arc::new(Tail { growing, progress, sent: AtomicU64::new(0) });
        Self { session, tail, opened: Mutex::default() }
    }

    /// Sends the blob while it grows. When this returns, no session is left open.
    pub(super) async fn run(&self) -> Result<Pushed> {
        let growing = &self.tail.growing;
        let outcome = tokio::select! {
            outcome = self.transfer() => outcome,
            () = self.noticed_there() => Ok(Pushed::AlreadyThere),
            () = growing.abandoned() => Err(Error::Abandoned),
        };
        if !matches!(outcome, Ok(Pushed::Uploaded { .. })) {
            self.cancel().await;
        }
        outcome
    }

    async fn transfer(&self) -> Result<Pushed> {
        let access = self.session.host.access(&self.session.shared).await?;
        let manner = &self.session.host.manner;
        let url = self.session.url("blobs/uploads/").await?;
        if manner.max_body(&self.session.shared).await.is_some() {
            let (method, url) = (Method::PATCH, redacted(&url));
            let reason = "bodies are limited there, and nobody knows how large this one becomes";
            return Err(Error::Protocol { method, url, reason });
        }
        let pace = &self.session.host.pace;
        let _permit = pace.enter(Lane::Uploads).await;
        let post = self.request(Method::POST, url);
        let answer = self.session.send(&post).await?.expect_success().await?;
        let mut opened = Opened::by(&answer, post.scopes)
            .ok_or_else(|| answer.protocol("the upload's location is missing or malformed"))?;
        location::check(&access.base, &opened.location)?;
        self.continue_at(&opened);
        let mut patch = opened.request(Method::PATCH);
        let octets = HeaderValue::from_static("application/octet-stream");
        patch.headers.insert(CONTENT_TYPE, octets);
        patch.body = Body::Growing(Arc::clone(&self.tail));
        let answer = self.session.send(&patch).await?;
        // Amazon's registry says 201 here.
        if !is_done(answer.status()) {
            return Err(answer.into_error().await);
        }
        opened.follow(&answer);
        location::check(&access.base, &opened.location)?;
        self.continue_at(&opened);
        let descriptor = self.tail.growing.sealed().await;
        if self.tail.sent.load(Ordering::Relaxed) != descriptor.size {
            return Err(answer.protocol("the registry answered before it had the whole blob"));
        }
        let mut put = opened.request(Method::PUT);
        put.url.query_pairs_mut().append_pair("digest", &descriptor.digest.to_string());
        let answer = self.session.send(&put).await?;
        if !is_done(answer.status()) {
            return Err(answer.into_error().await);
        }
        pace.speed_up(Lane::Uploads);
        Ok(Pushed::Uploaded { bytes: descriptor.size })
    }

    /// Returns when the whole blob turns out to be in the repository while much of it is still to
    /// be sent; else never.
    async fn noticed_there(&self) {
        let descriptor = self.tail.growing.sealed().await;
        let left = descriptor.size.saturating_sub(self.tail.sent.load(Ordering::Relaxed));
        if left >= WORTH_ASKING_BYTES {
            let path = format!("blobs/{}", descriptor.digest);
            if let Ok(url) = self.session.url(&path).await {
                let mut head = self.request(Method::HEAD, url);
                head.headers = HeaderMap::new();
                // Whatever else the answer is, the upload goes on.
                if self.session.send(&head).await.is_ok_and(|answer| answer.has_blob(&descriptor)) {
                    return;
                }
            }
        }
        std::future::pending::<()>().await;
    }

    fn request(&self, method: Method, url: Url) -> Request {
        Request::new(method, url, vec![self.session.scope("pull,push")])
    }

    /// Remembers where the session goes on.
    fn continue_at(&self, session: &Opened) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        *opened = Some(session.clone());
    }

    async fn cancel(&self) {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(opened) = opened {
            opened.cancel(self.session).await;
        }
    }
}
