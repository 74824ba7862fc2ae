//! Media types of manifests, configs and layers (OCI image-spec, media-types.md).

pub use oci_client::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE as OCI_CONFIG, IMAGE_DOCKER_CONFIG_MEDIA_TYPE as DOCKER_CONFIG,
    IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE as DOCKER_LAYER_GZIP,
    IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE as DOCKER_LAYER_TAR,
    IMAGE_LAYER_GZIP_MEDIA_TYPE as OCI_LAYER_GZIP, IMAGE_LAYER_MEDIA_TYPE as OCI_LAYER_TAR,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE as DOCKER_INDEX, IMAGE_MANIFEST_MEDIA_TYPE as DOCKER_MANIFEST,
    OCI_IMAGE_INDEX_MEDIA_TYPE as OCI_INDEX, OCI_IMAGE_MEDIA_TYPE as OCI_MANIFEST,
};

/// A layer compressed with zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Two bytes, `{}`: the config of what is no image (OCI image-spec, manifest.md, "Guidance for an
/// Empty Descriptor").
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// All manifest media types rpub reads, in the order offered to a registry.
pub const MANIFESTS: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];

/// Returns whether `media_type` names an index (Docker: manifest list).
#[must_use]
pub fn is_index(media_type: &str) -> bool {
    media_type == OCI_INDEX || media_type == DOCKER_INDEX
}

/// Returns whether `media_type` names an image manifest.
#[must_use]
pub fn is_manifest(media_type: &str) -> bool {
    media_type == OCI_MANIFEST || media_type == DOCKER_MANIFEST
}

/// Returns whether `media_type` names a layer that must not be pushed to other registries
/// (OCI image-spec, layer.md, "Non-Distributable Layers").
#[must_use]
pub fn is_foreign_layer(media_type: &str) -> bool {
    media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
}
