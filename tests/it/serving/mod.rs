//! `rpub serve` to clients that are not ours.

mod cache;
mod contents;
mod faults;

use std::path::PathBuf;

use crate::context::{Registry, Serve, TestContext};

/// An upstream that is called `docker.io`, and a build context of some noise.
struct Upstream {
    registry: Registry,
    context: TestContext,
}

impl Upstream {
    fn new() -> Option<Self> {
        let context = TestContext::new();
        let registry = Registry::plain(&context)?;
        let upstream = Self { registry, context };
        upstream.is_at(&upstream.registry.name());
        Some(upstream)
    }

    /// Makes `docker.io` mean this place.
    fn is_at(&self, place: &str) {
        let text = format!(
            "[[registry]]\nprefix = \"docker.io\"\nlocation = \"{place}\"\ninsecure = true\n"
        );
        self.context.write("home/settings/containers/registries.conf", text);
    }

    /// Pushes an image with a layer of so many bytes that no other has; returns the digests of its
    /// manifest and its layer.
    fn push(&self, name: &str, size: usize) -> (String, String) {
        let directory = format!("context-{}", name.replace(['/', ':'], "-"));
        self.context.write(format!("{directory}/noise"), noise(name, size));
        let text = "FROM scratch\nCOPY noise /noise\n";
        self.context.write(format!("{directory}/Dockerfile"), text);
        let reference = self.registry.reference(name);
        let build = self.context.rpub(["build-push", "-t", &reference]);
        build.arg(self.context.path(directory)).success();
        let (repository, tag) = name.split_once(':').unwrap();
        let (digest, manifest) = self.registry.manifest(repository, tag).unwrap();
        (digest, manifest["layers"][0]["digest"].as_str().unwrap().to_owned())
    }

    fn cache(&self, args: &[&str]) -> Serve {
        Serve::with(&self.context, "cache", &[&["--proxy", "docker.io"], args].concat())
    }

    /// Returns where the cache keeps a blob.
    fn kept(&self, digest: &str) -> PathBuf {
        self.context.path(format!("cache/blobs/{}", digest.replace(':', "/")))
    }
}

/// Copies an image byte by byte with `skopeo`.
fn skopeo_copy(context: &TestContext, source: &str, target: &str) {
    let copy = ["--insecure-policy", "copy", "--src-tls-verify=false"];
    context.tool("skopeo").args(copy).args([source, target]).run().expect_code(0);
}

/// Returns bytes that do not compress.
fn noise(seed: &str, size: usize) -> Vec<u8> {
    let mut state = seed.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
