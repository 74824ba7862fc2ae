//! Tars as containers of blobs: where the members are, found by seeking over their headers.
//!
//! Reads ustar, pax and GNU long names (POSIX.1-2024, pax, "ustar Interchange Format"; tar(5)).
//! No member's data is read on the way, and every number from the file is checked.

mod header;
mod index;
mod walk;

pub(super) use header::{BLOCK, Kind, filler, header, padded};
pub(super) use index::{Extent, TarIndex, digest_of};
pub(super) use walk::{Member, Step, Walk, read_exact_at};
