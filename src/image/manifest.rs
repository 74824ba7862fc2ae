//! Manifests and indexes: the bytes as received, and a view of what they say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Descriptor, Digest, Error, Platform, json, media_type};

/// Largest manifest rpub reads. OCI distribution-spec asks for support of at least 4 MiB.
pub const MAX_MANIFEST_BYTES: usize = 8 << 20;

/// A manifest or an index: exact bytes with their digest, and the parsed view beside them.
///
/// What is stored, hashed and sent are always the bytes; the view is never written back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The bytes as received or made.
    pub bytes: Vec<u8>,
    /// The media type.
    pub media_type: String,
    /// The digest of `bytes`.
    pub digest: Digest,
    /// What the bytes say.
    pub content: Content,
}

/// The parsed view of a [`Manifest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// One image (or artifact) for one platform.
    Image(Box<ImageManifest>),
    /// Several manifests, usually one a platform.
    Index(Box<Index>),
}

/// An image manifest (OCI image-spec, manifest.md; Docker image manifest version 2 schema 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own media type; optional in OCI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The artifact type, when this is an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers, bottom first.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An image index (OCI image-spec, image-index.md; Docker manifest list).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The index's own media type; optional in OCI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The artifact type, when this is an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests, in the order of preference.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// Returns the entry that suits `wanted` best; among equals the first wins.
    ///
    /// Entries without a platform and attestations (`unknown/unknown`) are never chosen.
    #[must_use]
    pub fn choose(&self, wanted: &Platform) -> Option<&Descriptor> {
        self.manifests
            .iter()
            .filter_map(|entry| Some((entry.platform.as_ref()?.rank_for(wanted)?, entry)))
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, entry)| entry)
    }

    /// Returns the platforms of the entries, attestations left out.
    pub fn platforms(&self) -> impl Iterator<Item = &Platform> {
        self.manifests
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .filter(|platform| platform.os != "unknown")
    }
}

impl Manifest {
    /// Checks that an image's config and layers are of its own format, Docker's or OCI's: some
    /// registries refuse others. Types of neither, as artifacts have them, fit both.
    ///
    /// # Errors
    ///
    /// [`Error::MixedMediaTypes`]; and [`Error::UncompressedLayer`], because Docker image manifest
    /// version 2, schema 2, knows compressed layers only.
    pub fn check_media_types(&self) -> Result<(), Error> {
        let Some(image) = self.as_image() else { return Ok(()) };
        let is_docker = self.media_type == media_type::DOCKER_MANIFEST;
        let others = if is_docker { media_type::OCI_PARTS } else { media_type::DOCKER_PARTS };
        for part in image.layers.iter().chain([&image.config]).map(|part| &part.media_type) {
            if others.iter().any(|start| part.starts_with(start)) {
                let manifest = self.media_type.clone();
                return Err(Error::MixedMediaTypes { manifest, part: part.clone() });
            }
            if is_docker && part == media_type::DOCKER_LAYER_TAR {
                return Err(Error::UncompressedLayer(part.clone()));
            }
        }
        Ok(())
    }

    /// Parses `bytes`, whose media type is `declared` when the sender said one.
    ///
    /// Without a usable declaration the body's own `mediaType` counts, and without that its shape.
    ///
    /// # Errors
    ///
    /// [`Error::Schema1`] and [`Error::MediaType`] for formats rpub does not read, and
    /// [`Error::Json`] for bytes that are not such a manifest, that declare two different media
    /// types, that have a key twice, or that hold both `layers` and `manifests` (OCI image-spec,
    /// manifest.md, "Security considerations": such a body means different things to different
    /// readers).
    pub fn parse(bytes: Vec<u8>, declared: Option<&str>) -> Result<Self, Error> {
        let value = json::parse(&bytes).map_err(|error| invalid("manifest", &error))?;
        let media_type = decide_media_type(&value, declared)?;
        let content = if media_type::is_index(&media_type) {
            Content::Index(serde_json::from_value(value).map_err(|error| invalid("index", &error))?)
        } else {
            Content::Image(
                serde_json::from_value(value).map_err(|error| invalid("manifest", &error))?,
            )
        };
        let digest = Digest::of(&bytes);
        Ok(Self { bytes, media_type, digest, content })
    }

    /// Returns the manifest that `image` serialises to. Only for manifests that rpub itself makes.
    ///
    /// # Panics
    ///
    /// Never: the types hold nothing that JSON cannot express.
    #[must_use]
    pub fn from_image(image: ImageManifest) -> Self {
        let bytes = serde_json::to_vec(&image).expect("manifests serialise to JSON");
        let media_type =
            image.media_type.clone().unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned());
        let digest = Digest::of(&bytes);
        Self { bytes, media_type, digest, content: Content::Image(Box::new(image)) }
    }

    /// Returns the index that `index` serialises to. Only for indexes that rpub itself makes.
    ///
    /// # Panics
    ///
    /// Never: the types hold nothing that JSON cannot express.
    #[must_use]
    pub fn from_index(index: Index) -> Self {
        let bytes = serde_json::to_vec(&index).expect("indexes serialise to JSON");
        let media_type =
            index.media_type.clone().unwrap_or_else(|| media_type::OCI_INDEX.to_owned());
        let digest = Digest::of(&bytes);
        Self { bytes, media_type, digest, content: Content::Index(Box::new(index)) }
    }

    /// Returns the manifest's descriptor, without a platform.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest.clone(), self.bytes.len() as u64)
    }

    /// Returns the image manifest, or `None` for an index.
    #[must_use]
    pub fn as_image(&self) -> Option<&ImageManifest> {
        match &self.content {
            Content::Image(image) => Some(image),
            Content::Index(_) => None,
        }
    }
}

impl Manifest {
    /// Returns the manifest that this one refers to, as signatures do.
    #[must_use]
    pub fn subject(&self) -> Option<&Descriptor> {
        match &self.content {
            Content::Image(image) => image.subject.as_ref(),
            Content::Index(index) => index.subject.as_ref(),
        }
    }

    /// Returns the manifest's own annotations.
    #[must_use]
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        match &self.content {
            Content::Image(image) => &image.annotations,
            Content::Index(index) => &index.annotations,
        }
    }

    /// Returns everything that must be in the repository before the manifest is: config and
    /// layers, or the manifests of an index. Layers that are elsewhere (`urls`) are left out.
    pub fn parts(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, rest) = match &self.content {
            Content::Image(image) => (Some(&image.config), &image.layers),
            Content::Index(index) => (None, &index.manifests),
        };
        config.into_iter().chain(rest.iter().filter(|part| part.urls.is_empty()))
    }

    /// Returns the descriptor under which the manifest is listed among the referrers of its subject
    /// (OCI distribution-spec, "Listing Referrers"): with its annotations and its artifact type,
    /// which an image manifest without one takes from its config.
    #[must_use]
    pub fn as_referrer(&self) -> Descriptor {
        let artifact_type = match &self.content {
            Content::Image(image) => {
                let own = image.artifact_type.clone().filter(|text| !text.is_empty());
                own.or_else(|| Some(image.config.media_type.clone()))
            }
            Content::Index(index) => index.artifact_type.clone(),
        };
        let annotations = self.annotations().clone();
        Descriptor { annotations, artifact_type, ..self.descriptor() }
    }
}

fn decide_media_type(value: &Value, declared: Option<&str>) -> Result<String, Error> {
    let own = value.get("mediaType").and_then(Value::as_str);
    let declared = declared
        .map(|text| text.split(';').next().unwrap_or(text).trim())
        .filter(|text| text.contains("manifest") || text.contains("index"));
    let is_schema1 = |text: &str| text.contains("distribution.manifest.v1");
    if own.is_some_and(is_schema1)
        || declared.is_some_and(is_schema1)
        || value.get("schemaVersion").and_then(Value::as_u64) == Some(1)
    {
        return Err(Error::Schema1);
    }
    let (has_layers, has_manifests) =
        (value.get("layers").is_some(), value.get("manifests").is_some());
    if has_layers && has_manifests {
        let reason = "it holds both `layers` and `manifests`".to_owned();
        return Err(Error::Json { what: "manifest", reason });
    }
    if let (Some(own), Some(declared)) = (own, declared)
        && own != declared
    {
        let reason = format!("it calls itself `{own}` but was sent as `{declared}`");
        return Err(Error::Json { what: "manifest", reason });
    }
    let by_shape = if has_manifests { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST };
    let media_type = declared.or(own).unwrap_or(by_shape);
    if media_type::is_index(media_type) || media_type::is_manifest(media_type) {
        Ok(media_type.to_owned())
    } else {
        Err(Error::MediaType(media_type.to_owned()))
    }
}

fn invalid(what: &'static str, error: &serde_json::Error) -> Error {
    Error::Json { what, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(extra: &str) -> Vec<u8> {
        let digest = Digest::of(b"{}");
        format!(
            r#"{{"schemaVersion":2,{extra}"config":{{"mediaType":"x","digest":"{digest}","size":2}},"layers":[]}}"#
        )
        .into_bytes()
    }

    #[test]
    fn keeps_bytes_and_digest_as_received() {
        let bytes = image(r#""unknown": 1,  "#);
        let manifest = Manifest::parse(bytes.clone(), None).expect("valid");
        assert_eq!(manifest.digest, Digest::of(&bytes));
        assert_eq!(manifest.bytes, bytes);
        assert_eq!(manifest.media_type, media_type::OCI_MANIFEST);
    }

    #[test]
    fn declared_type_may_have_parameters_and_must_agree() {
        let docker = format!("{}; charset=utf-8", media_type::DOCKER_MANIFEST);
        let manifest = Manifest::parse(image(""), Some(&docker)).expect("valid");
        assert_eq!(manifest.media_type, media_type::DOCKER_MANIFEST);
        let own = format!(r#""mediaType":"{}","#, media_type::OCI_MANIFEST);
        assert!(Manifest::parse(image(&own), Some(media_type::DOCKER_MANIFEST)).is_err());
        assert!(Manifest::parse(image(&own), Some("application/json")).is_ok());
    }

    #[test]
    fn refuses_schema1_and_ambiguity() {
        let schema1 = br#"{"schemaVersion":1,"name":"a"}"#.to_vec();
        assert_eq!(Manifest::parse(schema1, None), Err(Error::Schema1));
        assert!(Manifest::parse(image(r#""manifests":[],"#), None).is_err());
        assert!(Manifest::parse(image(r#""layers":[],"#), None).is_err(), "a key twice");
        assert!(Manifest::parse(b"{".to_vec(), None).is_err());
        assert!(Manifest::parse(b"[]".to_vec(), None).is_err());
    }

    #[test]
    fn index_chooses_the_best_platform() {
        let entry = |platform: &str, name: &[u8]| Descriptor {
            platform: Some(platform.parse().expect("valid")),
            ..Descriptor::of(media_type::OCI_MANIFEST, name)
        };
        let index = Index {
            schema_version: 2,
            media_type: None,
            artifact_type: None,
            manifests: vec![
                Descriptor::of(media_type::OCI_MANIFEST, b"none"),
                entry("linux/arm/v6", b"6"),
                entry("linux/arm/v7", b"7"),
                entry("linux/amd64", b"amd"),
            ],
            subject: None,
            annotations: BTreeMap::new(),
        };
        let choose = |text: &str| index.choose(&text.parse().expect("valid")).map(|d| &d.digest);
        assert_eq!(choose("linux/arm/v7"), Some(&Digest::of(b"7")));
        assert_eq!(choose("linux/arm/v6"), Some(&Digest::of(b"6")));
        assert_eq!(choose("linux/amd64"), Some(&Digest::of(b"amd")));
        assert_eq!(choose("linux/s390x"), None);
    }
}
