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

/// How the media types of configs and layers of OCI's format begin.
pub(super) const OCI_PARTS: &[&str] =
    &["application/vnd.oci.image.config.", "application/vnd.oci.image.layer."];

/// How the media types of configs and layers of Docker's format begin.
pub(super) const DOCKER_PARTS: &[&str] =
    &["application/vnd.docker.container.image.", "application/vnd.docker.image.rootfs."];

/// All manifest media types rpub reads, in the order offered to a registry.
pub const MANIFESTS: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];

/// What both families have a name for: OCI's, then Docker's.
const PAIRS: [(&str, &str); 7] = [
    (OCI_MANIFEST, DOCKER_MANIFEST),
    (OCI_INDEX, DOCKER_INDEX),
    (OCI_CONFIG, DOCKER_CONFIG),
    (OCI_LAYER_TAR, DOCKER_LAYER_TAR),
    (OCI_LAYER_GZIP, DOCKER_LAYER_GZIP),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ),
];

/// Returns Docker's name of what `media_type` names; `None` when Docker has none, as for zstd.
#[must_use]
pub fn docker_name(media_type: &str) -> Option<&'static str> {
    let same = |(oci, docker): &&(&str, &str)| *oci == media_type || *docker == media_type;
    PAIRS.iter().find(same).map(|(_, docker)| *docker)
}

/// Returns OCI's name of what `media_type` names in Docker's family; `None` when it is no name of
/// either, or only OCI has one.
#[must_use]
pub fn oci_name(media_type: &str) -> Option<&'static str> {
    let same = |(oci, docker): &&(&str, &str)| *oci == media_type || *docker == media_type;
    PAIRS.iter().find(same).map(|(oci, _)| *oci)
}

/// Returns whether `media_type` is of Docker's family.
#[must_use]
pub fn is_docker(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.docker.")
}

/// Returns whether `media_type` names the configuration of an image.
#[must_use]
pub fn is_image_config(media_type: &str) -> bool {
    media_type == OCI_CONFIG || media_type == DOCKER_CONFIG
}

/// Returns whether `media_type` names a layer of files, of either family.
#[must_use]
pub fn is_layer(media_type: &str) -> bool {
    media_type == OCI_LAYER_ZSTD
        || PAIRS[3..].iter().any(|(oci, docker)| *oci == media_type || *docker == media_type)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_names_for_the_same_things() {
        for (oci, docker) in PAIRS {
            assert_eq!((docker_name(oci), docker_name(docker)), (Some(docker), Some(docker)));
            assert_eq!((oci_name(oci), oci_name(docker)), (Some(oci), Some(oci)));
            assert!(is_docker(docker) && !is_docker(oci), "{oci}");
        }
        assert_eq!((docker_name(OCI_LAYER_ZSTD), oci_name(OCI_LAYER_ZSTD)), (None, None));
        assert!(is_layer(OCI_LAYER_ZSTD) && is_layer(DOCKER_LAYER_GZIP) && !is_layer(OCI_CONFIG));
    }
}
