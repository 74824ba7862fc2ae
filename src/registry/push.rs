//! Blobs on their way out (OCI distribution-spec, "Pushing blobs").

use std::io::{self, Read as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{RequestBuilder, Url};
use tokio::sync::mpsc;

use super::answer::{Answer, transport};
use super::location::{self, redacted};
use super::pace::Lane;
use super::progress::Progress;
use super::session::{Body, Request, Session};
use super::{Error, Pushed, Result};
use crate::blob::Source;
use crate::image::{Descriptor, Digest, RepositoryName};

/// Size of the pieces that a blob is read and sent in.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// Pieces read ahead of the network; with [`CHUNK_BYTES`] this bounds an upload's memory.
const CHUNKS_AHEAD: usize = 4;
/// How many times the idle timeout a registry has to store a blob that it has all of.
pub(super) const COMMIT_SPANS: u32 = 7;
/// How many repositories are tried for a mount: each costs a round trip.
const MAX_MOUNTS: usize = 3;

/// The body of an upload, which is opened anew for each try.
pub(super) struct Upload {
    source: Arc<dyn Source>,
    digest: Digest,
    progress: Progress,
    sent: AtomicU64,
    failure: Mutex<Option<io::Error>>,
}

impl Upload {
    /// Sends `request` with the blob as its body, as long as the blob moves.
    pub(super) async fn send(
        self: &Arc<Self>,
        request: RequestBuilder,
        method: Method,
        url: Url,
        patience: Duration,
    ) -> Result<Answer> {
        let request = request.header(CONTENT_LENGTH, self.source.size()).body(self.body());
        let mut sending = std::pin::pin!(request.send());
        let (mut before, mut idle) = (0, 0);
        loop {
            let Ok(outcome) = tokio::time::timeout(patience, &mut sending).await else {
                let sent = self.sent.load(Ordering::Relaxed);
                idle = if sent == before { idle + 1 } else { 0 };
                before = sent;
                let limit = if sent == self.source.size() { COMMIT_SPANS } else { 1 };
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
        self.progress.moved_to(0);
        if self.source.size() == 0 {
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
                upload.progress.moved_to(sent);
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
        let mut left = self.source.size();
        let mut reader = self.source.open(0)?;
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

/// One blob's way into one repository.
pub(super) struct Push<'a> {
    pub(super) session: &'a Session,
    pub(super) descriptor: &'a Descriptor,
    pub(super) source: Arc<dyn Source>,
    pub(super) mount_from: &'a [RepositoryName],
    pub(super) progress: Progress,
}

/// An upload session: where the bytes go, with which scopes.
struct Opened {
    location: Url,
    scopes: Vec<String>,
}

enum Mount {
    Mounted,
    /// The registry opened an upload session instead.
    Opened(Opened),
    Refused,
}

impl Push<'_> {
    /// Brings the blob there: asks for it, tries to mount it, sends it.
    ///
    /// After a failed try everything begins anew with the question whether the blob is there,
    /// because a commit that seemed to fail may have succeeded; only the mount is not repeated.
    pub(super) async fn run(&self) -> Result<Pushed> {
        let mut budget = self.session.budget();
        let path = format!("blobs/{}", self.descriptor.digest);
        let mut may_mount = true;
        loop {
            let head = self.session.send_with_retries(
                Method::HEAD,
                &path,
                HeaderMap::new(),
                "pull,push",
                &mut budget,
            );
            // Any other status is left to the POST, whose error has a body that says why.
            if head.await?.has_blob(self.descriptor) {
                return Ok(Pushed::AlreadyThere);
            }
            let url = self.session.url("blobs/uploads/").await?;
            let request = Request::new(Method::POST, url, vec![self.session.scope("pull,push")]);
            let outcome = self.transfer(&request, may_mount).await;
            may_mount = false;
            match outcome {
                Ok(pushed) => return Ok(pushed),
                Err(Error::Status(error)) if is_lost_session(&error) => {
                    let error = Error::Status(Box::new(super::StatusError {
                        status: StatusCode::SERVICE_UNAVAILABLE,
                        ..*error
                    }));
                    self.session.wait(&request, error, &mut budget).await?;
                }
                Err(error) => self.session.wait(&request, error, &mut budget).await?,
            }
        }
    }

    async fn transfer(&self, post: &Request, may_mount: bool) -> Result<Pushed> {
        let mut opened = None;
        let candidates = if may_mount { self.mount_from } else { &[] };
        let others = candidates.iter().filter(|name| **name != self.session.repository.name);
        for from in others.take(MAX_MOUNTS) {
            match self.mount(post, from).await? {
                Mount::Mounted => return Ok(Pushed::Mounted),
                Mount::Opened(session) => {
                    opened = Some(session);
                    break;
                }
                Mount::Refused => {}
            }
        }
        let opened = match opened {
            Some(opened) => opened,
            None => self.open(post).await?,
        };
        self.put(opened).await
    }

    /// Asks the registry to take the blob from `from`. The token needs both repositories; a
    /// refusal of any kind only means that the blob is sent.
    async fn mount(&self, post: &Request, from: &RepositoryName) -> Result<Mount> {
        let mut request = post.clone();
        request.scopes.push(format!("repository:{from}:pull"));
        request
            .url
            .query_pairs_mut()
            .append_pair("mount", &self.descriptor.digest.to_string())
            .append_pair("from", from.as_str());
        let answer = match self.session.send(&request).await {
            Ok(answer) => answer,
            Err(Error::Token { source, .. }) if source.status().is_some() => {
                return Ok(Mount::Refused);
            }
            Err(error) => return Err(error),
        };
        match answer.status() {
            StatusCode::CREATED => Ok(Mount::Mounted),
            StatusCode::ACCEPTED => Ok(match location::of(answer.headers(), &answer.url) {
                Some(location) => Mount::Opened(Opened { location, scopes: request.scopes }),
                None => Mount::Refused,
            }),
            status => {
                tracing::debug!(%status, %from, "the registry does not mount");
                Ok(Mount::Refused)
            }
        }
    }

    async fn open(&self, post: &Request) -> Result<Opened> {
        let answer = self.session.send(post).await?.expect_success().await?;
        let location = location::of(answer.headers(), &answer.url)
            .ok_or_else(|| answer.protocol("the upload's location is missing or malformed"))?;
        Ok(Opened { location, scopes: post.scopes.clone() })
    }

    async fn put(&self, opened: Opened) -> Result<Pushed> {
        let access = self.session.host.access(&self.session.shared).await?;
        location::check(&access.base, &opened.location)?;
        let pace = &self.session.host.pace;
        let _permit = pace.enter(Lane::Uploads).await;
        let mut url = opened.location;
        url.query_pairs_mut().append_pair("digest", &self.descriptor.digest.to_string());
        let mut request = Request::new(Method::PUT, url, opened.scopes);
        let octets = HeaderValue::from_static("application/octet-stream");
        request.headers.insert(CONTENT_TYPE, octets);
        request.body = Body::Blob(Arc::new(Upload {
            source: Arc::clone(&self.source),
            digest: self.descriptor.digest.clone(),
            progress: self.progress.clone(),
            sent: AtomicU64::new(0),
            failure: Mutex::new(None),
        }));
        let answer = self.session.send(&request).await?;
        match answer.status() {
            StatusCode::CREATED | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
                pace.speed_up(Lane::Uploads);
                Ok(Pushed::Uploaded { bytes: self.source.size() })
            }
            _ => Err(answer.into_error().await),
        }
    }
}

/// Returns whether the registry forgot the upload session, which a new one mends (GitLab and
/// ACR after a network loss).
fn is_lost_session(error: &super::StatusError) -> bool {
    error.status == StatusCode::NOT_FOUND
        && error.method == Method::PUT
        && (error.has_code("BLOB_UPLOAD_UNKNOWN") || error.has_code("BLOB_UPLOAD_INVALID"))
}
