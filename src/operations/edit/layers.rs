//! New layers for images that are edited.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::image::{Descriptor, media_type};
use crate::layer::{
    self, Accepted, Compression, LayerTar, LayerWriter, Merge, MergeInto, SealedLayer, TarReader,
    Times, VerifiedTar, intake, rewrite,
};
use crate::operations::pull::fetch_missing;
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, Session};
use crate::store::{IngestFile, Store};

use super::changes::rename;
use super::draft::{Draft, DraftLayer};
use super::json;
use super::target::MediaFamily;
use crate::operations::place::Place;

/// Takes a layer from outside into the store. Blocks.
pub(super) fn take(
    store: &Store,
    input: impl Read + Send,
    is_docker: bool,
) -> Result<SealedLayer, Error> {
    let accepted = if is_docker { Accepted::Gzip } else { Accepted::GzipAndZstd };
    let ingest = store.ingest_file()?;
    let sealed = intake(input, duplicate(&ingest)?, accepted)
        .map_err(|error| Error::new(Kind::User, "it is no layer").because(error))?;
    store.adopt(ingest, &sealed.digest, sealed.size)?;
    Ok(sealed)
}

/// Makes one layer of all layers of an image.
pub(super) async fn merge(session: &Session, draft: &Draft) -> Result<SealedLayer, Error> {
    let layers = bring(session, draft).await?;
    let store = session.store.clone();
    blocking(move || {
        let spool = store.ingest_file()?;
        // Without its name, which goes here, the file lasts as long as the merge.
        let mut merge = Merge::new(duplicate(&spool)?, MergeInto::Tree);
        drop(spool);
        for (descriptor, layer) in &layers {
            let mut tar = open(&store, descriptor, layer)?;
            let about = |error| unreadable(descriptor, error);
            merge.add(&mut tar).map_err(about)?;
            tar.finish().map_err(|error| about(layer::Error::ReadTar(error)))?;
        }
        seal(&store, Compression::default(), |tar| merge.write(Times::Keep, Path::new(""), tar))
    })
    .await
}

/// Lets no file in the layers have a later time than `latest`, in seconds since 1970. A layer that
/// has none keeps its bytes.
pub(super) async fn rewrite_times(
    session: &Session,
    draft: &mut Draft,
    latest: i64,
) -> Result<(), Error> {
    draft.expect_image()?;
    let is_docker = draft.is_docker();
    let layers = bring(session, draft).await?;
    let store = session.store.clone();
    let rewritten = blocking(move || {
        let mut all = Vec::with_capacity(layers.len());
        for (descriptor, layer) in layers {
            let about = |error| unreadable(&descriptor, error);
            if !has_later(open(&store, &descriptor, &layer)?, latest).map_err(about)? {
                all.push((layer, false));
                continue;
            }
            let compression = match descriptor.media_type.as_str() {
                media_type::OCI_LAYER_ZSTD => Compression::Zstd(3),
                _ => Compression::default(),
            };
            let mut tar = open(&store, &descriptor, &layer)?;
            let sealed =
                seal(&store, compression, |out| rewrite(&mut tar, Times::Clamp(latest), out))?;
            tar.finish().map_err(|error| about(layer::Error::ReadTar(error)))?;
            all.push((new_layer(&sealed, is_docker)?, true));
        }
        Ok::<_, Error>(all)
    })
    .await?;
    for (layer, is_new) in &rewritten {
        if *is_new {
            draft.origins.insert(layer.descriptor()?.digest, Place::Store);
        }
    }
    draft.set_layers(rewritten.into_iter().map(|(layer, _)| layer).collect());
    Ok(())
}

/// Compresses the layers anew that are not compressed so, for an image that will be of `family` if
/// it does not keep its own.
pub(super) async fn recompress(
    session: &Session,
    draft: &mut Draft,
    compression: Compression,
    family: Option<MediaFamily>,
) -> Result<(), Error> {
    draft.expect_image()?;
    let is_zstd = matches!(compression, Compression::Zstd(_));
    if is_zstd && family.map_or(draft.is_docker(), |family| family == MediaFamily::Docker) {
        let message = format!("`{}` is in Docker's format, which knows no zstd", draft.name);
        return Err(Error::new(Kind::User, message).hint("add `--to-oci` to change its format"));
    }
    let is_so = |layer: &DraftLayer| -> Result<bool, Error> {
        let kind = layer.descriptor()?.media_type;
        Ok(media_type::oci_name(&kind).unwrap_or(&kind) == compression.media_type())
    };
    // On its way to OCI's format, for which the other layers get their names later.
    let is_docker = draft.is_docker() && !is_zstd;
    let mut layers = Vec::new();
    for (descriptor, layer) in bring(session, draft).await? {
        if is_so(&layer)? {
            layers.push(layer);
            continue;
        }
        let store = session.store.clone();
        let sealed = blocking(move || compress(&store, &descriptor, &layer, compression)).await?;
        draft.origins.insert(sealed.digest.clone(), Place::Store);
        layers.push(new_layer(&sealed, is_docker)?);
    }
    draft.set_layers(layers);
    Ok(())
}

/// Returns a sealed layer as a layer of an image of that family.
pub(super) fn new_layer(sealed: &SealedLayer, is_docker: bool) -> Result<DraftLayer, Error> {
    let descriptor = Descriptor::new(sealed.media_type.clone(), sealed.digest.clone(), sealed.size);
    let mut layer =
        DraftLayer { entry: json::descriptor(&descriptor), diff_id: sealed.diff_id.clone() };
    let family = if is_docker { MediaFamily::Docker } else { MediaFamily::Oci };
    rename(&mut layer.entry, family, "the layer")?;
    Ok(layer)
}

/// Brings the layers of an image into the store; returns them.
async fn bring(session: &Session, draft: &Draft) -> Result<Vec<(Descriptor, DraftLayer)>, Error> {
    let layers = draft.layers()?.into_iter();
    let layers = layers.map(|layer| Ok((layer.descriptor()?, layer)));
    let layers = layers.collect::<Result<Vec<_>, Error>>()?;
    if let Some((descriptor, _)) =
        layers.iter().find(|(descriptor, _)| !media_type::is_layer(&descriptor.media_type))
    {
        let kind = &descriptor.media_type;
        let message = format!("`{}` has a layer of the unknown kind `{kind}`", draft.name);
        return Err(Error::new(Kind::User, message));
    }
    if let Some(repository) = draft.place.repository() {
        let descriptors: Vec<Descriptor> =
            layers.iter().map(|(descriptor, _)| descriptor.clone()).collect();
        fetch_missing(session, repository, &descriptors).await?;
    }
    Ok(layers)
}

fn open(store: &Store, descriptor: &Descriptor, layer: &DraftLayer) -> Result<VerifiedTar, Error> {
    let blob = store.open_blob(&descriptor.digest)?;
    VerifiedTar::new(blob, layer.diff_id.clone())
        .map_err(|error| Error::new(Kind::Internal, "failed to read a layer").because(error))
}

/// Writes the tar of a layer into the store, byte by byte, compressed otherwise. Blocks.
fn compress(
    store: &Store,
    descriptor: &Descriptor,
    layer: &DraftLayer,
    compression: Compression,
) -> Result<SealedLayer, Error> {
    let about = |error| unreadable(descriptor, layer::Error::ReadTar(error));
    let mut tar = open(store, descriptor, layer)?;
    let ingest = store.ingest_file()?;
    let mut writer = LayerWriter::new(duplicate(&ingest)?, compression);
    io::copy(&mut tar, &mut writer).map_err(about)?;
    tar.finish().map_err(about)?;
    let sealed = writer
        .finish()
        .map_err(|error| Error::new(Kind::Internal, "failed to write the layer").because(error))?;
    store.adopt(ingest, &sealed.digest, sealed.size)?;
    Ok(sealed)
}

fn has_later(tar: impl Read, latest: i64) -> layer::Result<bool> {
    let mut reader = TarReader::new(tar);
    while let Some(member) = reader.next_member()? {
        if member.entry()?.mtime > latest {
            return Ok(true);
        }
    }
    Ok(false)
}

fn unreadable(descriptor: &Descriptor, error: layer::Error) -> Error {
    let is_wrong = matches!(&error, layer::Error::ReadTar(inner)
        if inner.kind() == io::ErrorKind::InvalidData);
    let kind = if is_wrong { Kind::Integrity } else { Kind::User };
    Error::new(kind, format!("failed to read layer {}", descriptor.digest)).because(error)
}

/// Writes a layer into the store.
fn seal(
    store: &Store,
    compression: Compression,
    write: impl FnOnce(&mut LayerTar<LayerWriter<File>>) -> layer::Result<()>,
) -> Result<SealedLayer, Error> {
    let ingest = store.ingest_file()?;
    let mut tar = LayerTar::new(LayerWriter::new(duplicate(&ingest)?, compression));
    write(&mut tar)?;
    let (writer, _) = tar.finish()?;
    let sealed = writer
        .finish()
        .map_err(|error| Error::new(Kind::Internal, "failed to write the layer").because(error))?;
    store.adopt(ingest, &sealed.digest, sealed.size)?;
    Ok(sealed)
}

fn duplicate(ingest: &IngestFile) -> Result<File, Error> {
    ingest.file().try_clone().map_err(|error| {
        Error::new(Kind::Internal, "failed to open the layer's temporary file").because(error)
    })
}
