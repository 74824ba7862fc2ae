//! Images with layers that no honest tool would make.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::registry::{Registry, digest_of};
use super::{TestContext, has_tools};

/// The bytes of a layer and the diffID that the config states for it.
pub(crate) struct CraftedLayer {
    pub(crate) blob: Vec<u8>,
    pub(crate) diff_id: String,
}

impl CraftedLayer {
    /// Compresses a tar.
    pub(crate) fn gzip(tar: &[u8]) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(tar).unwrap();
        Self { blob: encoder.finish().unwrap(), diff_id: digest_of(tar) }
    }
}

/// Pushes an image of these layers with `skopeo`, which looks into none of them; returns the
/// layers' digests.
pub(crate) fn push_crafted(
    context: &TestContext,
    registry: &Registry,
    name: &str,
    layers: &[CraftedLayer],
) -> Option<Vec<String>> {
    if !has_tools(&["skopeo"]) {
        return None;
    }
    let layout = format!("crafted-{}", name.replace(['/', ':'], "-"));
    let write = |bytes: &[u8]| {
        let digest = digest_of(bytes);
        context.write(format!("{layout}/blobs/sha256/{}", &digest[7..]), bytes);
        digest
    };
    let kind = |word: &str| format!("application/vnd.oci.image.{word}");
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": diff_ids.iter().map(|_| json!({"created_by": "craft"})).collect::<Vec<_>>(),
    })
    .to_string();
    let digests: Vec<String> = layers.iter().map(|layer| write(&layer.blob)).collect();
    let descriptors: Vec<_> = layers
        .iter()
        .zip(&digests)
        .map(|(layer, digest)| {
            let media_type = kind("layer.v1.tar+gzip");
            json!({"mediaType": media_type, "digest": digest, "size": layer.blob.len()})
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": kind("manifest.v1+json"),
        "config": {
            "mediaType": kind("config.v1+json"),
            "digest": write(config.as_bytes()), "size": config.len(),
        },
        "layers": descriptors,
    })
    .to_string();
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": kind("manifest.v1+json"),
        "digest": write(manifest.as_bytes()), "size": manifest.len(),
        "annotations": {"org.opencontainers.image.ref.name": "image"},
    }]});
    context.write(format!("{layout}/index.json"), index.to_string());
    context.write(format!("{layout}/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
    let copied = context
        .tool("skopeo")
        .args(["--insecure-policy", "copy", "--dest-tls-verify=false"])
        .arg(format!("oci:{}:image", context.path(&layout).display()))
        .arg(format!("docker://{}", registry.reference(name)))
        .run();
    copied.expect_code(0);
    Some(digests)
}
