//! The base images of the corpus, under the names that the cases use, in a registry of their own.
//!
//! Each is a file `fixtures/bases/corpus/NAME.toml`: `files`, lines of a listing that make a layer
//! above busybox; `[config]` and `[top]`, which go into the image's config; and, as they apply,
//! `scratch` (no busybox below), `docker` (Docker's media types) and `index` (an index of other
//! bases, one each platform).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::image::{self, BASE_TIME, BaseImage, Layer};
use super::listing::{Entry, Kind};
use crate::context::{Bases, Registry, TestContext, digest_of, fixtures};

/// A file of a base.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Recipe {
    scratch: bool,
    docker: bool,
    index: Vec<String>,
    files: String,
    config: Option<serde_json::Map<String, Value>>,
    top: serde_json::Map<String, Value>,
}

/// What is known of a base, and of the manifest that names it.
struct Made {
    image: BaseImage,
    manifest: Value,
}

/// Makes all bases and copies them into the registry with `skopeo`.
pub(super) fn make(context: &TestContext, registry: &Registry, bases: &Bases) -> Vec<BaseImage> {
    let mut recipes: BTreeMap<String, Recipe> = BTreeMap::new();
    for entry in fs_err::read_dir(fixtures().join("bases/corpus")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs_err::read_to_string(&path).unwrap();
        let recipe =
            toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        recipes.insert(path.file_stem().unwrap().to_str().unwrap().to_owned(), recipe);
    }
    let layout = Layout { directory: context.path("bases-layout") };
    fs_err::create_dir_all(layout.directory.join("blobs/sha256")).unwrap();
    let busybox = layout.layer(&dated(&fs_err::read(bases.tar("busybox")).unwrap()));
    let mut made: BTreeMap<&str, Made> = BTreeMap::new();
    let single = recipes.iter().filter(|(_, recipe)| recipe.index.is_empty());
    for (name, recipe) in single {
        made.insert(name, layout.image(name, recipe, &busybox));
    }
    let mut named: Vec<(&str, Value)> =
        made.iter().map(|(name, made)| (*name, made.manifest.clone())).collect();
    for (name, recipe) in recipes.iter().filter(|(_, recipe)| !recipe.index.is_empty()) {
        let manifests: Vec<&Value> =
            recipe.index.iter().map(|name| &made[name.as_str()].manifest).collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        named.push((name, layout.described(INDEX, index.to_string().as_bytes())));
    }
    layout.publish(context, registry, &recipes, &named);
    made.into_values().map(|made| made.image).collect()
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A directory in the form of an OCI image layout.
struct Layout {
    directory: std::path::PathBuf,
}

impl Layout {
    fn described(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest_of(bytes);
        let path = self.directory.join("blobs/sha256").join(&digest["sha256:".len()..]);
        fs_err::write(path, bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn layer(&self, tar: &[u8]) -> (Layer, Value) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(tar).unwrap();
        let blob = encoder.finish().unwrap();
        let descriptor = self.described("application/vnd.oci.image.layer.v1.tar+gzip", &blob);
        (Layer { diff_id: digest_of(tar), entries: image::entries(tar) }, descriptor)
    }

    fn image(&self, name: &str, recipe: &Recipe, busybox: &(Layer, Value)) -> Made {
        let (mut layers, mut descriptors, mut history) = (Vec::new(), Vec::new(), Vec::new());
        let created = "2010-01-01T00:00:00Z";
        let mut note = |what: &str, empty: bool| {
            let mut item = json!({"created": created, "created_by": format!("{name}: {what}")});
            if empty {
                item["empty_layer"] = true.into();
            }
            history.push(item);
        };
        if !recipe.scratch {
            layers.push(busybox.0.clone());
            descriptors.push(busybox.1.clone());
            note("busybox", false);
        }
        if !recipe.files.trim().is_empty() {
            let (layer, descriptor) = self.layer(&tar_of(&recipe.files));
            layers.push(layer);
            descriptors.push(descriptor);
            note("files", false);
        }
        note("config", true);
        let default = json!({
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["sh"],
        });
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let mut config = json!({
            "created": created, "architecture": "amd64", "os": "linux",
            "config": recipe.config.as_ref().map_or(default, |config| json!(config)),
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        config.as_object_mut().unwrap().extend(recipe.top.clone());
        let platform = json!({"os": config["os"], "architecture": config["architecture"]});
        let text = config.to_string();
        let config = self.described("application/vnd.oci.image.config.v1+json", text.as_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": descriptors,
        });
        let mut manifest = self.described(MANIFEST, manifest.to_string().as_bytes());
        manifest["platform"] = platform;
        let history = Value::Array(history);
        Made { image: BaseImage { name: name.to_owned(), layers, history }, manifest }
    }

    /// Copies each image to the registry under its name, below `library/` as Docker Hub has it.
    fn publish(
        &self,
        context: &TestContext,
        registry: &Registry,
        recipes: &BTreeMap<String, Recipe>,
        named: &[(&str, Value)],
    ) {
        let manifests: Vec<Value> = named
            .iter()
            .map(|(name, descriptor)| {
                let mut descriptor = descriptor.clone();
                descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
                descriptor
            })
            .collect();
        let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        let write = |name: &str, text: &str| fs_err::write(self.directory.join(name), text);
        write("index.json", &index).unwrap();
        write("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let copies = named.iter().map(|(name, _)| {
            let format = if recipes[*name].docker { "v2s2" } else { "oci" };
            context
                .tool("skopeo")
                .args(["--insecure-policy", "copy", "--all", "--dest-tls-verify=false"])
                .args(["--format", format])
                .arg(format!("oci:{}:{name}", self.directory.display()))
                .arg(format!("docker://{}", registry.reference(&format!("library/{name}:latest"))))
                .spawn()
        });
        let copies: Vec<_> = copies.collect();
        for copy in copies {
            copy.finish().expect_code(0);
        }
    }
}

/// Returns a tar with every time replaced.
fn dated(tar: &[u8]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for member in tar::Archive::new(tar).entries().unwrap() {
        let mut member = member.unwrap();
        let mut header = member.header().clone();
        header.set_mtime(BASE_TIME);
        header.set_cksum();
        out.append(&header, &mut member).unwrap();
    }
    out.into_inner().unwrap()
}

/// Makes a tar of the files that a listing names.
fn tar_of(listing: &str) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for line in listing.lines().filter(|line| !line.trim().is_empty()) {
        let entry = Entry::parse(line);
        let bytes = entry.bytes();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(match &entry.kind {
            Kind::Directory => tar::EntryType::Directory,
            Kind::File(_) => tar::EntryType::Regular,
            Kind::Symlink(_) => tar::EntryType::Symlink,
            Kind::Hardlink(_) => tar::EntryType::Link,
            Kind::Special('p') => tar::EntryType::Fifo,
            other => panic!("a base cannot have {other:?}"),
        });
        header.set_mode(if matches!(entry.kind, Kind::Symlink(_)) { 0o777 } else { entry.mode });
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_mtime(BASE_TIME);
        header.set_size(bytes.len() as u64);
        header.set_path(Path::new(&entry.path)).unwrap();
        if let Kind::Symlink(target) | Kind::Hardlink(target) = &entry.kind {
            header.set_link_name(target).unwrap();
        }
        header.set_cksum();
        out.append(&header, bytes.as_slice()).unwrap();
    }
    out.into_inner().unwrap()
}
