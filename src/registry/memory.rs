//! What is remembered from one run to the next. Where it is kept is the caller's business.

use std::sync::Arc;

use crate::image::{Digest, RegistryName, Repository};

/// What was learnt about a registry, and about what is in front of it, while it was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Learnt {
    /// The largest body that got through, when a larger one did not.
    pub max_body: Option<u64>,
    /// Whether it refuses uploads in several parts.
    pub refuses_ranges: bool,
}

/// Keeps what is worth knowing at the next run. All methods block, and none fails: what cannot be
/// kept is found out again.
pub trait Memory: Send + Sync {
    /// Takes the note on the upload of a blob; `None` while somebody else has it.
    fn note(&self, repository: &Repository, digest: &Digest) -> Option<Arc<dyn UploadNote>>;

    /// Returns what was learnt about a registry.
    fn learnt(&self, registry: &RegistryName) -> Learnt;

    /// Keeps what was learnt about a registry.
    fn learn(&self, registry: &RegistryName, learnt: Learnt);
}

/// Where an upload goes on after this process was killed. Belongs to whoever holds it.
pub trait UploadNote: Send + Sync {
    /// Returns the location of the upload's session, when one was begun.
    fn location(&self) -> Option<String>;

    /// Keeps the location. It may hold a secret of the registry's: nobody else may read it.
    fn keep(&self, location: &str);

    /// Forgets the upload: it is done or given up.
    fn forget(&self);
}

/// Remembers nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forgetful;

impl Memory for Forgetful {
    fn note(&self, _: &Repository, _: &Digest) -> Option<Arc<dyn UploadNote>> {
        None
    }

    fn learnt(&self, _: &RegistryName) -> Learnt {
        Learnt::default()
    }

    fn learn(&self, _: &RegistryName, _: Learnt) {}
}
