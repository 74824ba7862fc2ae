//! What documents must say of one another.

use crate::image::{Descriptor, ImageConfig, ImageManifest, Index, Manifest, Platform, media_type};

/// Returns what is wrong with an index, whose media type is `kind`.
pub(super) fn index(index: &Index, kind: &str) -> Vec<String> {
    let mut faults = version(index.schema_version);
    if index.manifests.is_empty() {
        faults.push("it names no manifest".to_owned());
    }
    for entry in &index.manifests {
        let is_named =
            media_type::is_index(&entry.media_type) || media_type::is_manifest(&entry.media_type);
        if !is_named {
            let (digest, found) = (&entry.digest, &entry.media_type);
            faults
                .push(format!("its entry {digest} is of the kind `{found}`, which is no manifest"));
        } else if media_type::is_docker(kind) && !media_type::is_docker(&entry.media_type) {
            faults.push(format!("it is of Docker's format, its entry {} is not", entry.digest));
        }
    }
    faults
}

/// Returns how `child` differs from what an index says of it.
pub(super) fn entry(entry: &Descriptor, child: &Manifest) -> Vec<String> {
    let mut faults = Vec::new();
    let size = child.bytes.len() as u64;
    if entry.size != size {
        faults.push(format!("it has {size} bytes, but the index says {}", entry.size));
    }
    if entry.media_type != child.media_type {
        let (is, said) = (&child.media_type, &entry.media_type);
        faults.push(format!("it is of the kind `{is}`, but the index says `{said}`"));
    }
    faults
}

/// Returns what is wrong with an image manifest, whose media type is `kind`.
pub(super) fn manifest(image: &ImageManifest, kind: &str) -> Vec<String> {
    let mut faults = version(image.schema_version);
    if !media_type::is_image_config(&image.config.media_type) {
        // An artifact: what its parts are is its own affair.
        return faults;
    }
    let is_docker = media_type::is_docker(kind);
    for part in image.layers.iter().chain([&image.config]) {
        let (name, found) = (&part.digest, &part.media_type);
        let is_known = media_type::is_layer(found) || media_type::is_image_config(found);
        if !is_known {
            faults.push(format!("its layer {name} is of the unknown kind `{found}`"));
        } else if media_type::is_docker(found) != is_docker {
            let family = if is_docker { "Docker's" } else { "OCI's" };
            faults.push(format!("it is of {family} format, `{found}` of {name} is not"));
        }
    }
    faults
}

/// Returns how a config fails to describe an image that is said to be for `platform`.
pub(super) fn config(
    config: &ImageConfig,
    image: &ImageManifest,
    platform: Option<&Platform>,
) -> Vec<String> {
    let mut faults = Vec::new();
    if config.os.is_empty() || config.architecture.is_empty() {
        faults.push("it names no operating system or architecture".to_owned());
    } else if let Some(said) = platform.filter(|said| said.os != "unknown") {
        let own = config.platform();
        if (&own.os, &own.architecture) != (&said.os, &said.architecture) {
            faults.push(format!("it is for {own}, but the index says {said}"));
        }
    }
    if config.rootfs.kind != "layers" {
        faults.push(format!("the kind of its rootfs is `{}`, not `layers`", config.rootfs.kind));
    }
    let (layers, ids) = (image.layers.len(), config.rootfs.diff_ids.len());
    if layers != ids {
        faults.push(format!("it has {ids} diffIDs for {layers} layers"));
    }
    let filled = config.history.iter().filter(|entry| !entry.empty_layer).count();
    if !config.history.is_empty() && filled != layers {
        faults.push(format!("its history tells of {filled} layers, but there are {layers}"));
    }
    faults
}

fn version(number: u32) -> Vec<String> {
    if number == 2 { Vec::new() } else { vec![format!("its schemaVersion is {number}, not 2")] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{DiffId, Digest, History};

    fn image() -> (ImageManifest, ImageConfig) {
        let layer = Descriptor::of(media_type::OCI_LAYER_GZIP, b"layer");
        let manifest = ImageManifest {
            schema_version: 2,
            media_type: None,
            artifact_type: None,
            config: Descriptor::of(media_type::OCI_CONFIG, b"{}"),
            layers: vec![layer],
            subject: None,
            annotations: [].into(),
        };
        let mut config = ImageConfig {
            os: "linux".into(),
            architecture: "amd64".into(),
            history: vec![History::default()],
            ..ImageConfig::default()
        };
        config.rootfs.diff_ids.push(DiffId(Digest::of(b"tar")));
        (manifest, config)
    }

    #[test]
    fn a_sound_image_has_no_faults() {
        let (manifest, config) = image();
        let platform = "linux/amd64".parse().ok();
        assert_eq!(super::manifest(&manifest, media_type::OCI_MANIFEST), Vec::<String>::new());
        assert_eq!(super::config(&config, &manifest, platform.as_ref()), Vec::<String>::new());
    }

    #[test]
    fn every_fault_of_an_image_is_found() {
        let (mut manifest, mut config) = image();
        manifest.schema_version = 1;
        manifest.layers[0].media_type = "odd".into();
        manifest.layers.push(Descriptor::of(media_type::DOCKER_LAYER_GZIP, b"other"));
        let faults = super::manifest(&manifest, media_type::OCI_MANIFEST).join("; ");
        for expected in ["schemaVersion is 1", "unknown kind `odd`", "of OCI's format"] {
            assert!(faults.contains(expected), "{faults}");
        }
        config.rootfs.kind = "odd".into();
        let platform = "linux/arm64".parse().ok();
        let faults = super::config(&config, &manifest, platform.as_ref()).join("; ");
        for expected in ["is for linux/amd64", "`odd`", "1 diffIDs for 2", "tells of 1 layers"] {
            assert!(faults.contains(expected), "{faults}");
        }
    }

    #[test]
    fn an_index_must_agree_with_what_it_names() {
        let (manifest, _) = image();
        let child = Manifest::from_image(manifest);
        assert_eq!(entry(&child.descriptor(), &child), Vec::<String>::new());
        let wrong = Descriptor { size: 1, ..Descriptor::new("odd", child.digest.clone(), 1) };
        assert_eq!(entry(&wrong, &child).len(), 2);
        let parts = Index {
            schema_version: 2,
            media_type: None,
            artifact_type: None,
            manifests: vec![wrong, child.descriptor()],
            subject: None,
            annotations: [].into(),
        };
        assert_eq!(index(&parts, media_type::OCI_INDEX).len(), 1);
        assert_eq!(index(&parts, media_type::DOCKER_INDEX).len(), 2);
        let none = Index { manifests: Vec::new(), ..parts };
        assert_eq!(index(&none, media_type::OCI_INDEX).len(), 1);
    }
}
