//! A layout in a directory.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fs_err as fs;

use super::bundle::{LAYOUT, REF_NAME, blob_path, index_json};
use super::{Bundle, Error, Result};
use crate::image::{Descriptor, Digest, Index};
use crate::store::Store;

/// Writes `bundle` to `directory`, which is made if it is missing, with the blobs of `store`. Blocks.
///
/// An OCI layout that is there already gets the images as well; those that had the same names are
/// replaced, as BuildKit does. Files take their places by renaming, `index.json` last.
///
/// # Errors
///
/// [`Error::Layout`] when a file cannot be written, [`Error::NotALayout`] when there is an
/// `index.json` that is something else, [`Error::Store`] when a blob is missing.
pub fn write_directory(store: &Store, bundle: &Bundle, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(Error::Layout)?;
    let earlier = entries_of(directory)?;
    for (digest, size) in &bundle.blobs {
        write_blob(store, directory, digest, *size)?;
    }
    write_file(&directory.join("oci-layout"), &mut &LAYOUT[..])?;
    if let Some(manifest) = bundle.docker_manifest() {
        write_file(&directory.join("manifest.json"), &mut &manifest[..])?;
    }
    let index = index_json(merged(earlier, bundle.entries()));
    write_file(&directory.join("index.json"), &mut &index[..])
}

/// Returns the images of the layout that is there.
fn entries_of(directory: &Path) -> Result<Vec<Descriptor>> {
    let path = directory.join("index.json");
    match fs::read(&path) {
        Ok(bytes) => {
            let index: Index = serde_json::from_slice(&bytes)
                .map_err(|source| Error::NotALayout { path, source })?;
            Ok(index.manifests)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::Layout(error)),
    }
}

/// Returns the entries of both, without earlier ones of the same name or, nameless, the same image.
fn merged(earlier: Vec<Descriptor>, fresh: Vec<Descriptor>) -> Vec<Descriptor> {
    let name = |entry: &Descriptor| entry.annotations.get(REF_NAME).cloned();
    let key = |entry: &Descriptor| name(entry).unwrap_or_else(|| entry.digest.to_string());
    let taken: BTreeSet<String> = fresh.iter().map(key).collect();
    let kept = earlier.into_iter().filter(|entry| !taken.contains(&key(entry)));
    kept.chain(fresh).collect()
}

fn write_blob(store: &Store, directory: &Path, digest: &Digest, size: u64) -> Result<()> {
    let path = directory.join(blob_path(digest));
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == size) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::Layout)?;
    }
    write_file(&path, &mut store.open_blob(digest)?)
}

fn write_file(path: &Path, content: &mut impl io::Read) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(Error::Layout)?;
    io::copy(content, &mut file).map_err(Error::Layout)?;
    file.flush().map_err(Error::Layout)?;
    let mode = std::fs::Permissions::from_mode(0o644);
    file.as_file().set_permissions(mode).map_err(Error::Layout)?;
    file.persist(path).map_err(|error| Error::Layout(error.error))?;
    Ok(())
}
