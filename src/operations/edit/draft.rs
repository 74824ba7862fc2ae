//! One image taken apart for editing.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::image::{
    Content, Descriptor, DiffId, Digest, ImageConfig, ImageManifest, Manifest, Platform, media_type,
};
use crate::operations::{Error, Kind, Session};

use super::json;
use crate::operations::place::Place;

/// Manifest and config of one image, to be changed.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// What to call it in messages.
    pub(super) name: String,
    /// The manifest's document.
    pub(super) manifest: Value,
    /// The config's document; null for an artifact, which has none.
    pub(super) config: Value,
    /// Where its blobs are, those that are neither new nor in `origins`.
    pub(super) place: Place,
    /// Where blobs are that are new (the store) or came from elsewhere.
    pub(super) origins: BTreeMap<Digest, Place>,
    before: Option<Before>,
}

/// What the draft was made of.
#[derive(Debug, Clone)]
struct Before {
    manifest: Manifest,
    config: Vec<u8>,
}

/// An image with its edits.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) manifest: Manifest,
    /// The config's bytes, when they are new.
    pub(super) config: Option<Vec<u8>>,
    pub(super) platform: Option<Platform>,
    pub(super) origins: BTreeMap<Digest, Place>,
}

/// A layer of a draft.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DraftLayer {
    /// Its descriptor, with all its members.
    pub(super) entry: Value,
    pub(super) diff_id: DiffId,
}

impl DraftLayer {
    /// Returns the descriptor as far as it is known here.
    pub(super) fn descriptor(&self) -> Result<Descriptor, Error> {
        serde_json::from_value(self.entry.clone())
            .map_err(|error| Error::new(Kind::User, "unusable layer descriptor").because(error))
    }
}

impl Draft {
    /// Takes an image apart; its config is read from `place`.
    pub(super) async fn open(
        session: &Session,
        place: &Place,
        name: &str,
        manifest: &Manifest,
    ) -> Result<Self, Error> {
        let Content::Image(image) = &manifest.content else {
            let message = format!("`{name}` is an index where an image is expected");
            return Err(Error::new(Kind::User, message));
        };
        let about = |error: Error| error.about(format!("failed to read the config of `{name}`"));
        let mut config = Vec::new();
        let mut document = Value::Null;
        if media_type::is_image_config(&image.config.media_type) {
            config = place.config_bytes(session, &image.config).await.map_err(about)?;
            ImageConfig::parse(&config).map_err(|error| about(error.into()))?;
            document = serde_json::from_slice(&config).unwrap_or_default();
        }
        Ok(Self {
            name: name.to_owned(),
            manifest: json::document(manifest),
            config: document,
            place: place.clone(),
            origins: BTreeMap::new(),
            before: Some(Before { manifest: manifest.clone(), config }),
        })
    }

    /// Returns an image for `platform` that holds nothing.
    pub(super) fn empty(platform: &Platform) -> Self {
        let config = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            ..ImageConfig::default()
        };
        let manifest = ImageManifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::of(media_type::OCI_CONFIG, b""),
            layers: Vec::new(),
            subject: None,
            annotations: BTreeMap::new(),
        };
        Self {
            name: "scratch".to_owned(),
            manifest: json::document(&Manifest::from_image(manifest)),
            config: serde_json::from_slice(&config.to_bytes()).unwrap_or_default(),
            place: Place::Store,
            origins: BTreeMap::new(),
            before: None,
        }
    }

    /// Refuses an artifact, which is no image and has no config to edit.
    pub(super) fn expect_image(&self) -> Result<(), Error> {
        if !self.config.is_null() {
            return Ok(());
        }
        let kind = self.manifest["artifactType"]
            .as_str()
            .or(self.manifest["config"]["mediaType"].as_str());
        let kind = kind.unwrap_or("unknown");
        let message = format!("`{}` is an artifact (`{kind}`), not an image", self.name);
        Err(Error::new(Kind::User, message).hint("only annotations of artifacts can be edited"))
    }

    /// Returns the manifest's digest before any edit.
    pub(super) fn previous(&self) -> Option<&Digest> {
        self.before.as_ref().map(|before| &before.manifest.digest)
    }

    /// Returns whether the manifest is of Docker's family.
    pub(super) fn is_docker(&self) -> bool {
        media_type::is_docker(self.manifest_type())
    }

    fn manifest_type(&self) -> &str {
        let own = self.manifest["mediaType"].as_str();
        let before = self.before.as_ref().map(|before| before.manifest.media_type.as_str());
        own.or(before).unwrap_or(media_type::OCI_MANIFEST)
    }

    /// Returns what the image says that it is for.
    pub(super) fn platform(&self) -> Option<Platform> {
        let config = ImageConfig::parse(&json::bytes(&self.config)).ok()?;
        (!config.os.is_empty() && !config.architecture.is_empty()).then(|| config.platform())
    }

    /// Returns the layers, bottom first.
    pub(super) fn layers(&self) -> Result<Vec<DraftLayer>, Error> {
        let entries = self.manifest["layers"].as_array().cloned().unwrap_or_default();
        let ids = self.config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
        if entries.len() != ids.len() {
            let (layers, ids) = (entries.len(), ids.len());
            let message =
                format!("`{}` has {layers} layers, but its config has {ids} diffIDs", self.name);
            return Err(Error::new(Kind::Integrity, message));
        }
        let pairs = entries.into_iter().zip(ids);
        let layer = |(entry, id): (Value, Value)| {
            let diff_id = serde_json::from_value(id).map_err(|error| {
                Error::new(Kind::User, format!("`{}` has an unusable diffID", self.name))
                    .because(error)
            })?;
            Ok(DraftLayer { entry, diff_id })
        };
        pairs.map(layer).collect()
    }

    /// Replaces the layers.
    pub(super) fn set_layers(&mut self, layers: Vec<DraftLayer>) {
        let (entries, ids): (Vec<Value>, Vec<Value>) = layers
            .into_iter()
            .map(|layer| (layer.entry, Value::String(layer.diff_id.to_string())))
            .unzip();
        *json::list(&mut self.manifest, "layers") = entries;
        if self.config["rootfs"].is_null() {
            json::object(&mut self.config, "rootfs").insert("type".into(), "layers".into());
        }
        *json::list(&mut self.config["rootfs"], "diff_ids") = ids;
    }

    /// Makes the new bytes. What was not changed keeps those it had.
    pub(super) fn finish(mut self) -> Result<Finished, Error> {
        let media_type = self.manifest_type().to_owned();
        let platform = self.platform();
        let mut config = None;
        if !self.config.is_null() {
            let old = self.before.as_ref().map(|before| before.config.as_slice());
            let is_same = old.is_some_and(|bytes| {
                serde_json::from_slice::<Value>(bytes).is_ok_and(|value| value == self.config)
            });
            if !is_same {
                let bytes = json::bytes(&self.config);
                let kind = self.manifest["config"]["mediaType"].as_str().unwrap_or_default();
                let descriptor = Descriptor::of(kind, &bytes);
                json::point_to(&mut self.manifest["config"], &descriptor);
                config = Some(bytes);
            }
        }
        let manifest = match self.before {
            Some(before) if json::document(&before.manifest) == self.manifest => before.manifest,
            _ => Manifest::parse(json::bytes(&self.manifest), Some(&media_type))?,
        };
        Ok(Finished { manifest, config, platform, origins: self.origins })
    }
}
