//! Images in files that other tools read and write: OCI layouts, in a directory or in a tar, docker's
//! archives, and bundles. No network, no store. What unpacks layers is in other rooms.
//!
//! [`Archive`] reads every form, which it finds by the content; [`ArchiveWriter`] writes them. Both
//! speak of [`Stored`] images and of blobs by digest. Docker's form is an OCI image layout (OCI
//! image-spec, image-layout.md) with a `manifest.json` that names the same blobs (moby,
//! `image/tarexport`), as docker writes it since version 25; of the one before, which had only
//! that file, OCI manifests are made.
//!
//! # Bundles
//!
//! A bundle holds images of any registries under their whole names, each blob once. It is a tar
//! (ustar, or pax for long names) with an OCI image layout, so that `tar` and `skopeo` read it.
//! Version 1 has these members, all with time 0 and root as their owner:
//!
//! ```text
//! rpub-bundle                     {"version":1}, first
//! oci-layout
//! blobs/<algorithm>/<hex>         any number, as they are, not compressed once more
//! index.json                      the images: org.opencontainers.image.ref.name is the whole name;
//!                                 rpub.subject is what a signature or attestation refers to
//! rpub-bundle.index               JSON: version; images: digest, offset and size of index.json;
//!                                 blobs: digest, offset and size of each; delta, of a delta bundle:
//!                                 against, the inventory in words, and left_out, digests and sizes
//! rpub-bundle.trailer             one block, zeros at its end: `rpub-bundle <version>`, line feed,
//!                                 `<offset> <size> <digest>` of rpub-bundle.index, line feed
//! ```
//!
//! Two blocks of zeros end it. A reader takes the last 2048 bytes, which are the trailer and the
//! zeros, then the index: three reads, whatever the size. Every byte is covered: blobs and the two
//! indexes by their digests, the rest by being what this page says, see [`Archive::verify`].
//!
//! **Adding.** What is added comes behind the zeros, which stay until all of it is there, with a new
//! `index.json`, index and trailer that name the old blobs too. At last a pax global header of the
//! same two blocks takes the place of the zeros. So at any instant `tar` and rpub read what was
//! there before, or all. A file that does not end in a trailer is one whose writer died, when zeros
//! follow the last trailer: it is read as it was before. Without them it was cut, and is refused.
//!
//! **Writing.** Blobs are written side by side: each gets its place at once, because its size is
//! known, and is called `rpub-bundle.pending/<algorithm>/<hex>` until it is whole. A bundle that is
//! not finished is `<name>.partial`. The next writer finds by the headers what is there, and
//! verifies what it uses of it. Places that end up without a blob are `rpub-bundle.void`, zeros.

mod bundle;
mod compressed;
mod directory;
mod docker;
mod error;
mod read;
mod stored;
mod tar;
mod tar_writer;
#[cfg(test)]
mod tests;
mod verify;
mod write;

pub use bundle::{Delta, LeftOut};
pub use error::{Error, Result};
pub use read::{Archive, Form};
pub use stored::{Name, Stored};
pub use write::{ArchiveWriter, BlobWriter};

/// Most of an `index.json` or `manifest.json` that is read: a hundred thousand images.
const MAX_SMALL_BYTES: u64 = 64 << 20;
