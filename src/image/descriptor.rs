//! Descriptors: what, how large, with which digest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Digest, Platform, media_type};

/// A typed pointer to content (OCI image-spec, descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type of the content.
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content in bytes.
    pub size: u64,
    /// Where else the content can be had; foreign layers only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The platform; set on an index's entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The artifact type, when the content is an artifact's manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// Returns a descriptor with only its three required properties.
    #[must_use]
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }

    /// Returns the descriptor of `bytes`.
    #[must_use]
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// Returns whether the content is a manifest or an index.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        media_type::is_manifest(&self.media_type) || media_type::is_index(&self.media_type)
    }

    /// Returns whether the content is a layer that not everybody may distribute, and that says where
    /// it is: registries need not keep it.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        media_type::is_foreign_layer(&self.media_type) && !self.urls.is_empty()
    }
}
