//! Reads an image out of a directory of blobs, with none of the program's code, and shows it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::listing::{Entry, Kind, shown};
use crate::context::digest_of;

/// The time of every file of a case's context that its `setup` has not dated: 3 February 2001.
pub(super) const CONTEXT_TIME: u64 = 981_173_106;
/// The time of every file of a base image: 1 January 2010.
pub(super) const BASE_TIME: u64 = 1_262_304_000;
/// Younger files were made by the build: their time is not shown.
const BUILD_TIME: u64 = 1_700_000_000;

/// One image.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) config: Value,
    media_type: String,
    pub(super) layers: Vec<Layer>,
}

/// One layer of an image.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) diff_id: String,
    pub(super) entries: Vec<Entry>,
}

/// A base image: what its layers hold and how many history entries they have.
#[derive(Debug)]
pub(super) struct BaseImage {
    pub(super) name: String,
    pub(super) layers: Vec<Layer>,
    pub(super) history: Value,
}

/// Returns a blob after recomputing its digest.
fn blob(blobs: &Path, digest: &str) -> Vec<u8> {
    let bytes = fs_err::read(blobs.join(digest.strip_prefix("sha256:").unwrap())).unwrap();
    assert_eq!(digest_of(&bytes), digest);
    bytes
}

/// Reads the images that a manifest or an index names: one each platform.
pub(super) fn read(blobs: &Path, digest: &str, bases: &[BaseImage]) -> Vec<Image> {
    let top: Value = serde_json::from_slice(&blob(blobs, digest)).unwrap();
    let Some(manifests) = top["manifests"].as_array() else {
        return vec![read_manifest(blobs, &top, bases)];
    };
    let digests = manifests.iter().map(|manifest| manifest["digest"].as_str().unwrap());
    digests.flat_map(|digest| read(blobs, digest, bases)).collect()
}

/// Reads the image of one manifest.
pub(super) fn read_manifest(blobs: &Path, manifest: &Value, bases: &[BaseImage]) -> Image {
    let digest = |descriptor: &Value| descriptor["digest"].as_str().unwrap().to_owned();
    let config = blob(blobs, &digest(&manifest["config"]));
    let config: Value = serde_json::from_slice(&config).unwrap();
    let diff_ids = config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
    let descriptors = manifest["layers"].as_array().unwrap();
    assert_eq!(diff_ids.len(), descriptors.len(), "one diffID a layer");
    let layers = diff_ids.iter().zip(descriptors).map(|(diff_id, descriptor)| {
        let diff_id = diff_id.as_str().unwrap();
        let known = bases.iter().flat_map(|base| &base.layers);
        if let Some(layer) = known.into_iter().find(|layer| layer.diff_id == diff_id) {
            return layer.clone();
        }
        let bytes = blob(blobs, &digest(descriptor));
        assert_eq!(descriptor["size"].as_u64(), Some(bytes.len() as u64));
        let tar = unpacked(&bytes);
        assert_eq!(digest_of(&tar), diff_id);
        Layer { diff_id: diff_id.to_owned(), entries: entries(&tar) }
    });
    let layers = layers.collect();
    let media_type = manifest["mediaType"].as_str().unwrap_or_default().to_owned();
    let is_oci = |descriptor: &Value| descriptor["mediaType"].as_str().unwrap().contains(".oci.");
    let parts = descriptors.iter().chain([&manifest["config"]]);
    assert!(parts.into_iter().all(|part| is_oci(part) == media_type.contains(".oci.")));
    Image { config, media_type, layers }
}

/// Undoes the compression, which the first bytes tell.
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut tar).unwrap();
    } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        zstd::Decoder::new(bytes).unwrap().read_to_end(&mut tar).unwrap();
    } else {
        tar.extend_from_slice(bytes);
    }
    tar
}

/// Reads what a tar holds, sorted by path.
pub(super) fn entries(tar: &[u8]) -> Vec<Entry> {
    let mut found = BTreeMap::new();
    for member in tar::Archive::new(tar).entries().unwrap() {
        let entry = entry(&mut member.unwrap());
        let path = entry.path.clone();
        let opaque = entry.kind == Kind::Opaque;
        // Of several members of one name the last counts, as when it is unpacked.
        found.insert((path, opaque), entry);
    }
    found.into_values().collect()
}

fn entry(member: &mut tar::Entry<'_, &[u8]>) -> Entry {
    let raw = String::from_utf8_lossy(&member.path_bytes()).into_owned();
    assert!(!raw.starts_with('/') && !raw.contains("../"), "{raw} leads out");
    let path = raw.trim_start_matches("./").trim_end_matches('/').to_owned();
    let link = member.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned());
    let link = link.unwrap_or_default();
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", &path));
    let (path, kind) = if name == ".wh..wh..opq" {
        (directory.to_owned(), Kind::Opaque)
    } else if let Some(gone) = name.strip_prefix(".wh.") {
        (
            if directory.is_empty() { gone.to_owned() } else { format!("{directory}/{gone}") },
            Kind::Whiteout,
        )
    } else {
        let kind = match member.header().entry_type() {
            tar::EntryType::Directory => Kind::Directory,
            tar::EntryType::Symlink => Kind::Symlink(link),
            tar::EntryType::Link => Kind::Hardlink(link.trim_start_matches('/').to_owned()),
            tar::EntryType::Fifo => Kind::Special('p'),
            tar::EntryType::Char => Kind::Special('c'),
            tar::EntryType::Block => Kind::Special('b'),
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let mut bytes = Vec::new();
                member.read_to_end(&mut bytes).unwrap();
                Kind::File(shown(&bytes))
            }
            other => panic!("a member of type {other:?}: {path}"),
        };
        (path.clone(), kind)
    };
    let path = if path.is_empty() { ".".to_owned() } else { path };
    let header = member.header();
    // Some tools repeat the kind of the file above these bits.
    let mode = header.mode().unwrap() & 0o7777;
    let owner = (header.uid().unwrap(), header.gid().unwrap());
    // A deletion has no time of its own.
    let is_gone = matches!(kind, Kind::Whiteout | Kind::Opaque);
    let time = if is_gone { String::new() } else { time(header.mtime().unwrap()) };
    let mut entry = Entry { path, kind, mode, owner, xattrs: BTreeMap::new(), time };
    for extension in member.pax_extensions().unwrap().into_iter().flatten() {
        let extension = extension.unwrap();
        let key = extension.key().unwrap();
        if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
            entry.xattrs.insert(name.to_owned(), shown(extension.value_bytes()));
        }
    }
    entry
}

fn time(seconds: u64) -> String {
    match seconds {
        CONTEXT_TIME => "@context".to_owned(),
        BASE_TIME => "@base".to_owned(),
        BUILD_TIME.. => String::new(),
        other => {
            let time = jiff::Timestamp::from_second(i64::try_from(other).unwrap()).unwrap();
            format!("@{time}")
        }
    }
}

impl Image {
    /// Returns the base that the image starts with: the one that explains most of its history.
    pub(super) fn base<'a>(&self, bases: &'a [BaseImage]) -> Option<&'a BaseImage> {
        let history = self.config["history"].as_array().map_or(&[][..], Vec::as_slice);
        let starts = |base: &&BaseImage| {
            let layers = base.layers.iter().map(|layer| &layer.diff_id);
            let own = self.layers.iter().map(|layer| &layer.diff_id).take(base.layers.len());
            layers.eq(own) && history.starts_with(base.history.as_array().unwrap())
        };
        bases.iter().filter(starts).max_by_key(|base| base.history.as_array().unwrap().len())
    }

    /// Returns the golden's text for the image.
    pub(super) fn text(&self, bases: &[BaseImage]) -> String {
        let base = self.base(bases);
        let mut text = String::new();
        writeln!(text, "from {}", base.map_or("scratch", |base| &base.name)).unwrap();
        if self.media_type != "application/vnd.oci.image.manifest.v1+json" {
            writeln!(text, "MediaType {}", self.media_type).unwrap();
        }
        for line in config_lines(&self.config) {
            writeln!(text, "{line}").unwrap();
        }
        text.push_str("---\n");
        let mut layers = self.layers.iter().skip(base.map_or(0, |base| base.layers.len()));
        let skipped = base.map_or(0, |base| base.history.as_array().unwrap().len());
        let history = self.config["history"].as_array().map_or(&[][..], Vec::as_slice);
        for item in &history[skipped..] {
            writeln!(text, "{}", history_line(item)).unwrap();
            if item["empty_layer"] == true {
                continue;
            }
            let layer = layers.next().expect("a layer for each history entry that is not empty");
            for entry in &layer.entries {
                writeln!(text, "  {entry}").unwrap();
            }
            if layer.entries.is_empty() {
                text.push_str("  nothing\n");
            }
        }
        assert!(layers.next().is_none(), "a layer without a history entry: {text}");
        text
    }
}

fn history_line(item: &Value) -> String {
    let mut line = item["created_by"].as_str().unwrap_or("?").replace('\n', "\\n");
    if item["comment"] != "buildkit.dockerfile.v0" {
        write!(line, " [comment {}]", item["comment"]).unwrap();
    }
    match item["created"].as_str().map(str::parse::<jiff::Timestamp>) {
        Some(Ok(time)) => {
            let shown = time_of_history(time.as_second());
            line.push_str(&shown);
        }
        other => write!(line, " [undated{}]", if other.is_some() { " badly" } else { "" }).unwrap(),
    }
    line
}

fn time_of_history(seconds: i64) -> String {
    let shown = time(u64::try_from(seconds).unwrap_or_default());
    if shown.is_empty() { shown } else { format!(" {shown}") }
}

/// Shows a config, a line for each thing it says.
pub(super) fn config_lines(config: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let platform = ["os", "architecture", "variant"].map(|key| config[key].as_str().unwrap_or(""));
    let platform = platform.join("/");
    if platform != "linux/amd64/" {
        lines.push(format!("Platform {}", platform.trim_end_matches('/')));
    }
    if let Some(author) = config["author"].as_str().filter(|author| !author.is_empty()) {
        lines.push(format!("Author {author}"));
    }
    if let Some(time) = config["created"].as_str().map(str::parse::<jiff::Timestamp>) {
        let shown = time_of_history(time.unwrap().as_second());
        if !shown.is_empty() {
            lines.push(format!("Created{shown}"));
        }
    }
    let empty = serde_json::Map::new();
    let mut keys: Vec<_> = config["config"].as_object().unwrap_or(&empty).iter().collect();
    keys.sort_by_key(|(key, _)| key.as_str());
    for (key, value) in keys {
        match (key.as_str(), value) {
            (_, Value::Null | Value::Bool(false)) => {}
            (_, Value::String(text)) if text.is_empty() => {}
            ("Env" | "OnBuild", Value::Array(items)) => {
                lines.extend(items.iter().map(|item| format!("{key} {}", bare(item))));
            }
            ("Healthcheck", Value::Object(map)) => {
                // Tools write these in different orders.
                let sorted: std::collections::BTreeMap<_, _> = map.iter().collect();
                lines.push(format!("{key} {}", serde_json::to_string(&sorted).unwrap()));
            }
            (_, Value::Object(map)) => {
                let mut items: Vec<String> = map
                    .iter()
                    .map(|(name, value)| match value {
                        Value::Object(_) => format!("{key} {name}"),
                        value => format!("{key} {name}={}", bare(value)),
                    })
                    .collect();
                items.sort();
                lines.extend(items);
            }
            (_, value) => lines.push(format!("{key} {}", bare(value))),
        }
    }
    lines
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| text.replace('\n', "\\n"))
}
