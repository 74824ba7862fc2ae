//! One destination of one image: what is done for it, and what became of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::archive::{Name, Stored};
use crate::image::{Descriptor, Digest, Manifest, Reference};
use crate::operations::publish::Traffic;
use crate::operations::session::blocking;
use crate::operations::{Error, Session};
use crate::registry::Pushed;

use super::archive::ArchiveTarget;
use super::claims::{Role, Share, Stage};
use super::hold::Hold;

/// Where a copy goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyTarget {
    /// A name in a registry: a tag, or the digest that the copy has.
    Registry(Reference),
    /// A name in the store, or none.
    Store(Option<Reference>),
    /// A name in an archive, or none.
    Archive(ArchiveTarget, Option<Name>),
}

impl CopyTarget {
    /// Returns the name that the copy gets, when it gets a whole one.
    #[must_use]
    pub fn name(&self) -> Option<&Reference> {
        match self {
            Self::Registry(name) => Some(name),
            Self::Store(name) => name.as_ref(),
            Self::Archive(_, name) => name.as_ref().and_then(Name::reference),
        }
    }

    pub(super) fn hold(&self) -> Hold {
        match self {
            Self::Registry(name) => Hold::Repository(name.repository.clone()),
            Self::Store(_) => Hold::Store,
            Self::Archive(target, _) => Hold::Archive(target.clone()),
        }
    }
}

impl std::fmt::Display for CopyTarget {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registry(name) => formatter.write_str(&name.familiar()),
            Self::Store(Some(name)) => write!(formatter, "store:{}", name.familiar()),
            Self::Store(None) => formatter.write_str("store:"),
            Self::Archive(target, Some(name)) => write!(formatter, "{target}:{name}"),
            Self::Archive(target, None) => target.fmt(formatter),
        }
    }
}

/// Returns whether the target's name stands for something.
///
/// # Errors
///
/// When that cannot be found out.
pub async fn is_taken(session: &Session, target: &CopyTarget) -> Result<bool, Error> {
    match target {
        CopyTarget::Registry(name) => match session.client.resolve_at_destination(name).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == crate::registry::Kind::NotFound => Ok(false),
            Err(error) => Err(Error::from(error).about(format!("failed to look at `{target}`"))),
        },
        CopyTarget::Store(Some(name)) => {
            let (store, name) = (session.store.clone(), name.clone());
            Ok(blocking(move || store.resolve(&name)).await?.is_some())
        }
        CopyTarget::Store(None) | CopyTarget::Archive(..) => Ok(false),
    }
}

/// One destination.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) target: CopyTarget,
    pub(super) hold: Hold,
    pub(super) share: Share,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    traffic: Traffic,
    failure: Option<Error>,
}

impl Delivery {
    pub(super) fn new(target: CopyTarget, share: Share) -> Self {
        Self { hold: target.hold(), target, share, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state().failure.is_some()
    }

    /// Takes note of what keeps the copy from being there; the first is told.
    pub(super) fn fail(&self, error: Error) {
        self.share.fail();
        self.state().failure.get_or_insert(error);
    }

    /// Takes note of how a blob came there.
    pub(super) fn note(&self, pushed: Pushed, size: u64) {
        self.state().traffic.add(pushed, size);
    }

    /// Takes note that a blob is there, and tells those who wait for it.
    pub(super) fn arrived(&self, pushed: Pushed, blob: &Descriptor) {
        self.note(pushed, blob.size);
        if let Some(Role::Lead(stage)) = self.share.role(&blob.digest) {
            stage.send_replace(Stage::Arrived);
        }
    }

    /// Waits for another image that brings the blob to the same registry. Returns whether it is then
    /// in this destination's repository, without asking.
    pub(super) async fn is_brought_by_others(&self, blob: &Descriptor) -> bool {
        let Some(Role::Follow(following)) = self.share.role(&blob.digest) else { return false };
        if following.is_same_image {
            return false;
        }
        if following.hold == self.hold {
            return following.reaches(Stage::Arrived).await;
        }
        following.reaches(Stage::Committed).await;
        false
    }

    /// Gives the copy its name.
    pub(super) async fn name(&self, session: &Session, manifest: &Manifest) -> Result<(), Error> {
        match &self.target {
            CopyTarget::Registry(name) => {
                session.client.push_manifest(name, manifest).await?;
            }
            CopyTarget::Store(name) => {
                let (store, manifest, name) =
                    (session.store.clone(), manifest.clone(), name.clone());
                let named = move || {
                    store.put_manifest(&manifest)?;
                    store.tag_all(&[(name, manifest.descriptor())])
                };
                blocking(named).await?;
            }
            CopyTarget::Archive(target, name) => {
                target.put(manifest).await?;
                let (descriptor, name) = (manifest.descriptor(), name.clone());
                target.add(Stored { descriptor, name, subject: None });
            }
        }
        self.share.commit();
        Ok(())
    }

    /// Returns what became of it.
    pub(super) fn finish(self, digest: &Digest) -> Delivered {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let outcome = match state.failure {
            Some(error) => Err(error.about(format!("failed to copy to `{}`", self.target))),
            None => Ok(Arrival::Copied),
        };
        let digest = digest.clone();
        Delivered { target: self.target, digest, outcome, traffic: state.traffic }
    }
}

/// What became of one destination.
#[derive(Debug)]
pub struct Delivered {
    /// Where.
    pub target: CopyTarget,
    /// What is, or should be, there.
    pub digest: Digest,
    /// Whether it is.
    pub outcome: Result<Arrival, Error>,
    /// What moved.
    pub traffic: Traffic,
}

/// How a copy came to be at its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It was copied.
    Copied,
    /// The name stood for it already.
    AlreadyThere,
}
