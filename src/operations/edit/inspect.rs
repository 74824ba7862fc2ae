//! `index inspect`: what a name stands for.

use serde_json::Value;

use crate::image::{Content, Manifest, Platform, media_type};
use crate::operations::{Error, Session};

use super::json;
use crate::operations::place::{ImageSource, Top};

/// Whether configs are read as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithConfigs {
    /// The manifest alone.
    No,
    /// The config of each image.
    Yes,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// The manifest or index, with its exact bytes.
    pub manifest: Manifest,
    /// The same as a value.
    pub document: Value,
    /// The configs by platform, when they were asked for; that of one image alone.
    pub configs: Value,
}

/// Reads what `source` names; of an index, the image for `platform` when one is given.
///
/// # Errors
///
/// When it is not there, or cannot be read.
pub async fn inspect_remote(
    session: &Session,
    source: &ImageSource,
    platform: Option<&Platform>,
    configs: WithConfigs,
) -> Result<Inspected, Error> {
    let mut top = Top::read(session, source).await?;
    if let Some(platform) = platform {
        top.manifest = top.image(session, platform).await?;
    }
    let configs = match configs {
        WithConfigs::No => Value::Null,
        WithConfigs::Yes => read_configs(session, &top).await?,
    };
    let document = json::document(&top.manifest);
    Ok(Inspected { manifest: top.manifest, document, configs })
}

async fn read_configs(session: &Session, top: &Top) -> Result<Value, Error> {
    let index = match &top.manifest.content {
        Content::Image(_) => return read_config(session, top, &top.manifest).await,
        Content::Index(index) => index,
    };
    let mut configs = serde_json::Map::new();
    for entry in &index.manifests {
        let Some(platform) = &entry.platform else { continue };
        if platform.os == "unknown" || media_type::is_index(&entry.media_type) {
            continue;
        }
        let manifest = top.place.manifest(session, &entry.digest, Some(&entry.media_type)).await?;
        configs.insert(platform.to_string(), read_config(session, top, &manifest).await?);
    }
    Ok(Value::Object(configs))
}

async fn read_config(session: &Session, top: &Top, manifest: &Manifest) -> Result<Value, Error> {
    let Some(image) = manifest.as_image() else { return Ok(Value::Null) };
    if !media_type::is_image_config(&image.config.media_type) {
        return Ok(Value::Null);
    }
    let bytes = top.place.config_bytes(session, &image.config).await?;
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}
