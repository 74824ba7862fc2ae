//! What a copy would have to move.

use crate::image::{Descriptor, Reference};
use crate::operations::place::{Place, Top};
use crate::operations::{Error, Session};

use super::CopyOptions;
use super::tree::{self, Tree};

/// What one image is made of, without what belongs to it.
#[derive(Debug)]
pub(in crate::operations) struct Weight {
    /// How many manifests are read.
    pub(in crate::operations) manifests: usize,
    /// The blobs, each once.
    pub(in crate::operations) blobs: Vec<Descriptor>,
}

/// Reads the manifests of the image that `name` stands for, which is known to be `seen`.
pub(in crate::operations) async fn weigh(
    session: &Session,
    name: &Reference,
    seen: &Descriptor,
    options: &CopyOptions,
) -> Result<Weight, Error> {
    let place = Place::Repository(name.repository.clone());
    let manifest = place.manifest(session, &seen.digest, Some(&seen.media_type)).await?;
    let top = Top { name: name.familiar(), place, manifest };
    let (chosen, trimmed) = tree::choose(session, &top, &options.platforms, options.shape).await?;
    let tree = Tree::load(session, &top.place, chosen, &[], options.foreign).await?;
    let read = tree.manifests().count() + usize::from(trimmed.is_some());
    Ok(Weight { manifests: read, blobs: tree.blobs })
}
