//! Finding a manifest among what is served.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::image::{self, Descriptor, Digest, Reference, media_type};

use super::content;
use super::names::Candidates;
use super::reply::Failure;
use super::route::Key;
use super::state::State;

/// Indexes within indexes are rare, and no deeper than this.
const MAX_DEPTH: usize = 4;
/// How many indexes are remembered. One has some ten manifests of a hundred bytes.
const MAX_INDEXES: usize = 4096;

/// A manifest that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) descriptor: Descriptor,
    /// The image that it is, or is part of.
    pub(super) root: Digest,
}

/// What indexes list, by their digest, so that each is read once.
#[derive(Default)]
pub(super) struct Indexes(Mutex<HashMap<Digest, Arc<[Descriptor]>>>);

impl Candidates {
    /// Finds a manifest.
    pub(super) fn find_manifest(&self, state: &State, key: &Key) -> Result<Option<Found>, Failure> {
        match key {
            Key::Invalid(_) => Ok(None),
            Key::Digest(digest) => self.find_digest(state, digest),
            Key::Tag(tag) => {
                let images = state.content.images()?;
                let found = self.0.iter().find_map(|repository| {
                    let wanted = Reference::tagged(repository.clone(), tag.clone());
                    images.iter().find(|image| image.name.as_ref() == Some(&wanted))
                });
                Ok(found.map(|image| Found {
                    descriptor: image.descriptor.clone(),
                    root: image.descriptor.digest.clone(),
                }))
            }
        }
    }

    fn find_digest(&self, state: &State, digest: &Digest) -> Result<Option<Found>, Failure> {
        if state.content.blob(digest)?.is_none() {
            return Ok(None);
        }
        let images = state.content.images()?;
        let here =
            || images.iter().filter(|entry| self.holds(entry)).map(|entry| &entry.descriptor);
        if let Some(descriptor) = here().find(|descriptor| descriptor.digest == *digest) {
            let root = digest.clone();
            return Ok(Some(Found { descriptor: descriptor.clone(), root }));
        }
        // A manifest of one platform is known by the index that lists it.
        for root in here() {
            if let Some(descriptor) = find_child(state, root, digest, MAX_DEPTH)? {
                return Ok(Some(Found { descriptor, root: root.digest.clone() }));
            }
        }
        Ok(None)
    }
}

fn find_child(
    state: &State,
    parent: &Descriptor,
    wanted: &Digest,
    depth: usize,
) -> Result<Option<Descriptor>, Failure> {
    if depth == 0 || !media_type::is_index(&parent.media_type) {
        return Ok(None);
    }
    let children = children(state, &parent.digest)?;
    for child in children.iter() {
        if child.digest == *wanted {
            return Ok(Some(child.clone()));
        }
        if let Some(found) = find_child(state, child, wanted, depth - 1)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Returns what an index lists; nothing when it is not there.
fn children(state: &State, index: &Digest) -> Result<Arc<[Descriptor]>, Failure> {
    let known = || state.indexes.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(children) = known().get(index) {
        return Ok(Arc::clone(children));
    }
    let Some(manifest) = content::manifest(&*state.content, index)? else {
        return Ok(Arc::default());
    };
    let image::Content::Index(listed) = manifest.content else { return Ok(Arc::default()) };
    let children: Arc<[Descriptor]> = listed.manifests.into();
    let mut known = known();
    if known.len() >= MAX_INDEXES {
        known.clear();
    }
    known.insert(index.clone(), Arc::clone(&children));
    Ok(children)
}
