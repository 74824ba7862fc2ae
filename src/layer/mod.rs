//! Directory trees as layer tars and back (OCI image-spec, layer.md).
//!
//! [`apply()`] unpacks a layer's tar into a snapshot directory that overlayfs can stack, [`diff()`]
//! turns an overlay upper directory into a tar, [`LayerTar`] writes canonical tars, [`PathIndex`]
//! remembers what a layer holds and [`View`] merges such indexes into a root file system's metadata.
//! [`Merge`] makes one tree, or one layer, of several layers without a file system for it, [`place()`]
//! moves a finished tree into a directory, [`rewrite()`] gives a layer other times, and [`intake()`]
//! takes in layers that were made elsewhere.
//! Stores, networks, mounts and processes do not belong here.
//!
//! Nothing in this room follows a path out of the directory it was given: every component is opened
//! from a directory handle, without following links.

mod apply;
mod compress;
mod copy;
mod diff;
mod disk_use;
mod entry;
mod error;
mod header;
mod implied;
mod index;
mod intake;
mod merge;
mod place;
mod reader;
mod rewrite;
mod view;
mod writer;

pub use apply::{Applied, ApplyOptions, Ownership, Warning, WhiteoutForm, apply};
pub use compress::*;
pub use copy::*;
pub use diff::diff;
pub use disk_use::disk_use;
pub use entry::{Entry, EntryKind};
pub use error::Error;
pub use implied::implied_fixes;
pub use index::{IndexBuilder, PathIndex, Record};
pub use intake::{Accepted, intake};
pub use merge::{Merge, MergeInto};
pub use place::{Leftover, place};
pub use reader::{Member, TarReader};
pub use rewrite::{Times, rewrite};
pub use view::View;
pub use writer::LayerTar;

/// The result of this room's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says which part of a test does not run here; fails where `RPUB_TEST_REQUIRE` asks for all.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests' own switch")]
fn skip(reason: &str) {
    let required = std::env::var_os("RPUB_TEST_REQUIRE").is_some_and(|value| !value.is_empty());
    assert!(!required, "required, but: {reason}");
    eprintln!("SKIPPED: {reason}");
}
