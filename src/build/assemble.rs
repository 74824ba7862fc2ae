//! From layers and history to config and manifest, as BuildKit writes them.

use std::collections::BTreeMap;

use crate::image::{
    Descriptor, History, ImageConfig, ImageManifest, Manifest, Platform, RootFs, media_type,
};

use super::layer::Layer;

/// The note that BuildKit leaves on every history entry, which tools look for.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// BuildKit's note on an entry for a layer that nobody described.
const FILLER_COMMENT: &str = "buildkit.exporter.image.v0";

/// One line of a stage's history: an instruction and whether it made a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryItem {
    /// The instruction as history words it.
    pub created_by: String,
    /// Whether it made a layer.
    pub makes_layer: bool,
}

/// A finished image: its config and manifest with the layers they name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The config's bytes.
    pub config: Vec<u8>,
    /// The config's descriptor.
    pub config_descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The layers, bottom first, with the media types that the manifest gives them.
    pub layers: Vec<Layer>,
    /// What it runs on.
    pub platform: Platform,
}

impl Image {
    /// Returns the manifest's descriptor with the platform, as an index names it.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor { platform: Some(self.platform.clone()), ..self.manifest.descriptor() }
    }
}

/// Assembles the image of a stage.
///
/// `config` is the stage's configuration with the *base's* history in it; `items` are the new
/// entries, and `layers` all layers, the base's first. `now` (RFC 3339) dates what no layer dates.
#[must_use]
pub fn assemble(
    mut config: ImageConfig,
    items: &[HistoryItem],
    layers: &[Layer],
    now: &str,
) -> Image {
    let made = items.iter().filter(|item| item.makes_layer).count();
    let new_layers = layers.len().saturating_sub(made);
    match_history(&mut config.history, new_layers);
    let mut dates = layers[new_layers..].iter().map(|layer| layer.created.clone());
    config.history.extend(items.iter().map(|item| History {
        created: if item.makes_layer { dates.next().flatten() } else { None },
        author: None,
        created_by: Some(item.created_by.clone()),
        comment: Some(COMMENT.to_owned()),
        empty_layer: !item.makes_layer,
    }));
    fill_dates(&mut config.history);
    let last = config.history.iter().rev().find_map(|entry| entry.created.clone());
    config.created = Some(last.unwrap_or_else(|| now.to_owned()));
    let diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    config.rootfs = RootFs { diff_ids, ..RootFs::default() };
    let platform = config.platform();
    let layers: Vec<Layer> = layers.iter().map(Layer::with_oci_media_type).collect();
    let bytes = config.to_bytes();
    let config_descriptor = Descriptor::of(media_type::OCI_CONFIG, &bytes);
    let manifest = Manifest::from_image(ImageManifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: config_descriptor.clone(),
        layers: layers.iter().map(|layer| layer.descriptor.clone()).collect(),
        subject: None,
        annotations: BTreeMap::new(),
    });
    Image { config: bytes, config_descriptor, manifest, layers, platform }
}

/// Makes a base's history name as many layers as the base has: tools that made it may have written
/// none, or too many, and readers count (BuildKit, `normalizeLayersAndHistory`).
fn match_history(history: &mut Vec<History>, layers: usize) {
    let mut named = history.iter().filter(|entry| !entry.empty_layer).count();
    for entry in history.iter_mut().filter(|entry| !entry.empty_layer) {
        if named <= layers {
            break;
        }
        entry.empty_layer = true;
        named -= 1;
    }
    let missing = layers.saturating_sub(named);
    let filler = History { comment: Some(FILLER_COMMENT.to_owned()), ..History::default() };
    history.extend(std::iter::repeat_n(filler, missing));
}

/// Dates the entries that have no date: with that of the first new layer, later ones with that of
/// the layer before them (BuildKit, `exporter/containerimage/writer.go`,
/// `normalizeLayersAndHistory`). So a build whose layers all come from the cache gives the same
/// config again.
fn fill_dates(history: &mut [History]) {
    let mut current: Option<String> = None;
    let mut seen_undated = false;
    for entry in history.iter() {
        match &entry.created {
            Some(created) => {
                current = Some(created.clone());
                if seen_undated {
                    break;
                }
            }
            None => seen_undated = true,
        }
    }
    let mut after_undated = false;
    for entry in history {
        if entry.created.is_none() {
            after_undated = true;
            entry.created.clone_from(&current);
        } else if after_undated {
            current.clone_from(&entry.created);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{DiffId, Digest};

    fn layer(name: &str, created: Option<&str>) -> Layer {
        Layer {
            descriptor: Descriptor::of(media_type::DOCKER_LAYER_GZIP, name.as_bytes()),
            diff_id: DiffId(Digest::of(name.as_bytes())),
            created: created.map(str::to_owned),
        }
    }

    fn item(created_by: &str, makes_layer: bool) -> HistoryItem {
        HistoryItem { created_by: created_by.to_owned(), makes_layer }
    }

    #[test]
    fn dates_follow_the_layers() {
        let mut config = ImageConfig { os: "linux".into(), ..ImageConfig::default() };
        config.history.push(History { created: Some("base".into()), ..History::default() });
        let items = [item("ENV a=b", false), item("RUN x", true), item("CMD y", false)];
        let layers = [layer("base", None), layer("new", Some("layer"))];
        let image = assemble(config, &items, &layers, "now");
        let config = ImageConfig::parse(&image.config).expect("valid");
        let dates: Vec<_> = config.history.iter().filter_map(|h| h.created.as_deref()).collect();
        assert_eq!(dates, ["base", "layer", "layer", "layer"]);
        assert_eq!(config.created.as_deref(), Some("layer"));
        assert_eq!(config.rootfs.diff_ids.len(), 2);
    }

    #[test]
    fn the_history_names_as_many_layers_as_there_are() {
        let layers = [layer("a", None), layer("b", None), layer("new", Some("now"))];
        let named = |history: Vec<History>| {
            let config = ImageConfig { history, ..ImageConfig::default() };
            let image = assemble(config, &[item("RUN x", true)], &layers, "now");
            let config = ImageConfig::parse(&image.config).expect("valid");
            let last = config.history.last().and_then(|entry| entry.created_by.clone());
            assert_eq!(last.as_deref(), Some("RUN x"));
            config.history.iter().filter(|entry| !entry.empty_layer).count()
        };
        assert_eq!(named(Vec::new()), 3);
        assert_eq!(named(vec![History::default()]), 3);
        assert_eq!(named(vec![History::default(); 4]), 3);
    }

    #[test]
    fn manifest_never_mixes_docker_and_oci_types() {
        let image =
            assemble(ImageConfig::default(), &[], &[layer("base", None)], "2026-01-01T00:00:00Z");
        let manifest = image.manifest.as_image().expect("an image");
        assert_eq!(manifest.layers[0].media_type, media_type::OCI_LAYER_GZIP);
        let config = ImageConfig::parse(&image.config).expect("valid");
        assert_eq!(config.created.as_deref(), Some("2026-01-01T00:00:00Z"));
    }
}
