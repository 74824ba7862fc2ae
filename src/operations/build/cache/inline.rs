//! Caches that an image carries: an annotation of its manifest names the keys of its steps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::build::{Image, Layer};
use crate::image::{Digest, ImageConfig, ImageManifest, Manifest};

use super::entry;

/// The annotation.
const KEYS: &str = "dev.rpub.cache.inline";
/// The version of what it says.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Carried {
    version: u32,
    /// How many layers are the base's.
    base: usize,
    /// The keys of the steps, one a layer that is not the base's, the lowest first.
    keys: Vec<Digest>,
}

/// Returns the image with the keys of its steps, one a layer above the base's; as it is when its
/// layers are not those of the steps.
///
/// # Panics
///
/// Never: digests serialise to JSON.
pub(in crate::operations::build) fn with_keys(mut image: Image, keys: &[Digest]) -> Image {
    let Some(mut manifest) = image.manifest.as_image().cloned() else { return image };
    let base = image.parts.base_layers();
    if manifest.layers.len() != base + keys.len() {
        return image;
    }
    let keys = Carried { version: VERSION, base, keys: keys.to_vec() };
    let text = serde_json::to_string(&keys).expect("digests serialise to JSON");
    manifest.annotations.insert(KEYS.to_owned(), text);
    image.manifest = Manifest::from_image(manifest);
    image
}

/// Returns what an image carries: for each key the layers that the step and those below it made.
pub(super) fn carried(
    manifest: &ImageManifest,
    config: &ImageConfig,
) -> Result<BTreeMap<Digest, Vec<Layer>>, String> {
    let Some(text) = manifest.annotations.get(KEYS) else { return Ok(BTreeMap::new()) };
    let keys: Carried =
        serde_json::from_str(text).map_err(|error| format!("its keys are malformed: {error}"))?;
    if keys.version != VERSION {
        return Err(format!("its keys have version {}", keys.version));
    }
    let diff_ids = &config.rootfs.diff_ids;
    let dates: Vec<_> = config.history.iter().filter(|entry| !entry.empty_layer).collect();
    let count = manifest.layers.len();
    let fits = diff_ids.len() == count
        && dates.len() == count
        && keys.base.checked_add(keys.keys.len()) == Some(count);
    if !fits {
        return Err("its keys and its layers do not fit".to_owned());
    }
    let made = (keys.base..count).map(|at| {
        let (diff_id, created) = (diff_ids[at].clone(), dates[at].created.clone());
        entry::layer(&manifest.layers[at], diff_id, created)
    });
    let made: Vec<Layer> = made.collect::<Result<_, _>>()?;
    let entries = keys.keys.into_iter().enumerate();
    Ok(entries.map(|(at, key)| (key, made[..=at].to_vec())).collect())
}
