//! A cache in a directory: an OCI image layout whose manifests are entries (OCI image-spec,
//! image-layout.md). Each is named by its tag in `index.json`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use crate::build::Layer;
use crate::image::{Descriptor, Digest, MAX_MANIFEST_BYTES, Manifest};
use crate::operations::{Error, Kind};
use crate::store::Store;

use super::entry;

/// The annotation that names an entry of `index.json`.
const NAME: &str = "org.opencontainers.image.ref.name";

/// A directory that is, or becomes, a layout.
pub(super) struct Layout {
    root: PathBuf,
    /// The entries of `index.json`.
    entries: Vec<Descriptor>,
}

impl Layout {
    /// Reads what the directory holds.
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        let bytes = match fs::read(root.join("index.json")) {
            Ok(bytes) => bytes,
            Err(error) => return Err(failed(root, "read").because(error)),
        };
        let mut index: Value =
            serde_json::from_slice(&bytes).map_err(|e| failed(root, "read").because(e))?;
        let entries = serde_json::from_value(index["manifests"].take())
            .map_err(|error| failed(root, "read").because(error))?;
        Ok(Self { root: root.to_owned(), entries })
    }

    /// Opens the directory to add to it: makes it when it is missing.
    fn open_or_make(root: &Path) -> Result<Self, Error> {
        let made = || -> std::io::Result<()> {
            fs::create_dir_all(root.join("blobs/sha256"))?;
            let marker = root.join("oci-layout");
            if !marker.exists() {
                fs::write(marker, r#"{"imageLayoutVersion":"1.0.0"}"#)?;
            }
            Ok(())
        };
        made().map_err(|error| failed(root, "make").because(error))?;
        if root.join("index.json").exists() {
            return Self::open(root);
        }
        Ok(Self { root: root.to_owned(), entries: Vec::new() })
    }

    /// Returns the layers of the entry for `key`; `None` when there is none that can be used.
    pub(super) fn entry(&self, key: &Digest) -> Option<Vec<Layer>> {
        let tag = entry::tag(key);
        let is_named = |entry: &&Descriptor| {
            entry.annotations.get(NAME).is_some_and(|name| name == tag.as_str())
        };
        let descriptor = self.entries.iter().find(is_named)?;
        if descriptor.size > MAX_MANIFEST_BYTES as u64 {
            return None;
        }
        let bytes = fs::read(self.blob(&descriptor.digest)).ok()?;
        if descriptor.digest.of_same_algorithm(&bytes) != descriptor.digest {
            tracing::debug!(%key, "an entry is damaged");
            return None;
        }
        let manifest = Manifest::parse(bytes, None).ok()?;
        entry::layers_of(&manifest, key).ok()
    }

    /// Brings the blobs of `layers` into the store, verified.
    pub(super) fn bring(&self, store: &Store, layers: &[Layer]) -> Result<(), Error> {
        for layer in layers.iter().filter(|layer| !store.has_blob(&layer.descriptor.digest)) {
            let path = self.blob(&layer.descriptor.digest);
            let mut file = fs::File::open(path)
                .map_err(|error| failed(&self.root, "read").because(error))?
                .take(layer.descriptor.size + 1);
            let mut writer = store.writer()?;
            std::io::copy(&mut file, &mut writer)
                .map_err(|error| failed(&self.root, "copy from").because(error))?;
            writer.commit(Some(&layer.descriptor))?;
        }
        Ok(())
    }

    /// Adds entries, and the blobs that they name from the store. What is there stays.
    pub(super) fn add(
        root: &Path,
        store: &Store,
        entries: &[(Digest, Vec<Layer>)],
    ) -> Result<(), Error> {
        let mut layout = Self::open_or_make(root)?;
        layout.put(entry::EMPTY_CONTENT)?;
        let mut added = Vec::new();
        for (key, layers) in entries {
            for layer in layers {
                layout.copy_blob(store, &layer.descriptor)?;
            }
            let manifest = entry::manifest_of(key, layers);
            layout.put(&manifest.bytes)?;
            let mut descriptor = manifest.descriptor();
            descriptor.annotations.insert(NAME.to_owned(), entry::tag(key).as_str().to_owned());
            added.push(descriptor);
        }
        // Others may add at the same time.
        let lock = root.join("index.json.lock");
        let lock = fs::OpenOptions::new().create(true).write(true).truncate(false).open(lock);
        let lock = lock.map_err(|error| failed(root, "lock").because(error))?;
        flock(lock.file(), FlockOperation::LockExclusive)
            .map_err(|error| failed(root, "lock").because(std::io::Error::from(error)))?;
        layout = Self::open_or_make(root)?;
        for descriptor in added {
            let name = descriptor.annotations.get(NAME).cloned();
            if !layout.entries.iter().any(|other| other.annotations.get(NAME) == name.as_ref()) {
                layout.entries.push(descriptor);
            }
        }
        let index = json!({ "schemaVersion": 2, "manifests": layout.entries });
        layout.write("index.json", index.to_string().as_bytes())
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    fn put(&self, bytes: &[u8]) -> Result<(), Error> {
        let digest = Digest::of(bytes);
        if self.blob(&digest).exists() {
            return Ok(());
        }
        self.write(&format!("blobs/sha256/{}", digest.hex()), bytes)
    }

    fn copy_blob(&self, store: &Store, descriptor: &Descriptor) -> Result<(), Error> {
        let target = self.blob(&descriptor.digest);
        if fs::metadata(&target).is_ok_and(|metadata| metadata.len() == descriptor.size) {
            return Ok(());
        }
        let mut blob = store.open_blob(&descriptor.digest)?;
        let copied = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.root)?;
            std::io::copy(&mut blob, &mut file)?;
            readable(file.as_file())?;
            file.persist(&target).map_err(|error| error.error)?;
            Ok(())
        };
        let mut copied = copied;
        copied().map_err(|error| failed(&self.root, "write to").because(error))
    }

    /// Writes a small file beside its place and moves it there.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let written = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.root)?;
            file.write_all(bytes)?;
            readable(file.as_file())?;
            file.persist(self.root.join(name)).map_err(|error| error.error)?;
            Ok(())
        };
        written().map_err(|error| failed(&self.root, "write to").because(error))
    }
}

/// Gives a file the mode of files that are for everybody.
fn readable(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

fn failed(root: &Path, what: &str) -> Error {
    Error::new(Kind::Internal, format!("failed to {what} the cache directory `{}`", root.display()))
}
