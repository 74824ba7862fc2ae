//! Docker's `manifest.json` (moby, `image/tarexport`): what `docker save` writes and `docker load`
//! reads.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::blob::{Hasher, HeldFile, Source as _};
use crate::image::{
    Algorithm, Descriptor, Digest, ImageConfig, ImageManifest, Manifest, Reference, media_type,
};

use super::stored::{Name, Stored, blob_path, to_json};
use super::tar::{Extent, TarIndex, read_exact_at};
use super::{Error, MAX_SMALL_BYTES, Result};

/// The file that names the images.
pub(super) const MANIFEST: &str = "manifest.json";

/// One image in docker's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    config: String,
    /// Go writes an empty list as `null`.
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

impl Entry {
    /// Describes an image of one platform.
    pub(super) fn of(image: &ImageManifest, names: &[&Reference]) -> Self {
        let layers = image.layers.iter().map(|layer| blob_path(&layer.digest)).collect();
        Self {
            config: blob_path(&image.config.digest),
            repo_tags: Some(names.iter().map(|name| name.familiar()).collect()),
            layers: Some(layers),
        }
    }

    /// Returns the entries of both files, a name going to the one that has it last.
    pub(super) fn merged(earlier: Vec<Self>, fresh: Vec<Self>) -> Vec<Self> {
        let taken: Vec<String> =
            fresh.iter().flat_map(|entry| entry.repo_tags.clone().unwrap_or_default()).collect();
        let mut entries = earlier;
        for entry in &mut entries {
            entry.repo_tags.iter_mut().for_each(|names| names.retain(|name| !taken.contains(name)));
        }
        entries.retain(|old| !fresh.iter().any(|new| new.config == old.config));
        entries.extend(fresh);
        entries
    }
}

/// Returns the bytes of the file.
pub(super) fn to_bytes(entries: &[Entry]) -> Vec<u8> {
    to_json(&entries)
}

/// What was made of docker's file.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) images: Vec<Stored>,
    /// Where configs and layers are.
    pub(super) blobs: HashMap<Digest, Extent>,
    /// The manifests, which are in no file.
    pub(super) manifests: HashMap<Digest, Vec<u8>>,
}

/// A docker archive being read.
pub(super) struct DockerTar<'a> {
    pub(super) path: &'a Path,
    pub(super) file: &'a Arc<File>,
    pub(super) index: &'a TarIndex,
}

impl DockerTar<'_> {
    /// Reads docker's file; `None` when there is none.
    pub(super) fn entries(&self) -> Result<Option<Vec<Entry>>> {
        let Some(extent) = self.index.find(MANIFEST) else { return Ok(None) };
        let bytes = self.small(MANIFEST, extent)?;
        let entries = serde_json::from_slice(&bytes).map_err(|source| {
            let (path, name) = (self.path.to_owned(), MANIFEST.to_owned());
            Error::Json { path, name, source }
        })?;
        Ok(Some(entries))
    }

    /// Makes OCI manifests of the images. The layers of one are plain tars, so that their diffIDs,
    /// which the config names, are their digests.
    pub(super) fn read(&self, entries: &[Entry]) -> Result<Made> {
        let mut made = Made::default();
        let mut known = BTreeMap::new();
        for entry in entries {
            let manifest = self.manifest(entry, &mut made, &mut known)?;
            let descriptor = manifest.descriptor();
            let names = entry.repo_tags.iter().flatten();
            let named = names.map(|name| Stored {
                descriptor: descriptor.clone(),
                name: Some(match name.parse::<Reference>() {
                    Ok(reference) => Name::Whole(reference.or_latest()),
                    Err(_) => Name::Tag(name.clone()),
                }),
                subject: None,
            });
            let before = made.images.len();
            made.images.extend(named);
            if made.images.len() == before {
                made.images.push(Stored::nameless(descriptor));
            }
            made.manifests.insert(manifest.digest, manifest.bytes);
        }
        Ok(made)
    }

    fn manifest(
        &self,
        entry: &Entry,
        made: &mut Made,
        known: &mut BTreeMap<u64, Descriptor>,
    ) -> Result<Manifest> {
        let extent = self.find(&entry.config)?;
        let bytes = self.small(&entry.config, extent)?;
        let config = Descriptor::of(media_type::OCI_CONFIG, &bytes);
        let parsed = ImageConfig::parse(&bytes).map_err(|source| {
            let (path, digest) = (self.path.to_owned(), config.digest.clone());
            Error::Manifest { path, digest, source }
        })?;
        made.blobs.insert(config.digest.clone(), extent);
        let names = entry.layers.as_deref().unwrap_or_default();
        if names.len() != parsed.rootfs.diff_ids.len() {
            let (at, layers) = (extent.offset, parsed.rootfs.diff_ids.len());
            let what = format!("a config names {layers} layers, manifest.json {}", names.len());
            return Err(Error::Damaged { path: self.path.to_owned(), at, what });
        }
        let mut layers = Vec::new();
        for (name, diff_id) in names.iter().zip(&parsed.rootfs.diff_ids) {
            let extent = self.find(name)?;
            let layer = match known.get(&extent.offset) {
                Some(layer) => layer.clone(),
                None => self.layer(name, extent, &diff_id.0)?,
            };
            known.insert(extent.offset, layer.clone());
            made.blobs.insert(layer.digest.clone(), extent);
            layers.push(layer);
        }
        Ok(Manifest::from_image(ImageManifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }))
    }

    /// Describes a layer. Some tools keep compressed ones: their names tell the digest, or else they
    /// are read once.
    fn layer(&self, name: &str, extent: Extent, diff_id: &Digest) -> Result<Descriptor> {
        let length = usize::try_from(extent.size.min(4)).unwrap_or(4);
        let media_type = match read_exact_at(self.file, extent.offset, length)?[..] {
            [0x1f, 0x8b, ..] => media_type::OCI_LAYER_GZIP,
            [0x28, 0xb5, 0x2f, 0xfd] => media_type::OCI_LAYER_ZSTD,
            _ => {
                return Ok(Descriptor::new(
                    media_type::OCI_LAYER_TAR,
                    diff_id.clone(),
                    extent.size,
                ));
            }
        };
        let last = name.rsplit('/').next().unwrap_or(name);
        let hex = last.split('.').next().unwrap_or(last);
        let digest = match format!("sha256:{hex}").parse() {
            Ok(digest) => digest,
            Err(_) => self.hash(extent)?,
        };
        Ok(Descriptor::new(media_type, digest, extent.size))
    }

    fn hash(&self, extent: Extent) -> Result<Digest> {
        let part = HeldFile::part(Arc::clone(self.file), extent.offset, extent.size);
        let mut reader = part.open(0)?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(hasher.finish().0),
                count => hasher.update(&buffer[..count]),
            }
        }
    }

    fn find(&self, name: &str) -> Result<Extent> {
        self.index.find(name).ok_or_else(|| {
            let (path, name) = (self.path.to_owned(), name.to_owned());
            Error::MissingFile { path, name }
        })
    }

    /// Reads a whole file that must be small.
    pub(super) fn small(&self, name: &str, extent: Extent) -> Result<Vec<u8>> {
        if extent.size > MAX_SMALL_BYTES {
            let (path, what) = (self.path.to_owned(), format!("`{name}`"));
            return Err(Error::TooLarge { path, what, size: extent.size, limit: MAX_SMALL_BYTES });
        }
        let length = usize::try_from(extent.size).unwrap_or(0);
        Ok(read_exact_at(self.file, extent.offset, length)?)
    }
}
