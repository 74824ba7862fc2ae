//! Blobs on their way out (OCI distribution-spec, "Pushing blobs").
//!
//! By the case. The registry has it in another repository: it is mounted before anything is asked,
//! unless the blob may well be there or the registry has refused before. The blob is there, by `HEAD`:
//! nothing to do. The registry has it elsewhere: it is mounted; a registry that opens a session
//! instead is taken at its word. Else it goes out by one
//! `PUT`, or in parts (see [`parts`]). A body was too large: it is sent in smaller parts. Parts are
//! refused or lost: the blob is sent whole. The connection broke, or the registry failed: it is asked
//! whether the blob is there after all, then how far the session is, and the rest is sent. The
//! session is lost: a new one is opened. A large blob's session is noted, so that the next run
//! goes on where a killed one stopped. A session that nobody goes on with is cancelled.

use std::sync::Arc;

use http::header::{CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::answer::Answer;
use super::body::Upload;
use super::location;
use super::pace::Lane;
use super::parts::{self, Need, Way};
use super::progress::Progress;
use super::quirks::{Mounting, RangedPatch, Support};
use super::session::{Body, Request, Session};
use super::trail::{Instead, Trail};
use super::upload::{Opened, is_done, received};
use super::{Error, Pushed, Result, StatusError, retry};
use crate::blob::Source;
use crate::image::{Algorithm, Descriptor, RepositoryName};

/// How many repositories are tried for a mount: each costs a round trip.
const MAX_MOUNTS: usize = 3;
/// How often in one push a registry may expect other bytes than it is sent, or take fewer.
const MAX_CORRECTIONS: u32 = 8;
/// After so many broken connections with one size of body, a smaller one is tried: some proxies
/// hang up on a body that is too large.
const BREAKS: u32 = 2;

/// One blob's way into one repository.
pub(super) struct Push<'a> {
    pub(super) session: &'a Session,
    pub(super) descriptor: &'a Descriptor,
    pub(super) source: Arc<dyn Source>,
    pub(super) mount_from: &'a [RepositoryName],
    pub(super) progress: Progress,
}

enum Begun {
    Done(Pushed),
    Opened(Opened),
}

enum Mount {
    Mounted,
    /// The registry opened an upload session instead.
    Opened(Opened),
    Refused,
}

/// What to do after a failure.
enum Verdict {
    /// Another way is taken at once.
    Again,
    /// The same is tried later, when that has any use.
    Later(Error),
    Never(Error),
}

impl Push<'_> {
    /// Brings the blob there: asks for it, tries to mount it, sends it.
    ///
    /// After a failed try comes the question whether the blob is there, because a commit that seemed
    /// to fail may have succeeded; only the mount is not repeated.
    pub(super) async fn run(&self) -> Result<Pushed> {
        let mut budget = self.session.budget();
        let path = format!("blobs/{}", self.descriptor.digest);
        let mut trail = Trail::default();
        if self.mounts_at_once() && self.mount_at_once(&mut trail).await {
            self.progress.start();
            return Ok(Pushed::Mounted);
        }
        loop {
            let head = self.session.send_with_retries(
                Method::HEAD,
                &path,
                HeaderMap::new(),
                "pull,push",
                &mut budget,
            );
            // Any other status is left to the POST, whose error has a body that says why.
            let head = head.await?;
            self.progress.start();
            if head.has_blob(self.descriptor) {
                trail.abandon(self.session).await;
                return Ok(Pushed::AlreadyThere);
            }
            let error = match self.attempt(&mut trail).await {
                Ok(pushed) => {
                    trail.learn(self.session).await;
                    return Ok(pushed);
                }
                Err(error) => error,
            };
            let failed = match self.judge(&mut trail, error).await {
                Verdict::Again => continue,
                Verdict::Later(error) => {
                    let what =
                        format!("PUT {}@{}", self.session.repository, self.descriptor.digest);
                    budget.wait(&what, error, &*self.session.shared.options.events).await
                }
                Verdict::Never(error) => Err(error),
            };
            if let Err(error) = failed {
                // A later run goes on with what was noted.
                if trail.note.is_none() || !retry::is_transient(&error) {
                    trail.abandon(self.session).await;
                }
                return Err(error);
            }
        }
    }

    /// Returns whether to mount the blob without asking for it first: another repository has it, and
    /// this one is not believed to.
    fn mounts_at_once(&self) -> bool {
        let manner = &self.session.host.manner;
        !self.mount_from.is_empty()
            && !self.mount_from.contains(&self.session.repository.name)
            && manner.quirks().mounting == Mounting::From
            && manner.may_mount_at_once()
    }

    /// Has the registry take the blob from another repository; returns whether it did. One that does
    /// not is asked first from then on; a session that it opened instead is kept for the upload.
    async fn mount_at_once(&self, trail: &mut Trail) -> bool {
        let Ok(post) = self.post().await else { return false };
        let mut instead = Instead::Nothing;
        for from in self.mount_from.iter().take(MAX_MOUNTS) {
            match self.mount(&post, from).await {
                Ok(Mount::Mounted) => return true,
                Ok(Mount::Opened(opened)) => {
                    instead = Instead::Opened(opened);
                    break;
                }
                Ok(Mount::Refused) => {}
                Err(error) => {
                    tracing::debug!(%error, "the registry is asked what it has first");
                    return false;
                }
            }
        }
        trail.instead = instead;
        self.session.host.manner.mounts_not_at_once();
        false
    }

    async fn post(&self) -> Result<Request> {
        let url = self.session.url("blobs/uploads/").await?;
        let mut post = Request::new(Method::POST, url, vec![self.session.scope("pull,push")]);
        let algorithm = self.descriptor.digest.algorithm();
        if algorithm != Algorithm::Sha256 {
            post.url.query_pairs_mut().append_pair("digest-algorithm", algorithm.name());
        }
        Ok(post)
    }

    async fn attempt(&self, trail: &mut Trail) -> Result<Pushed> {
        if !trail.has_tried {
            trail.take_note(self.session, &self.descriptor.digest, self.source.size()).await;
        }
        let mut offset = 0;
        if let Some(mut opened) = trail.opened.clone() {
            let ranged = trail.ranged(self.session).await;
            match opened.ask(self.session).await? {
                Some(at)
                    if at == 0 || ranged != RangedPatch::Unusable && at <= self.source.size() =>
                {
                    offset = at;
                    trail.opened = Some(opened);
                }
                Some(_) => trail.abandon(self.session).await,
                None => trail.opened = None,
            }
        }
        if trail.opened.is_none() {
            let begun = self.begin(trail).await;
            trail.has_tried = true;
            match begun? {
                Begun::Done(pushed) => return Ok(pushed),
                Begun::Opened(opened) => trail.opened = Some(opened),
            }
        }
        trail.has_tried = true;
        let _permit = self.session.host.pace.enter(Lane::Uploads).await;
        self.send(trail, offset).await
    }

    /// Gets the blob mounted, or a session opened.
    async fn begin(&self, trail: &mut Trail) -> Result<Begun> {
        if let Some(opened) = trail.instead.take() {
            return Ok(Begun::Opened(opened));
        }
        let post = self.post().await?;
        let quirks = self.session.host.manner.quirks();
        let may_mount =
            !trail.has_tried && !trail.instead.is_asked() && quirks.mounting != Mounting::Shared;
        let candidates = if may_mount { self.mount_from } else { &[] };
        let others = candidates.iter().filter(|name| **name != self.session.repository.name);
        for from in others.take(MAX_MOUNTS) {
            match self.mount(&post, from).await? {
                Mount::Mounted => return Ok(Begun::Done(Pushed::Mounted)),
                Mount::Opened(opened) => return Ok(Begun::Opened(opened)),
                Mount::Refused => {}
            }
        }
        if quirks.single_post == Support::Yes && self.way(trail, 0, 0).await == Way::Whole {
            return self.post_whole(trail, post).await;
        }
        let answer = self.session.send(&post).await?.expect_success().await?;
        opened_by(&answer, post.scopes).map(Begun::Opened)
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
            StatusCode::ACCEPTED => Ok(match Opened::by(&answer, request.scopes) {
                Some(opened) => Mount::Opened(opened),
                None => Mount::Refused,
            }),
            status => {
                tracing::debug!(%status, %from, "the registry does not mount");
                Ok(Mount::Refused)
            }
        }
    }

    /// Sends the blob without a session. A registry that opens one all the same is followed.
    async fn post_whole(&self, trail: &mut Trail, mut post: Request) -> Result<Begun> {
        post.url.query_pairs_mut().append_pair("digest", &self.descriptor.digest.to_string());
        let size = self.source.size();
        self.fill(trail, &mut post, 0, size);
        let answer = self.session.send(&post).await?.expect_success().await?;
        if answer.status() == StatusCode::ACCEPTED {
            return opened_by(&answer, post.scopes).map(Begun::Opened);
        }
        Ok(Begun::Done(Pushed::Uploaded { bytes: size }))
    }

    /// Sends what is missing from `offset` on.
    async fn send(&self, trail: &mut Trail, mut offset: u64) -> Result<Pushed> {
        let access = self.session.host.access(&self.session.shared).await?;
        loop {
            let Some(opened) = trail.opened.clone() else {
                unreachable!("bytes are sent within a session")
            };
            location::check(&access.base, &opened.location)?;
            trail.keep_note(self.session, &opened.location).await;
            offset = match self.way(trail, offset, opened.min_chunk).await {
                Way::Whole => return self.commit(trail, opened, self.source.size()).await,
                Way::Parts(_) if offset == self.source.size() => {
                    return self.commit(trail, opened, 0).await;
                }
                Way::Parts(most) => self.patch(trail, opened, offset, most).await?,
            };
        }
    }

    /// Ends the session, with the first `length` bytes of the blob in the same request.
    async fn commit(&self, trail: &mut Trail, opened: Opened, length: u64) -> Result<Pushed> {
        let mut request = opened.request(Method::PUT);
        request.url.query_pairs_mut().append_pair("digest", &self.descriptor.digest.to_string());
        if length > 0 || self.source.size() == 0 {
            self.fill(trail, &mut request, 0, length);
        }
        let answer = self.session.send(&request).await?;
        if !is_done(answer.status()) {
            return Err(answer.into_error().await);
        }
        self.session.host.pace.speed_up(Lane::Uploads);
        Ok(Pushed::Uploaded { bytes: self.source.size() })
    }

    /// Sends a part; returns where the next one begins.
    async fn patch(
        &self,
        trail: &mut Trail,
        mut opened: Opened,
        offset: u64,
        most: u64,
    ) -> Result<u64> {
        let size = self.source.size();
        let end = size.min(offset.saturating_add(most));
        let mut request = opened.request(Method::PATCH);
        // Without a unit: OCI distribution-spec, "Pushing a blob in chunks".
        let range = HeaderValue::from_str(&format!("{offset}-{}", end.saturating_sub(1)));
        request.headers.insert(CONTENT_RANGE, range.expect("digits make a header"));
        self.fill(trail, &mut request, offset, end - offset);
        trail.in_parts = true;
        let answer = self.session.send(&request).await?;
        let received = received(&answer);
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE
            && trail.corrections < MAX_CORRECTIONS
            && let Some(expected) = received.filter(|expected| *expected <= size)
        {
            trail.corrections += 1;
            opened.follow(&answer);
            trail.opened = Some(opened);
            return Ok(expected);
        }
        // Amazon's registry says 201 here.
        if !is_done(answer.status()) {
            return Err(answer.into_error().await);
        }
        opened.follow(&answer);
        trail.opened = Some(opened);
        trail.breaks = 0;
        let next = parts::next_offset(offset, end, received);
        trail.corrections += u32::from(next != Some(end));
        next.filter(|_| trail.corrections <= MAX_CORRECTIONS)
            .ok_or_else(|| answer.protocol("the registry lost a part that it had taken"))
    }

    fn fill(&self, trail: &mut Trail, request: &mut Request, offset: u64, length: u64) {
        let octets = HeaderValue::from_static("application/octet-stream");
        request.headers.insert(CONTENT_TYPE, octets);
        let digest = &self.descriptor.digest;
        let upload = Upload::new(&self.source, digest, &self.progress, offset, length);
        request.body = Body::Blob(Arc::new(upload));
        (trail.in_parts, trail.sending) = (false, length);
    }

    async fn way(&self, trail: &Trail, offset: u64, min_chunk: u64) -> Way {
        let manner = &self.session.host.manner;
        let known = manner.max_body(&self.session.shared).await;
        let limit = known.into_iter().chain(trail.limit).chain(trail.caution).min();
        let min_part = min_chunk.max(manner.quirks().min_chunk);
        let ranged = trail.ranged(self.session).await;
        Need { size: self.source.size(), offset, limit, ranged, min_part }.way()
    }

    async fn judge(&self, trail: &mut Trail, error: Error) -> Verdict {
        let may_part = trail.ranged(self.session).await != RangedPatch::Unusable;
        let min_part = trail.opened.as_ref().map_or(0, |opened| opened.min_chunk);
        let min_part = min_part.max(self.session.host.manner.quirks().min_chunk);
        let smaller = parts::smaller(trail.sending, min_part).filter(|_| may_part);
        match error {
            Error::Status(status) if parts::is_too_large(&status) => {
                let Some(smaller) = smaller else { return Verdict::Never(Error::Status(status)) };
                trail.limit = Some(smaller);
                Verdict::Again
            }
            Error::Status(status) if is_lost_session(&status) => {
                trail.opened = None;
                let status = StatusError { status: StatusCode::SERVICE_UNAVAILABLE, ..*status };
                Verdict::Later(Error::Status(Box::new(status)))
            }
            Error::Status(status) if trail.in_parts && parts::refuses_parts(&status) => {
                self.give_up_parts(trail, Error::Status(status)).await
            }
            error @ Error::Protocol { .. } if trail.in_parts => {
                self.give_up_parts(trail, error).await
            }
            error @ Error::Transport { .. } => {
                trail.breaks += 1;
                if trail.breaks >= BREAKS {
                    trail.breaks = 0;
                    trail.caution = smaller.or(trail.caution);
                }
                Verdict::Later(error)
            }
            error => Verdict::Later(error),
        }
    }

    /// Sends the blob whole from now on, unless its size was why it was sent in parts.
    async fn give_up_parts(&self, trail: &mut Trail, error: Error) -> Verdict {
        tracing::debug!(%error, "the registry does not take a blob in parts");
        let is_limited = trail.limit.is_some();
        trail.no_parts = true;
        if is_limited {
            return Verdict::Never(error);
        }
        trail.abandon(self.session).await;
        Verdict::Again
    }
}

fn opened_by(answer: &Answer, scopes: Vec<String>) -> Result<Opened> {
    Opened::by(answer, scopes)
        .ok_or_else(|| answer.protocol("the upload's location is missing or malformed"))
}

/// Returns whether the registry forgot the upload session, which a new one mends (GitLab and
/// ACR after a network loss).
fn is_lost_session(error: &StatusError) -> bool {
    error.status == StatusCode::NOT_FOUND
        && error.method != Method::POST
        && (error.has_code("BLOB_UPLOAD_UNKNOWN") || error.has_code("BLOB_UPLOAD_INVALID"))
}
