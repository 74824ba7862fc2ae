//! What the layers of an image in the store hold.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

/// A file of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerFile {
    /// The content, or what a symbolic link holds.
    pub(crate) content: String,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) mtime: u64,
}

/// Returns the files of an image of the store, given its config's digest. Its directories have the
/// mode 0755, all of them.
pub(crate) fn files_of(store: &Path, config: &str) -> BTreeMap<String, LayerFile> {
    let blobs = store.join("blobs/sha256");
    let is_manifest = |value: &Value| value["config"]["digest"] == config;
    let manifest = fs_err::read_dir(&blobs).unwrap().find_map(|entry| {
        let value = serde_json::from_slice(&fs_err::read(entry.unwrap().path()).unwrap()).ok()?;
        is_manifest(&value).then_some(value)
    });
    let manifest = manifest.unwrap_or_else(|| panic!("no manifest with the config {config}"));
    let mut files = BTreeMap::new();
    for layer in manifest["layers"].as_array().unwrap() {
        let hex = layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let blob = fs_err::File::open(blobs.join(hex)).unwrap();
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(blob));
        for member in tar.entries().unwrap() {
            let mut member = member.unwrap();
            if member.header().entry_type().is_dir() {
                let mode = member.header().mode().unwrap();
                let path = member.path().unwrap().into_owned();
                assert_eq!(mode, 0o755, "{}", path.display());
                continue;
            }
            let mut content = String::new();
            match member.link_name().unwrap() {
                Some(target) => content = target.display().to_string(),
                None => drop(member.read_to_string(&mut content)),
            }
            let header = member.header();
            let (mode, mtime) = (header.mode().unwrap(), header.mtime().unwrap());
            let path = member.path().unwrap().display().to_string();
            let owner = (header.uid().unwrap(), header.gid().unwrap());
            files.insert(path, LayerFile { content, mode, owner, mtime });
        }
    }
    files
}
