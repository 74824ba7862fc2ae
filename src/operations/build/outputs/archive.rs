//! Outputs `oci` and `docker`.

use std::fs::File;
use std::sync::Arc;

use crate::archive::{self, Bundle, DockerImage, Named};
use crate::operations::Error;
use crate::store::Store;

use super::choice::Choice;
use super::destination::write_to;
use super::product::Product;
use super::spec::{Dialect, OutputKind};

/// Writes an image as the output of `choice` says; its blobs are in the store. Blocks.
pub(in crate::operations::build) fn write_archive(
    store: &Store,
    product: &Product,
    choice: &Choice,
    stdout: Option<&Arc<File>>,
) -> Result<(), Error> {
    match &choice.kind {
        OutputKind::Archive { to, dialect } => {
            let bundle = bundle(product, choice, *dialect);
            write_to(to, stdout, |out| Ok(archive::write_tar(store, &bundle, out)?))
        }
        OutputKind::Layout { directory, dialect } => {
            let bundle = bundle(product, choice, *dialect);
            archive::write_directory(store, &bundle, directory).map_err(|error| {
                Error::from(error).about(format!("failed to write `{}`", directory.display()))
            })
        }
        OutputKind::Local { .. } | OutputKind::Tar { .. } | OutputKind::Image(_) => Ok(()),
    }
}

fn bundle(product: &Product, choice: &Choice, dialect: Dialect) -> Bundle {
    let docker = match (dialect, product.images.as_slice()) {
        (Dialect::Docker, [image]) => Some(DockerImage {
            config: image.config_descriptor.digest.clone(),
            layers: image.layers.iter().map(|layer| layer.descriptor.digest.clone()).collect(),
            names: choice.names.clone(),
        }),
        // Docker's with several platforms was refused before, see `Outputs::suit`.
        (Dialect::Oci | Dialect::Docker, _) => None,
    };
    let names = choice.names.clone();
    Bundle {
        images: vec![Named { descriptor: product.descriptor.clone(), names }],
        blobs: product.blobs(),
        docker,
        time: choice.form.epoch.unwrap_or_else(|| jiff::Timestamp::now().as_second()),
    }
}
