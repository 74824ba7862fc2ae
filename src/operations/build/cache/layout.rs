//! A cache in a directory: an OCI image layout whose manifests are entries (OCI image-spec,
//! image-layout.md). Each is named by its tag in `index.json`.

use std::io;
use std::path::{Path, PathBuf};

use crate::archive::{self, Archive, ArchiveWriter, Form, Name, Stored};
use crate::blob::VerifyingReader;
use crate::build::Layer;
use crate::image::{Descriptor, Digest};
use crate::operations::{Error, Kind};
use crate::store::Store;

use super::entry;

/// A directory that is a layout.
pub(super) struct Layout {
    root: PathBuf,
    archive: Archive,
}

impl Layout {
    /// Reads what the directory holds.
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        let archive = Archive::open(root).map_err(|error| failed(root, "read").because(error))?;
        Ok(Self { root: root.to_owned(), archive })
    }

    /// Returns the layers of the entry for `key`; `None` when there is none that can be used.
    pub(super) fn entry(&self, key: &Digest) -> Option<Vec<Layer>> {
        let name = name_of(key);
        let found = self.archive.images().iter().find(|it| it.name.as_ref() == Some(&name))?;
        let manifest = self.archive.manifest(&found.descriptor.digest, None);
        let manifest = manifest
            .inspect_err(|error| tracing::debug!(%error, %key, "an entry cannot be used"))
            .ok()?;
        entry::layers_of(&manifest, key).ok()
    }

    /// Brings the blobs of `layers` into the store, verified.
    pub(super) fn bring(&self, store: &Store, layers: &[Layer]) -> Result<(), Error> {
        let about = |error: io::Error| failed(&self.root, "copy from").because(error);
        for layer in layers.iter().filter(|layer| !store.has_blob(&layer.descriptor.digest)) {
            let source = self.archive.source(&layer.descriptor);
            let source = source.map_err(|error| failed(&self.root, "read").because(error))?;
            let source = source.open(0).map_err(about)?;
            // Ends where a file is larger than its entry says.
            let mut reader = VerifyingReader::new(source, layer.descriptor.clone());
            let mut writer = store.writer()?;
            io::copy(&mut reader, &mut writer).map_err(about)?;
            writer.commit(Some(&layer.descriptor))?;
        }
        Ok(())
    }

    /// Adds entries, and the blobs that they name from the store, to a layout that is made when it is
    /// missing. What else is there stays.
    pub(super) fn add(
        root: &Path,
        store: &Store,
        entries: &[(Digest, Vec<Layer>)],
    ) -> Result<(), Error> {
        let about = |error: archive::Error| failed(root, "write to").because(error);
        let layout = ArchiveWriter::directory(root, Form::Layout).map_err(about)?;
        layout.put(&entry::empty_config(), entry::EMPTY_CONTENT).map_err(about)?;
        let mut added = Vec::new();
        for (key, layers) in entries {
            for layer in layers.iter().filter(|layer| !layout.has(&layer.descriptor)) {
                copy_blob(&layout, store, &layer.descriptor)
                    .map_err(|error| error.about(message(root, "write to")))?;
            }
            let manifest = entry::manifest_of(key, layers);
            let descriptor = manifest.descriptor();
            layout.put(&descriptor, &manifest.bytes).map_err(about)?;
            added.push(Stored { descriptor, name: Some(name_of(key)), subject: None });
        }
        layout.finish(&added).map_err(about)
    }
}

/// Returns the name of the entry for `key`.
fn name_of(key: &Digest) -> Name {
    Name::Tag(entry::tag(key).to_string())
}

fn copy_blob(layout: &ArchiveWriter, store: &Store, descriptor: &Descriptor) -> Result<(), Error> {
    let mut blob = layout.blob(descriptor)?;
    io::copy(&mut store.open_blob(&descriptor.digest)?, &mut blob).map_err(archive::Error::Io)?;
    Ok(blob.commit()?)
}

fn failed(root: &Path, what: &str) -> Error {
    Error::new(Kind::Internal, message(root, what))
}

fn message(root: &Path, what: &str) -> String {
    format!("failed to {what} the cache directory `{}`", root.display())
}
