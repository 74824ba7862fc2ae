//! What a build's result becomes: files, archives, images here and in registries.
//!
//! `spec` has what an output can be and reads it, `choice` joins the outputs of one build with the
//! flags beside them, `product` is an image in the form that an output wants, `files` and `archive`
//! write what goes to the file system.

mod annotation;
mod archive;
mod attributes;
mod choice;
mod compression;
mod csv;
mod dated;
mod destination;
mod epoch;
mod files;
mod product;
mod spec;

pub use annotation::annotations;
pub use compression::read as compression;
pub use spec::{
    Destination, Dialect, ImageOptions, ImageOutput, Keep, Output, OutputKind, Publish, Split,
    Timestamps,
};

pub(super) use archive::write_archive;
pub(super) use choice::{Choice, Outputs};
pub(super) use epoch::epoch;
pub(super) use files::{PlatformFiles, write_files};
pub(super) use product::Product;
