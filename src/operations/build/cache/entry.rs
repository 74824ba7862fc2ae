//! Entries: a manifest a key.
//!
//! An OCI artifact manifest of the artifact type [`ARTIFACT`] with the empty config. Its `layers` are
//! those that the step and the steps below it made, the lowest first, without the base's; its
//! annotation [`RECORD`] is JSON: `version` 1, `key`, and `layers` with the `diff_id` of each and when
//! it was `created`. Its tag is `rpub-cache-` and the hexadecimal digits of the key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::build::Layer;
use crate::image::{Descriptor, DiffId, Digest, ImageManifest, Manifest, Tag, media_type};

/// The artifact type.
const ARTIFACT: &str = "application/vnd.rpub.cache.v1+json";
/// The annotation that holds the record.
const RECORD: &str = "dev.rpub.cache.record";
/// The version of records.
const VERSION: u32 = 1;
/// The media type of a config that says nothing (OCI image-spec, manifest.md, "Guidance for an Empty
/// Descriptor").
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The content of a config that says nothing.
pub(super) const EMPTY_CONTENT: &[u8] = b"{}";
/// The largest layer that an entry may name.
const MAX_LAYER_BYTES: u64 = 1 << 40;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    key: Digest,
    layers: Vec<RecordedLayer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RecordedLayer {
    diff_id: DiffId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<String>,
}

/// Returns the tag of the entry for `key`.
///
/// # Panics
///
/// Never: hexadecimal digits make a tag, of at most 139 characters for SHA-512 and 75 for SHA-256,
/// which is what keys are.
pub(super) fn tag(key: &Digest) -> Tag {
    format!("rpub-cache-{}", key.hex()).parse().expect("a key's digits make a tag")
}

/// Returns the descriptor of the config of every entry.
pub(super) fn empty_config() -> Descriptor {
    Descriptor::of(EMPTY, EMPTY_CONTENT)
}

/// Returns the entry for `key`.
///
/// # Panics
///
/// Never: the record holds nothing that JSON cannot express.
pub(super) fn manifest_of(key: &Digest, layers: &[Layer]) -> Manifest {
    let recorded = layers.iter().map(|layer| RecordedLayer {
        diff_id: layer.diff_id.clone(),
        created: layer.created.clone(),
    });
    let record = Record { version: VERSION, key: key.clone(), layers: recorded.collect() };
    let record = serde_json::to_string(&record).expect("records serialise to JSON");
    let layers = layers.iter().map(|layer| layer.descriptor.clone());
    Manifest::from_image(ImageManifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: Some(ARTIFACT.to_owned()),
        config: empty_config(),
        layers: layers.map(bare).collect(),
        subject: None,
        annotations: BTreeMap::from([(RECORD.to_owned(), record)]),
    })
}

/// Returns the layers that the entry for `key` names, or what is wrong with it.
pub(super) fn layers_of(manifest: &Manifest, key: &Digest) -> Result<Vec<Layer>, String> {
    let image = manifest.as_image().ok_or("it is an index")?;
    if image.artifact_type.as_deref() != Some(ARTIFACT) {
        return Err("it is no cache entry".to_owned());
    }
    let text = image.annotations.get(RECORD).ok_or("it has no record")?;
    let record: Record =
        serde_json::from_str(text).map_err(|error| format!("its record is malformed: {error}"))?;
    if record.version != VERSION {
        return Err(format!("its record has version {}", record.version));
    }
    if record.key != *key {
        return Err("it is the entry of another key".to_owned());
    }
    if record.layers.len() != image.layers.len() {
        return Err("its record and its layers do not fit".to_owned());
    }
    let pairs = image.layers.iter().zip(record.layers);
    pairs
        .map(|(descriptor, recorded)| layer(descriptor, recorded.diff_id, recorded.created))
        .collect()
}

/// Returns a layer, unless its descriptor says what no layer of a build is.
pub(super) fn layer(
    descriptor: &Descriptor,
    diff_id: DiffId,
    created: Option<String>,
) -> Result<Layer, String> {
    let is_layer =
        [media_type::OCI_LAYER_GZIP, media_type::OCI_LAYER_TAR, media_type::OCI_LAYER_ZSTD]
            .contains(&descriptor.media_type.as_str());
    if !is_layer {
        return Err(format!("`{}` is no layer", descriptor.media_type));
    }
    if descriptor.size == 0 || descriptor.size > MAX_LAYER_BYTES {
        return Err(format!("a layer of {} bytes cannot be", descriptor.size));
    }
    if created.as_ref().is_some_and(|time| time.parse::<jiff::Timestamp>().is_err()) {
        return Err("a layer's time is malformed".to_owned());
    }
    Ok(Layer { descriptor: bare(descriptor.clone()), diff_id, created })
}

/// Returns a descriptor with nothing but what it must have.
fn bare(descriptor: Descriptor) -> Descriptor {
    Descriptor::new(descriptor.media_type, descriptor.digest, descriptor.size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> Vec<Layer> {
        let layer = |name: &str| Layer {
            descriptor: Descriptor::of(media_type::OCI_LAYER_GZIP, name.as_bytes()),
            diff_id: DiffId(Digest::of(name.as_bytes())),
            created: Some("2026-01-01T00:00:00Z".to_owned()),
        };
        vec![layer("one"), layer("two")]
    }

    /// Returns the entry with some text in it replaced.
    fn spoilt(key: &Digest, from: &str, to: &str) -> Manifest {
        let text = String::from_utf8(manifest_of(key, &layers()).bytes).unwrap();
        assert!(text.contains(from), "{text}");
        Manifest::parse(text.replace(from, to).into_bytes(), None).unwrap()
    }

    #[test]
    fn entries_come_back_as_they_were() {
        let key = Digest::of(b"key");
        let manifest = Manifest::parse(manifest_of(&key, &layers()).bytes, None).unwrap();
        assert_eq!(layers_of(&manifest, &key), Ok(layers()));
        assert!(tag(&key).as_str().starts_with("rpub-cache-"));
    }

    #[test]
    fn what_does_not_fit_is_no_entry() {
        let key = Digest::of(b"key");
        let other = Digest::of(b"other");
        assert!(layers_of(&manifest_of(&key, &layers()), &other).is_err());
        for (from, to) in [
            (ARTIFACT, "application/x"),
            ("\\\"version\\\":1", "\\\"version\\\":2"),
            (RECORD, "dev.example"),
            ("\"size\":3", "\"size\":0"),
            ("\"size\":3", "\"size\":9999999999999"),
            (media_type::OCI_LAYER_GZIP, "text/plain"),
            ("2026-01-01", "yesterday"),
        ] {
            assert!(layers_of(&spoilt(&key, from, to), &key).is_err(), "{from} -> {to}");
        }
    }
}
