//! Single objects of a registry: tags, manifests, blobs, repositories, referrers, artifacts.

mod artifact;
mod blobs;
mod lists;
mod manifests;
mod ping;
mod referrers;
mod tags;

pub use artifact::{
    ArtifactAnnotations, ArtifactFile, ArtifactNode, ArtifactToPull, ArtifactToPush, Existing,
    PulledArtifact, artifact_tree, pull_artifact, push_artifact,
};
pub use blobs::{BlobSource, blob_head, get_blob, put_blob, remove_blob};
pub use lists::{ListRequest, TagOrder, list_repositories, list_tags};
pub use manifests::{ManifestToPut, get_manifest, head_manifest, put_manifest, remove_manifest};
pub use ping::ping;
pub use referrers::list_referrers;
pub use tags::{UntaggedBy, remove_tag};
