//! `artifact tree`: what refers to an image, what refers to that, and so on.

use std::collections::BTreeSet;

use crate::image::{Descriptor, Digest, Platform, Reference, Repository};
use crate::operations::objects::{head_manifest, list_referrers};
use crate::operations::{Error, Kind, Session};

/// How far a tree is followed: signatures of attestations of images are three.
const MAX_DEPTH: usize = 16;
/// Most manifests in one tree.
const MAX_NODES: usize = 10_000;

/// A manifest and what refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactNode {
    /// The manifest.
    pub descriptor: Descriptor,
    /// What refers to it.
    pub referrers: Vec<ArtifactNode>,
    /// Whether what refers to it is left out: it is shown elsewhere in the tree, or too deep.
    pub is_cut: bool,
}

/// Returns the tree of what refers to `name`, or of those referrers that have the artifact type given.
///
/// # Errors
///
/// Those of [`list_referrers`]; [`Kind::User`] for a tree without end.
pub async fn artifact_tree(
    session: &Session,
    name: &Reference,
    platform: Option<&Platform>,
    artifact_type: Option<&str>,
) -> Result<ArtifactNode, Error> {
    let root = head_manifest(session, name, platform).await?;
    let walk = Walk { session, repository: &name.repository, artifact_type };
    let mut seen = BTreeSet::from([root.digest.clone()]);
    walk.node(root, 0, &mut seen).await
}

struct Walk<'a> {
    session: &'a Session,
    repository: &'a Repository,
    artifact_type: Option<&'a str>,
}

impl Walk<'_> {
    async fn node(
        &self,
        descriptor: Descriptor,
        depth: usize,
        seen: &mut BTreeSet<Digest>,
    ) -> Result<ArtifactNode, Error> {
        if depth >= MAX_DEPTH {
            return Ok(ArtifactNode { descriptor, referrers: Vec::new(), is_cut: true });
        }
        let name = Reference::by_digest(self.repository.clone(), descriptor.digest.clone());
        // Only what refers to the image itself is chosen by its type.
        let wanted = self.artifact_type.filter(|_| depth == 0);
        let (_, found) = list_referrers(self.session, &name, None, wanted).await?;
        let mut referrers = Vec::new();
        for referrer in found.manifests {
            if !seen.insert(referrer.digest.clone()) {
                let (descriptor, referrers_of) = (referrer, Vec::new());
                referrers.push(ArtifactNode { descriptor, referrers: referrers_of, is_cut: true });
                continue;
            }
            if seen.len() > MAX_NODES {
                let message = format!("more than {MAX_NODES} manifests refer to the image");
                return Err(Error::new(Kind::User, message));
            }
            referrers.push(Box::pin(self.node(referrer, depth + 1, seen)).await?);
        }
        Ok(ArtifactNode { descriptor, referrers, is_cut: false })
    }
}
