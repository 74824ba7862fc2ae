//! OCI data types and their text forms. No input or output.
//!
//! Digests, descriptors, references, platforms, manifests, indexes and configs, by the OCI
//! image-spec 1.1 and Docker's image manifest version 2 schema 2. Raw bytes are kept beside the
//! parsed view ([`Manifest`]), because re-serialising what somebody else made changes its digest.
//! What moves or stores these things is in other rooms.

mod config;
mod descriptor;
mod digest;
mod error;
mod json;
mod manifest;
pub mod media_type;
mod platform;
mod reference;
mod version;

pub use config::{Empty, Healthcheck, History, ImageConfig, RootFs, RuntimeConfig};
pub use descriptor::Descriptor;
pub use digest::{Algorithm, ChainId, DiffId, Digest};
pub use error::Error;
pub use manifest::{Content, ImageManifest, Index, MAX_MANIFEST_BYTES, Manifest};
pub use platform::Platform;
pub use reference::{
    DEFAULT_REGISTRY, DEFAULT_TAG, Reference, RegistryName, Repository, RepositoryName, Tag,
};
pub use version::{Version, by_version};
