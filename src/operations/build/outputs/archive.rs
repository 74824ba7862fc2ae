//! Outputs `oci` and `docker`.

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::archive::{ArchiveWriter, Form, Stored};
use crate::image::Descriptor;
use crate::operations::Error;
use crate::store::Store;

use super::choice::Choice;
use super::destination::{about, standard_output, unless_closed};
use super::product::Product;
use super::spec::{Destination, Dialect, OutputKind};

/// When the image was put there (OCI image-spec, annotations.md).
const CREATED: &str = "org.opencontainers.image.created";

/// Writes an image as the output of `choice` says; its blobs are in the store. Blocks.
pub(in crate::operations::build) fn write_archive(
    store: &Store,
    product: &Product,
    choice: &Choice,
    stdout: Option<&Arc<File>>,
) -> Result<(), Error> {
    let time = choice.form.epoch.unwrap_or_else(|| jiff::Timestamp::now().as_second());
    let of_members = u64::try_from(time).unwrap_or_default();
    let write = |writer: Result<ArchiveWriter, crate::archive::Error>| {
        write_image(store, product, &stored(product, choice, time), &writer?)
    };
    match &choice.kind {
        OutputKind::Archive { to: Destination::File(path), dialect } => {
            let writer = ArchiveWriter::create(path, form(product, *dialect), of_members);
            write(writer).map_err(|error| about(path, error))
        }
        OutputKind::Archive { to: Destination::Stdout, dialect } => {
            let out =
                Box::new(standard_output(stdout)?.try_clone().map_err(crate::archive::Error::Io)?);
            unless_closed(write(ArchiveWriter::stream(out, form(product, *dialect), of_members)))
        }
        OutputKind::Layout { directory, dialect } => {
            let form = match form(product, *dialect) {
                Form::Docker => Form::Docker,
                Form::Oci | Form::Layout | Form::Bundle => Form::Layout,
            };
            let writer = ArchiveWriter::directory(directory, form);
            write(writer).map_err(|error| about(directory, error))
        }
        OutputKind::Local { .. } | OutputKind::Tar { .. } | OutputKind::Image(_) => Ok(()),
    }
}

fn form(product: &Product, dialect: Dialect) -> Form {
    match (dialect, product.images.as_slice()) {
        (Dialect::Docker, [_]) => Form::Docker,
        // Docker's with several platforms was refused before, see `Outputs::suit`.
        (Dialect::Oci | Dialect::Docker, _) => Form::Oci,
    }
}

/// Returns the image under each of its names, dated.
fn stored(product: &Product, choice: &Choice, time: i64) -> Vec<Stored> {
    let mut descriptor = product.descriptor.clone();
    let date = jiff::Timestamp::from_second(time).unwrap_or_default();
    descriptor.annotations.insert(CREATED.to_owned(), date.to_string());
    if choice.names.is_empty() {
        return vec![Stored::nameless(descriptor)];
    }
    let named = choice.names.iter();
    named.map(|name| Stored::named(descriptor.clone(), name.clone())).collect()
}

/// Writes blobs in the order of their digests, so that equal images give equal archives.
fn write_image(
    store: &Store,
    product: &Product,
    images: &[Stored],
    writer: &ArchiveWriter,
) -> Result<(), Error> {
    for descriptor in product.blobs().into_values() {
        if writer.has(&descriptor) {
            continue;
        }
        if descriptor.is_manifest() {
            let bytes = store.read_blob(&descriptor.digest, crate::image::MAX_MANIFEST_BYTES)?;
            writer.put(&descriptor, &bytes)?;
            continue;
        }
        copy_blob(store, &descriptor, writer)?;
    }
    Ok(writer.finish(images)?)
}

fn copy_blob(store: &Store, descriptor: &Descriptor, writer: &ArchiveWriter) -> Result<(), Error> {
    let mut blob = writer.blob(descriptor)?;
    let mut file = store.open_blob(&descriptor.digest)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match io::Read::read(&mut file, &mut buffer).map_err(crate::store::Error::Io)? {
            0 => return Ok(blob.commit()?),
            count => io::Write::write_all(&mut blob, &buffer[..count])
                .map_err(crate::archive::Error::Io)?,
        }
    }
}
