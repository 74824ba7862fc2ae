//! Editing images where they are: read manifests, make new ones, push what lacks, move the tag last.
//!
//! An edit reads the manifest that a name stands for, and only what it needs of the rest. Each image
//! becomes a [`Draft`](draft::Draft): manifest and config as JSON values, in which an edit changes
//! what it is about and nothing else, so that members nobody here knows stay, and what was not
//! touched keeps its exact bytes and digest. The new documents are an
//! [`Edition`](edition::Edition), which is delivered like any other image: blobs are found,
//! mounted or sent, then manifests by digest, then the names.
//!
//! An edit of an index edits each image in it, or those of the platforms asked for, and then the
//! index's entries. Attestations about an edited image are left out, because they state the digest
//! that the image had.

mod append;
mod changes;
mod difference;
mod draft;
mod edition;
mod entries;
mod flatten;
mod index;
mod inspect;
mod json;
mod layers;
mod mutate;
mod notes;
mod platforms;
mod rebase;
mod referrers;
mod run;
mod target;

pub use append::{AppendRequest, LayerSource, append};
pub use changes::Changes;
pub use difference::{Difference, differences};
pub use flatten::flatten;
pub use index::{
    CreateRequest, IndexSource, add_to_index, annotate_index, create_index, remove_from_index,
};
pub use inspect::{Inspected, WithConfigs, inspect_remote};
pub use mutate::mutate;
pub use notes::{Note, NotePlace, Removal, Selector, notes};
pub use rebase::{BaseCheck, RebaseRequest, check_base, rebase};
pub use target::{EditReport, EditTarget, EditedImage, LeftBehind, Location, MediaFamily};

pub(super) use entries::retain;
pub(super) use json::{bytes, document};
pub(super) use platforms::{attests, choose, chosen};
