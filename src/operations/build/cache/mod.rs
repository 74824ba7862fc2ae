//! Build caches outside the store: `--cache-from` and `--cache-to`.
//!
//! In a registry a cache is a repository with one small manifest a key ([`entry`]), under a tag made
//! of the key; nothing is ever overwritten, so any number of machines add to it at once. One request
//! tells whether a key is there, and the entry names the layers of the step and of all below it, so
//! that one answer is enough for a whole stage. A directory holds the same as an OCI image layout. An
//! image can carry the keys of its own layers (`type=inline`).
//!
//! What comes from outside is never trusted further than its digests reach: a layer is verified when
//! it is fetched and again when it is unpacked, and an entry that does not fit is a miss.

mod entry;
mod export;
mod inline;
mod layout;
mod lookup;
mod options;

pub(super) use export::Exports;
pub(super) use inline::with_keys;
pub(super) use lookup::CacheSources;
pub use options::{CacheFrom, CacheMode, CacheTo};
