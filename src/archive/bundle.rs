//! What goes into an archive.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

use crate::image::{Descriptor, Digest, Index, Reference, media_type};

/// The name of an image in a layout: for tools that look for a tag (OCI image-spec,
/// annotations.md).
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The same, whole, as containerd writes and reads it.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// When the image was put there.
const CREATED: &str = "org.opencontainers.image.created";

/// `oci-layout` (OCI image-spec, image-layout.md).
pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Everything that an archive holds.
#[derive(Debug, Clone, Default)]
pub struct Bundle {
    /// The images.
    pub images: Vec<Named>,
    /// The blobs that they need, manifests and configs included, by digest.
    pub blobs: BTreeMap<Digest, u64>,
    /// What `docker load` is told; `None` without docker's file.
    pub docker: Option<DockerImage>,
    /// The time of entries, and the date of the images, in seconds since 1970.
    pub time: i64,
}

/// An image and its names.
#[derive(Debug, Clone)]
pub struct Named {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// The names; an image without one is found by its digest.
    pub names: Vec<Reference>,
}

/// An image as docker's `manifest.json` describes it.
#[derive(Debug, Clone)]
pub struct DockerImage {
    /// The config.
    pub config: Digest,
    /// The layers, bottom first.
    pub layers: Vec<Digest>,
    /// The names.
    pub names: Vec<Reference>,
}

impl Bundle {
    /// Returns the entries of `index.json`, one for each name.
    pub(super) fn entries(&self) -> Vec<Descriptor> {
        let mut entries = Vec::new();
        for image in &self.images {
            let dated = |annotations: &[(&str, String)]| {
                let mut entry = image.descriptor.clone();
                let date = jiff::Timestamp::from_second(self.time).unwrap_or_default();
                entry.annotations.insert(CREATED.to_owned(), date.to_string());
                for (key, value) in annotations {
                    entry.annotations.insert((*key).to_owned(), value.clone());
                }
                entry
            };
            if image.names.is_empty() {
                entries.push(dated(&[]));
            }
            for name in &image.names {
                let tag = name.tag_or_latest().to_string();
                let whole = name.clone().or_latest().to_string();
                entries.push(dated(&[(REF_NAME, tag), (CONTAINERD_NAME, whole)]));
            }
        }
        entries
    }

    /// Returns docker's `manifest.json`.
    pub(super) fn docker_manifest(&self) -> Option<Vec<u8>> {
        let image = self.docker.as_ref()?;
        let names: Vec<String> =
            image.names.iter().map(|name| name.clone().or_latest().familiar()).collect();
        let layers: Vec<String> = image.layers.iter().map(blob_path).collect();
        let config = blob_path(&image.config);
        let value = json!([{ "Config": config, "RepoTags": names, "Layers": layers }]);
        Some(to_json(&value))
    }
}

/// Returns the path of a blob in a layout.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// Returns the bytes of an `index.json` with these entries.
pub(super) fn index_json(manifests: Vec<Descriptor>) -> Vec<u8> {
    to_json(&Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        artifact_type: None,
        manifests,
        subject: None,
        annotations: BTreeMap::new(),
    })
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("an index serialises to JSON")
}
