//! `mirror` and its family, between two real registries.

mod faults;
mod imports;
mod kill;
mod plan;
mod quota;
mod run;
mod shards;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::context::{Manners, Proxy, Registry, TestCommand, TestContext};

/// Two registries and a user who mirrors between them.
struct Pair {
    context: TestContext,
    source: Registry,
    destination: Registry,
}

impl Pair {
    fn new() -> Option<Self> {
        let context = TestContext::new();
        let source = Registry::plain(&context)?;
        let destination = Registry::plain(&context)?;
        Some(Self { context, source, destination })
    }

    /// Makes an image that holds `content`, and pushes it under all of `names`, which are
    /// repositories with tags; returns its digest.
    fn image(&self, content: &str, names: &[&str]) -> String {
        self.image_for("linux/amd64", content, names)
    }

    fn image_for(&self, platform: &str, content: &str, names: &[&str]) -> String {
        let name: String = content.chars().take(24).collect();
        let directory = format!("content/{}", name.replace('/', "-"));
        self.context.write(format!("{directory}/file"), content);
        let first = self.source.reference(names[0]);
        let directory = self.context.path(directory).display().to_string();
        let import = ["import", "--platform", platform, &directory, &first];
        self.context.rpub(import).success();
        self.context.rpub(["push", &first]).success();
        let more: Vec<String> = names[1..].iter().map(|name| self.source.reference(name)).collect();
        if !more.is_empty() {
            self.context.rpub(["copy", &first]).args(&more).success();
        }
        let (repository, tag) = names[0].rsplit_once(':').unwrap();
        self.source.manifest(repository, tag).unwrap().0
    }

    /// Makes an index of images for these platforms.
    fn index(&self, content: &str, name: &str, platforms: &[&str]) -> String {
        let (repository, _) = name.rsplit_once(':').unwrap();
        let parts = platforms.iter().map(|platform| {
            let tag = format!("{repository}:part-{}", platform.replace('/', "-"));
            self.image_for(platform, &format!("{content} {platform}"), &[&tag]);
            self.source.reference(&tag)
        });
        let parts: Vec<String> = parts.collect();
        let name = self.source.reference(name);
        self.context.rpub(["index", "create", "--tag", &name]).args(&parts).success();
        let (repository, tag) = name.rsplit_once(':').unwrap();
        let repository = repository.split_once('/').unwrap().1;
        self.source.manifest(repository, tag).unwrap().0
    }

    /// Writes a mirror file, in which SOURCE and DESTINATION stand for the registries.
    fn file(&self, name: &str, text: &str) {
        let text = text.replace("SOURCE", &self.source.name());
        self.context.write(name, text.replace("DESTINATION", &self.destination.name()));
    }

    /// Returns a mirror with a store of its own, so that nothing is in it but what mirrors put there.
    fn mirror(&self, args: &[&str]) -> TestCommand {
        self.context.rpub(["mirror"]).args(args).env("RPUB_STORE", self.context.path("mirrored"))
    }

    /// Runs a mirror and returns what became of each destination.
    fn outcomes(&self, args: &[&str], code: i32) -> BTreeMap<String, String> {
        let lines = self.mirror(args).args(["--format", "json"]).code(code).stdout.clone();
        let row = |line: &str| {
            let row: Value = serde_json::from_str(line).unwrap();
            let name = row["destination"].as_str().unwrap_or_default();
            let name = name.split_once('/').map_or(name, |(_, name)| name);
            (name.to_owned(), row["outcome"].as_str().unwrap().to_owned())
        };
        lines.lines().map(row).collect()
    }

    /// Returns the digest of a tag at the destination.
    fn there(&self, name: &str) -> Option<String> {
        let (repository, tag) = name.rsplit_once(':').unwrap();
        Some(self.destination.manifest(repository, tag)?.0)
    }

    fn proxy(registry: &Registry) -> Proxy {
        Proxy::start(&registry.name(), Manners::default())
    }
}

/// Returns pairs as a map of texts.
fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}
