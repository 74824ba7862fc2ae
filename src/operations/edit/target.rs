//! What is edited, where the result goes, and what became of it.

use crate::image::{Descriptor, Digest, Platform, Reference, Repository};
use crate::operations::publish::Traffic;

use crate::operations::place::ImageSource;

/// Where images are edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Location {
    /// In their registries.
    #[default]
    Registry,
    /// In the store.
    Store,
}

/// A family of media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaFamily {
    /// Those of the OCI image-spec.
    Oci,
    /// Docker's.
    Docker,
}

/// What is edited, and where the result goes.
#[derive(Debug, Clone, Default)]
pub struct EditTarget {
    /// The image; `None` for one that begins with nothing.
    pub source: Option<Reference>,
    /// The result's names; with none, the image is edited in place.
    pub names: Vec<Reference>,
    /// The repository that the result goes to without a name, when there is one.
    pub repository: Option<Repository>,
    /// Where all of them are.
    pub location: Location,
    /// For an index, the images that are edited; empty for all.
    pub platforms: Vec<Platform>,
    /// Whether the result is only made, and shown.
    pub is_dry_run: bool,
}

impl EditTarget {
    /// Returns where to read `reference`.
    pub(super) fn at(&self, reference: &Reference) -> ImageSource {
        match self.location {
            Location::Registry => ImageSource::Registry(reference.clone()),
            Location::Store => ImageSource::Store(reference.to_string()),
        }
    }

    /// Returns the names that the manifest `digest` gets. What was given by digest and is edited
    /// in place gets the new digest.
    pub(super) fn names_of(&self, digest: &Digest) -> Vec<Reference> {
        let by_digest = |repository: &Repository| {
            vec![Reference::by_digest(repository.clone(), digest.clone())]
        };
        match (&self.repository, &self.source) {
            (Some(repository), _) => by_digest(repository),
            (None, _) if !self.names.is_empty() => self.names.clone(),
            (None, Some(source)) if source.digest.is_some() => by_digest(&source.repository),
            (None, Some(source)) => vec![source.clone().or_latest()],
            (None, None) => Vec::new(),
        }
    }

    /// Returns the name that the edit moves from what it read to the result.
    pub(super) fn moved(&self) -> Option<&Reference> {
        let in_place = self.names.is_empty() && self.repository.is_none();
        self.source.as_ref().filter(|source| in_place && source.digest.is_none())
    }
}

/// One image of the result that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditedImage {
    /// What it is for, as far as it says.
    pub platform: Option<Platform>,
    /// Its digest before.
    pub previous: Digest,
    /// Its digest now.
    pub digest: Digest,
}

/// A manifest that has lost its place to an edited one, and to which something refers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    /// The manifest.
    pub digest: Digest,
    /// How many manifests refer to it: signatures, attestations and the like.
    pub referrers: usize,
}

/// What an edit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditReport {
    /// What the result is called.
    pub names: Vec<Reference>,
    /// The result.
    pub manifest: Descriptor,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
    /// The digest that the edit began with; `None` when it began with nothing.
    pub previous: Option<Digest>,
    /// The images that changed.
    pub images: Vec<EditedImage>,
    /// Entries of an index that the result lacks.
    pub dropped: Vec<Descriptor>,
    /// What of the image before has referrers, which do not follow.
    pub left_behind: Vec<LeftBehind>,
    /// What moved.
    pub traffic: Traffic,
}

impl EditReport {
    /// Returns whether the result is something else than what the edit began with.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.previous.as_ref() != Some(&self.manifest.digest)
    }
}
