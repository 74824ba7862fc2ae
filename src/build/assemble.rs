//! From layers and history to config and manifest, as BuildKit writes them.

use crate::image::{
    Descriptor, History, ImageConfig, ImageManifest, Manifest, Platform, RootFs, media_type,
};

use super::form::{AnnotationPlace, Form, MediaTypes, NewLayers, date};
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
    /// What it was assembled of.
    pub parts: Parts,
}

/// What an image is assembled of, in whatever [`Form`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The configuration, with the *base's* history in it.
    pub config: ImageConfig,
    /// The new history.
    pub items: Vec<HistoryItem>,
    /// All layers as the base has them and as the steps made them, the base's first.
    pub layers: Vec<Layer>,
}

impl Parts {
    /// Returns how many of the layers are the base's.
    #[must_use]
    pub fn base_layers(&self) -> usize {
        let made = self.items.iter().filter(|item| item.makes_layer).count();
        self.layers.len().saturating_sub(made)
    }
}

impl Image {
    /// Returns the manifest's descriptor with the platform, as an index names it.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor { platform: Some(self.platform.clone()), ..self.manifest.descriptor() }
    }
}

/// Assembles an image in `form` of `parts` and of `layers`: the parts' own, or what the form makes of
/// them. `now` (RFC 3339) dates what neither a layer nor the form dates.
#[must_use]
pub fn assemble(parts: Parts, layers: &[Layer], form: &Form, now: &str) -> Image {
    let base_layers = parts.base_layers();
    let mut config = parts.config.clone();
    match_history(&mut config.history, base_layers);
    let base_entries = config.history.len();
    config.history.extend(new_history(&parts.items, &layers[base_layers..], form));
    fill_dates(&mut config.history);
    let last = config.history.iter().rev().find_map(|entry| entry.created.clone());
    config.created = Some(last.unwrap_or_else(|| now.to_owned()));
    if let Some(epoch) = form.epoch {
        for entry in &mut config.history[base_entries..] {
            entry.created = Some(date(epoch));
        }
        config.created = Some(date(epoch));
    }
    let diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    config.rootfs = RootFs { diff_ids, ..RootFs::default() };
    let platform = config.platform();
    // Docker has no name for a zstd layer, and one manifest must not mix the families.
    let has_zstd = |layer: &Layer| layer.descriptor.media_type == media_type::OCI_LAYER_ZSTD;
    let media_types = if layers.iter().any(has_zstd) { MediaTypes::Oci } else { form.media_types };
    let layers: Vec<Layer> =
        layers.iter().map(|layer| layer.with_media_type_of(media_types)).collect();
    let bytes = config.to_bytes();
    let (config_type, manifest_type) = match media_types {
        MediaTypes::Oci => (media_type::OCI_CONFIG, media_type::OCI_MANIFEST),
        MediaTypes::Docker => (media_type::DOCKER_CONFIG, media_type::DOCKER_MANIFEST),
    };
    let config_descriptor = Descriptor::of(config_type, &bytes);
    let manifest = Manifest::from_image(ImageManifest {
        schema_version: 2,
        media_type: Some(manifest_type.to_owned()),
        artifact_type: None,
        config: config_descriptor.clone(),
        layers: layers.iter().map(|layer| layer.descriptor.clone()).collect(),
        subject: None,
        annotations: form.annotations.of(AnnotationPlace::Manifest, Some(&platform)),
    });
    Image { config: bytes, config_descriptor, manifest, layers, platform, parts }
}

/// Returns the history that goes with the new `layers`. When they are one in place of several, it
/// belongs to the last instruction that made one.
fn new_history(items: &[HistoryItem], layers: &[Layer], form: &Form) -> Vec<History> {
    let last_made = items.iter().rposition(|item| item.makes_layer);
    let has_layer = |position: usize| match form.new_layers {
        NewLayers::Separate => items[position].makes_layer,
        NewLayers::Squashed => Some(position) == last_made,
    };
    let mut dates = layers.iter().map(|layer| layer.created.clone());
    let mut history = Vec::with_capacity(items.len());
    for (position, item) in items.iter().enumerate() {
        history.push(History {
            created: if has_layer(position) { dates.next().flatten() } else { None },
            author: None,
            created_by: Some(item.created_by.clone()),
            comment: Some(COMMENT.to_owned()),
            empty_layer: !has_layer(position),
        });
    }
    history
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

    fn assembled(
        config: ImageConfig,
        items: &[HistoryItem],
        layers: &[Layer],
        form: &Form,
    ) -> Image {
        let parts = Parts { config, items: items.to_vec(), layers: layers.to_vec() };
        assemble(parts, layers, form, "now")
    }

    #[test]
    fn dates_follow_the_layers() {
        let mut config = ImageConfig { os: "linux".into(), ..ImageConfig::default() };
        config.history.push(History { created: Some("base".into()), ..History::default() });
        let items = [item("ENV a=b", false), item("RUN x", true), item("CMD y", false)];
        let layers = [layer("base", None), layer("new", Some("layer"))];
        let image = assembled(config, &items, &layers, &Form::default());
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
            let image = assembled(config, &[item("RUN x", true)], &layers, &Form::default());
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
        let layers = [layer("base", None)];
        let image = assembled(ImageConfig::default(), &[], &layers, &Form::default());
        let manifest = image.manifest.as_image().expect("an image");
        assert_eq!(manifest.layers[0].media_type, media_type::OCI_LAYER_GZIP);
        let config = ImageConfig::parse(&image.config).expect("valid");
        assert_eq!(config.created.as_deref(), Some("now"));
    }
    #[test]
    fn an_epoch_dates_the_image_and_only_what_is_new() {
        let mut config = ImageConfig::default();
        config.history.push(History { created: Some("base".into()), ..History::default() });
        let items = [item("ENV a=b", false), item("RUN x", true)];
        let layers = [layer("base", None), layer("new", Some("1960-01-01T00:00:00Z"))];
        let form = Form { epoch: Some(0), ..Form::default() };
        let image = assembled(config, &items, &layers, &form);
        let config = ImageConfig::parse(&image.config).expect("valid");
        let dates: Vec<_> = config.history.iter().filter_map(|h| h.created.as_deref()).collect();
        assert_eq!(dates, ["base", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"]);
        assert_eq!(config.created.as_deref(), Some("1970-01-01T00:00:00Z"));
    }

    #[test]
    fn the_last_step_stands_for_a_squashed_layer() {
        let items = [item("RUN x", true), item("RUN y", true), item("CMD z", false)];
        let made = [layer("base", None), layer("x", Some("1")), layer("y", Some("2"))];
        let parts =
            Parts { config: ImageConfig::default(), items: items.to_vec(), layers: made.to_vec() };
        let form = Form { new_layers: NewLayers::Squashed, ..Form::default() };
        let layers = [layer("base", None), layer("xy", Some("3"))];
        let image = assemble(parts, &layers, &form, "now");
        let config = ImageConfig::parse(&image.config).expect("valid");
        let named = config.history.iter().filter(|entry| !entry.empty_layer);
        let named: Vec<_> = named.map(|entry| entry.created_by.as_deref()).collect();
        assert_eq!(named, [None, Some("RUN y")]);
        assert_eq!(config.rootfs.diff_ids.len(), 2);
    }

    #[test]
    fn docker_types_are_all_dockers() {
        let form = Form { media_types: MediaTypes::Docker, ..Form::default() };
        let oci = Layer {
            descriptor: Descriptor::of(media_type::OCI_LAYER_GZIP, b"x"),
            ..layer("x", None)
        };
        let image = assembled(ImageConfig::default(), &[], &[oci], &form);
        assert_eq!(image.manifest.media_type, media_type::DOCKER_MANIFEST);
        assert_eq!(image.config_descriptor.media_type, media_type::DOCKER_CONFIG);
        assert_eq!(image.layers[0].descriptor.media_type, media_type::DOCKER_LAYER_GZIP);

        let zstd = Descriptor::of(media_type::OCI_LAYER_ZSTD, b"z");
        let zstd = Layer { descriptor: zstd, ..layer("z", None) };
        let image = assembled(ImageConfig::default(), &[], &[zstd, layer("x", None)], &form);
        assert_eq!(image.manifest.media_type, media_type::OCI_MANIFEST);
        assert_eq!(image.layers[1].descriptor.media_type, media_type::OCI_LAYER_GZIP);
    }
}
