//! A layer as the build knows it.

use serde::{Deserialize, Serialize};

use crate::image::{Descriptor, DiffId, media_type};

use super::form::MediaTypes;

/// A sealed layer: the blob, the digest of its tar, and when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The blob.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// When it was made, RFC 3339; `None` for a base's layers, which their own history dates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

impl Layer {
    /// Returns the layer with the name that its media type has among `types`: one manifest must not
    /// mix Docker's and OCI's names, and the bytes are the same.
    #[must_use]
    pub fn with_media_type_of(&self, types: MediaTypes) -> Self {
        let pairs = [
            (media_type::OCI_LAYER_GZIP, media_type::DOCKER_LAYER_GZIP),
            (media_type::OCI_LAYER_TAR, media_type::DOCKER_LAYER_TAR),
        ];
        let mut layer = self.clone();
        let current = &mut layer.descriptor.media_type;
        for (oci, docker) in pairs {
            if current == oci || current == docker {
                let name = match types {
                    MediaTypes::Oci => oci,
                    MediaTypes::Docker => docker,
                };
                name.clone_into(current);
                break;
            }
        }
        layer
    }
}
