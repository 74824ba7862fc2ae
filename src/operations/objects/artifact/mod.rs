//! `artifact push|pull|attach|tree`: files in a registry, as oras lays them out.
//!
//! An artifact is an image manifest whose layers are files (OCI image-spec, manifest.md, "Guidelines
//! for Artifact Usage"). Each has its name in an annotation; a directory is a tar, compressed by gzip,
//! that says so in another one.

mod directory;
mod paths;
mod pull;
mod push;
mod tree;

pub use pull::{ArtifactToPull, Existing, PulledArtifact, pull_artifact};
pub use push::{ArtifactAnnotations, ArtifactFile, ArtifactToPush, push_artifact};
pub use tree::{ArtifactNode, artifact_tree};

/// OCI image-spec, annotations.md: the name of the file.
const TITLE: &str = "org.opencontainers.image.title";
/// Set to `true` on the tar of a directory, by oras.
const UNPACK: &str = "io.deis.oras.content.unpack";
/// The digest of the tar of a directory, uncompressed, by oras.
const TAR_DIGEST: &str = "io.deis.oras.content.digest";
