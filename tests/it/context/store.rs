//! Reading the program's store as any OCI tool would.

use std::path::Path;

use serde_json::Value;

use super::registry::digest_of;

/// Checks that a store is an OCI image layout, that every blob has its digest, and that every
/// image in the index is whole; returns the names in the index.
pub(crate) fn verify_store(store: &Path) -> Vec<String> {
    verify_blobs(store);
    let entries = entries(store);
    let mut waiting = entries.clone();
    while let Some(entry) = waiting.pop() {
        let manifest = read_json(&blob_path(store, &entry["digest"]));
        if let Some(images) = manifest["manifests"].as_array() {
            // Of an index, those images are there that were wanted.
            let is_there = |image: &&Value| blob_path(store, &image["digest"]).exists();
            waiting.extend(images.iter().filter(is_there).cloned());
            continue;
        }
        let parts = manifest["layers"].as_array().into_iter().flatten();
        for part in parts.chain([&manifest["config"]]) {
            let path = blob_path(store, &part["digest"]);
            let size = fs_err::metadata(&path).unwrap().len();
            assert_eq!(part["size"].as_u64(), Some(size), "{}", path.display());
        }
    }
    let name = |entry: &Value| {
        entry["annotations"]["org.opencontainers.image.ref.name"].as_str().map(str::to_owned)
    };
    entries.iter().filter_map(name).collect()
}

/// Checks that a store is an OCI image layout whose blobs have their digests and whose images have
/// their manifests: all that holds of a cache, which has no more than it was asked for.
pub(crate) fn verify_blobs(store: &Path) {
    let layout: Value = read_json(&store.join("oci-layout"));
    assert_eq!(layout["imageLayoutVersion"], "1.0.0");
    for blob in fs_err::read_dir(store.join("blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(digest_of(&fs_err::read(&path).unwrap()), format!("sha256:{name}"));
    }
    for entry in entries(store) {
        assert!(blob_path(store, &entry["digest"]).is_file(), "{entry}");
    }
}

fn entries(store: &Path) -> Vec<Value> {
    let index = read_json(&store.join("index.json"));
    index["manifests"].as_array().cloned().unwrap_or_default()
}

fn blob_path(store: &Path, digest: &Value) -> std::path::PathBuf {
    let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    store.join("blobs/sha256").join(hex)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
}
