//! Copies over a graph of descriptors: the one engine behind `copy`, mirrors and bundles.
//!
//! A [`Carrier`] is what all images of one run share. [`copy_image`] reads a name, looks by `HEAD`
//! whether there is anything to do, reads the manifests below it as a [`Tree`](tree::Tree), finds
//! what belongs to them ([`companions`]), and brings everything to all destinations: blobs first,
//! then manifests by their digests, names last. Bytes are never changed.
//!
//! Of the images of a run, the first that needs a blob in a registry claims it ([`claims`]); others
//! wait for it and have it mounted. What comes from a registry passes through memory
//! ([`relay`], [`pipe`]), or through a file without a name where several read it or one is slow
//! ([`spool`]).

mod archive;
mod carrier;
mod claims;
mod companions;
mod delivery;
mod hold;
mod image;
mod load;
mod pipe;
mod relay;
mod spool;
mod tree;
mod weight;

pub use archive::ArchiveTarget;
pub use carrier::Carrier;
pub use delivery::{Arrival, CopyTarget, Delivered, is_taken};
pub use image::{Carry, CopiedImage, CopyJob, CopyOptions, copy_image, copy_images};
pub use load::{LoadSource, LoadedImage, load};
pub use tree::{IndexShape, Trimmed};
pub(super) use weight::{Weight, weigh};
