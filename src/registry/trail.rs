//! What a push has found out on its way, and what of it outlives the process.

use std::sync::Arc;

use reqwest::Url;

use super::memory::UploadNote;
use super::parts;
use super::quirks::RangedPatch;
use super::session::Session;
use super::upload::Opened;
use super::{Learnt, location};
use crate::image::Digest;

/// What a registry did instead of mounting a blob.
#[derive(Default)]
pub(super) enum Instead {
    /// It was not asked to.
    #[default]
    Unasked,
    /// It opened a session, in which nothing was sent yet.
    Opened(Opened),
    /// Nothing of use.
    Nothing,
}

impl Instead {
    /// Takes the session.
    pub(super) fn take(&mut self) -> Option<Opened> {
        match std::mem::replace(self, Self::Nothing) {
            Self::Opened(opened) => Some(opened),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Returns whether the registry was asked.
    pub(super) fn is_asked(&self) -> bool {
        !matches!(self, Self::Unasked)
    }
}

/// What has been found out on the way so far.
#[derive(Default)]
pub(super) struct Trail {
    /// The session to go on with.
    pub(super) opened: Option<Opened>,
    /// What the registry did instead of mounting the blob at once.
    pub(super) instead: Instead,
    pub(super) note: Option<Arc<dyn UploadNote>>,
    /// The location in the note.
    noted: Option<String>,
    pub(super) has_tried: bool,
    /// The largest body to send, because a larger one was refused.
    pub(super) limit: Option<u64>,
    /// The same, because larger ones broke off: not certain enough to be remembered.
    pub(super) caution: Option<u64>,
    pub(super) breaks: u32,
    pub(super) corrections: u32,
    /// Whether parts were refused.
    pub(super) no_parts: bool,
    /// The last request's way and length.
    pub(super) in_parts: bool,
    pub(super) sending: u64,
}

impl Trail {
    /// Returns what becomes of parts, as far as is known.
    pub(super) async fn ranged(&self, session: &Session) -> RangedPatch {
        if self.no_parts {
            return RangedPatch::Unusable;
        }
        session.host.manner.ranged_patch(&session.shared).await
    }

    /// Takes the note on the upload of a blob of `size` bytes, and goes on with the session in it.
    pub(super) async fn take_note(&mut self, session: &Session, digest: &Digest, size: u64) {
        let is_worth_it =
            parts::is_resumable(size) && self.ranged(session).await == RangedPatch::Resumable;
        if !is_worth_it {
            return;
        }
        let memory = Arc::clone(&session.shared.options.memory);
        let (repository, digest) = (session.repository.clone(), digest.clone());
        let take = move || {
            let note = memory.note(&repository, &digest)?;
            let location = note.location();
            Some((note, location))
        };
        let Some((note, location)) = in_background(take).await.flatten() else { return };
        self.note = Some(note);
        let Some(location) = location.and_then(|text| Url::parse(&text).ok()) else { return };
        let Ok(access) = session.host.access(&session.shared).await else { return };
        if location::check(&access.base, &location).is_ok() {
            self.noted = Some(location.to_string());
            let scopes = vec![session.scope("pull,push")];
            self.opened = Some(Opened { location, scopes, min_chunk: 0 });
            if let Some(offered) = self.instead.take() {
                offered.cancel(session).await;
            }
        }
    }

    /// Keeps the session for a later run, if it could be gone on with then.
    pub(super) async fn keep_note(&mut self, session: &Session, location: &Url) {
        let Some(note) = self.note.clone() else { return };
        if self.ranged(session).await != RangedPatch::Resumable {
            self.note = None;
            in_background(move || note.forget()).await;
        } else if self.noted.as_deref() != Some(location.as_str()) {
            let text = location.to_string();
            self.noted = Some(text.clone());
            in_background(move || note.keep(&text)).await;
        }
    }

    /// Remembers what the way to success has taught, and forgets the session.
    pub(super) async fn learn(&mut self, session: &Session) {
        if let Some(note) = self.note.take() {
            in_background(move || note.forget()).await;
        }
        let (limit, no_parts) = (self.limit, self.no_parts);
        if limit.is_some() || no_parts {
            let change = |learnt: &mut Learnt| {
                learnt.max_body = limit.into_iter().chain(learnt.max_body).min();
                learnt.refuses_ranges |= no_parts;
            };
            session.host.manner.learn(&session.shared, change).await;
        }
    }

    /// Cancels the sessions that nobody goes on with.
    pub(super) async fn abandon(&mut self, session: &Session) {
        for opened in self.opened.take().into_iter().chain(self.instead.take()) {
            opened.cancel(session).await;
        }
        if let Some(note) = self.note.clone() {
            self.noted = None;
            in_background(move || note.forget()).await;
        }
    }
}

/// Runs blocking work beside the runtime; `None` when it failed, which is said.
async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work)
        .await
        .inspect_err(|error| tracing::debug!(%error, "the upload's note is left alone"))
        .ok()
}
