//! Giving layers the form that an output asks for.
//!
//! Steps make their layers in one way, and the cache knows these. Whatever a [`Form`] wants else
//! (another compression, other times, one layer in place of several) is made of them, and recorded
//! beside them, so that it is made once.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::image::{Descriptor, Digest, media_type};
use crate::layer::{
    Compression, LayerTar, LayerWriter, Merge, MergeInto, SealedLayer, Times, VerifiedTar, rewrite,
};

use super::{Cancel, Engine, now};
use crate::build::Error;
use crate::build::assemble::{Image, Parts, assemble};
use crate::build::form::{Form, MediaTypes, NewLayers};
use crate::build::layer::Layer;
use crate::build::plan::{Base, Plan};

/// Version of the records. A change of what a form does to a layer raises it.
const VERSION: u32 = 1;

/// How much of a tar is copied at once.
const BUFFER: usize = 256 << 10;

/// What was made of which layers; kept among the records of the cache.
#[derive(Debug, Serialize, Deserialize)]
struct Shaped {
    version: u32,
    #[serde(rename = "shaped_from")]
    from: Vec<Digest>,
    compression: Compression,
    times: Times,
    layer: Layer,
}

/// What to make of layers: the key of a record.
#[derive(Debug, Serialize)]
struct Wanted<'a> {
    version: u32,
    #[serde(rename = "shaped_from")]
    from: Vec<&'a Digest>,
    compression: Compression,
    times: Times,
}

impl Wanted<'_> {
    fn key(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a key serialises to JSON"))
    }
}

impl Engine<'_> {
    /// Returns the image that `parts`, which this plan's build made, are in `form`. Blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Base`] when a layer of the base is needed and cannot be had, and those of the store.
    pub fn shape(&self, plan: &Plan, parts: Parts, form: &Form) -> Result<Image, Error> {
        let (base, new) = parts.layers.split_at(parts.base_layers());
        let mut layers = Vec::with_capacity(parts.layers.len());
        for layer in base {
            layers.push(self.shape_base(plan, layer, form)?);
        }
        if form.new_layers == NewLayers::Squashed && new.len() > 1 {
            layers.push(self.squash(plan, new, form)?);
        } else {
            for layer in new {
                layers.push(self.shape_new(plan, layer, form)?);
            }
        }
        Ok(assemble(parts, &layers, form, &now()))
    }

    /// Returns what `form` makes of a layer that a step made.
    pub(super) fn shape_new(
        &self,
        plan: &Plan,
        layer: &Layer,
        form: &Form,
    ) -> Result<Layer, Error> {
        let as_it_is = form.times == Times::Keep
            && form.compression == Compression::default()
            && is_of(layer, form.compression);
        if as_it_is {
            return Ok(layer.clone());
        }
        self.convert(plan, layer, form.compression, form.times)
    }

    /// Returns what `form` makes of a base's layer: at most another compression, and that only where
    /// it has another format, as BuildKit does (`force-compression`).
    fn shape_base(&self, plan: &Plan, layer: &Layer, form: &Form) -> Result<Layer, Error> {
        let is_foreign = media_type::is_foreign_layer(&layer.descriptor.media_type);
        if form.keeps_base() || is_foreign || is_of(layer, form.compression) {
            return Ok(layer.clone());
        }
        self.convert(plan, layer, form.compression, Times::Keep)
    }

    fn convert(
        &self,
        plan: &Plan,
        layer: &Layer,
        compression: Compression,
        times: Times,
    ) -> Result<Layer, Error> {
        let from = vec![&layer.descriptor.digest];
        let wanted = Wanted { version: VERSION, from, compression, times };
        self.recorded_or(&wanted, || {
            self.bring(plan, layer)?;
            let mut tar = Guarded { inner: self.open(layer)?, cancel: &self.cancel };
            let sealed = if times == Times::Keep {
                self.seal_blob(compression, |out| {
                    copy(&mut tar, out)?;
                    tar.inner.finish()
                })?
            } else {
                self.seal_tar(compression, |out| rewrite(&mut tar, times, out))?
            };
            Ok(shaped_layer(&sealed, layer.created.clone()))
        })
    }

    /// Makes one layer of several.
    fn squash(&self, plan: &Plan, layers: &[Layer], form: &Form) -> Result<Layer, Error> {
        let from = layers.iter().map(|layer| &layer.descriptor.digest).collect();
        let Form { compression, times, .. } = *form;
        let wanted = Wanted { version: VERSION, from, compression, times };
        self.recorded_or(&wanted, || {
            let merge = self.merge(plan, layers, MergeInto::Layer)?;
            let sealed =
                self.seal_tar(compression, |out| merge.write(times, Path::new(""), out))?;
            let created = layers.iter().rev().find_map(|layer| layer.created.clone());
            Ok(shaped_layer(&sealed, created))
        })
    }

    /// Returns the files of the image whose layers, as base and steps made them, are `layers`.
    /// Missing ones are fetched. Blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Base`] when a layer of the base cannot be had, those of [`Merge::add`] and the store.
    pub fn files(&self, plan: &Plan, layers: &[Layer]) -> Result<Merge, Error> {
        self.merge(plan, layers, MergeInto::Tree)
    }

    fn merge(&self, plan: &Plan, layers: &[Layer], into: MergeInto) -> Result<Merge, Error> {
        layers.iter().try_for_each(|layer| self.bring(plan, layer))?;
        let spool = self.store.ingest_file()?;
        // Without its name, which goes here, the file lasts as long as the merge.
        let spool = duplicate(spool.file())?;
        let mut merge = Merge::new(spool, into);
        for layer in layers {
            let mut tar = Guarded { inner: self.open(layer)?, cancel: &self.cancel };
            merge.add(&mut tar)?;
            tar.inner.finish().map_err(crate::layer::Error::ReadTar)?;
        }
        Ok(merge)
    }

    fn open(&self, layer: &Layer) -> Result<VerifiedTar, Error> {
        let blob = self.store.open_blob(&layer.descriptor.digest)?;
        VerifiedTar::new(blob, layer.diff_id.clone())
            .map_err(|source| Error::Io { what: "start to read a layer", source })
    }

    /// Brings a layer into the store unless it is there: a base's from its registry, one that was
    /// found in another cache from there. Blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Base`] and [`Error::Cached`] when it cannot be had.
    pub fn bring(&self, plan: &Plan, layer: &Layer) -> Result<(), Error> {
        let digest = &layer.descriptor.digest;
        if self.store.has_blob(digest) {
            return Ok(());
        }
        let has_layer =
            |base: &&Base| base.layers.iter().any(|other| other.descriptor.digest == *digest);
        // Nobody reads along.
        let nowhere = fs_err::OpenOptions::new()
            .write(true)
            .open("/dev/null")
            .map_err(|source| Error::Io { what: "open the null device", source })?;
        let nowhere = nowhere.into_parts().0;
        match plan.bases.iter().find(has_layer) {
            Some(base) => self.bases.fetch(base, layer, nowhere).map_err(|source| Error::Base {
                image: base.reference.familiar(),
                digest: digest.clone(),
                source,
            }),
            None => self
                .caches
                .fetch(layer, nowhere)
                .map_err(|source| Error::Cached { digest: digest.clone(), source }),
        }
    }

    /// Returns the layer recorded for `wanted`, or the one that `make` makes, which is then recorded.
    fn recorded_or(
        &self,
        wanted: &Wanted<'_>,
        make: impl FnOnce() -> Result<Layer, Error>,
    ) -> Result<Layer, Error> {
        let key = wanted.key();
        let record = self.store.cache_record(&key)?;
        let record = record.and_then(|bytes| serde_json::from_slice::<Shaped>(&bytes).ok());
        if let Some(record) = record
            && record.version == VERSION
            && self.store.has_blob(&record.layer.descriptor.digest)
        {
            return Ok(record.layer);
        }
        let layer = make()?;
        let Wanted { compression, times, .. } = *wanted;
        let from = wanted.from.iter().map(|digest| (*digest).clone()).collect();
        let record = Shaped { version: VERSION, from, compression, times, layer: layer.clone() };
        let bytes = serde_json::to_vec(&record).expect("records serialise to JSON");
        self.store.put_cache_record(&key, &bytes)?;
        Ok(layer)
    }

    /// Keeps the blob of the tar that `fill` writes, and its path index.
    fn seal_tar(
        &self,
        compression: Compression,
        fill: impl FnOnce(&mut LayerTar<&mut LayerWriter<File>>) -> crate::layer::Result<()>,
    ) -> Result<SealedLayer, Error> {
        let mut index = None;
        let sealed = self.seal_blob(compression, |out| {
            let mut tar = LayerTar::new(out);
            fill(&mut tar).map_err(io::Error::other)?;
            index = Some(tar.finish().map_err(io::Error::other)?.1);
            Ok(0)
        })?;
        if let Some(index) = index {
            index.save(&self.store.paths_index_path(&sealed.diff_id))?;
        }
        Ok(sealed)
    }

    /// Keeps the blob of the uncompressed bytes that `fill` writes.
    fn seal_blob(
        &self,
        compression: Compression,
        fill: impl FnOnce(&mut LayerWriter<File>) -> io::Result<u64>,
    ) -> Result<SealedLayer, Error> {
        let failed = |source| Error::Io { what: "write a layer in another form", source };
        let ingest = self.store.ingest_file()?;
        let mut writer = LayerWriter::new(duplicate(ingest.file())?, compression);
        fill(&mut writer).map_err(failed)?;
        let sealed = writer.finish().map_err(failed)?;
        self.store.adopt(ingest, &sealed.digest, sealed.size)?;
        Ok(sealed)
    }
}

/// A reader that ends when the build is to stop.
struct Guarded<'a, R> {
    inner: R,
    cancel: &'a Cancel,
}

impl<R: Read> Read for Guarded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_requested() {
            return Err(io::Error::other("canceled"));
        }
        self.inner.read(buffer)
    }
}

fn is_of(layer: &Layer, compression: Compression) -> bool {
    let layer = layer.with_media_type_of(MediaTypes::Oci);
    layer.descriptor.media_type == compression.media_type()
}

fn shaped_layer(sealed: &SealedLayer, created: Option<String>) -> Layer {
    let SealedLayer { media_type, digest, size, diff_id, .. } = sealed.clone();
    Layer { descriptor: Descriptor::new(media_type, digest, size), diff_id, created }
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count])?,
        }
    }
}

fn duplicate(file: &File) -> Result<File, Error> {
    file.try_clone().map_err(|source| Error::Io { what: "open a temporary file", source })
}
