//! The local content-addressed store. No network.
//!
//! On disk a store is an OCI image layout (OCI image-spec, image-layout.md), so that other tools
//! can read it, with rpub's own directories beside it. Format version 1:
//!
//! ```text
//! rpub.json               {"version":1}: written last when a store is made, read first
//! oci-layout, index.json  the image layout; index.json names the images
//! blobs/<algorithm>/<hex> blobs, complete and verified
//! ingest/                 blobs being written; `<name>.partial` may be continued later: what a
//!                         download has of a blob is `<algorithm>-<hex>.partial`, and
//!                         `push-<hex>.partial` says where a push goes on that was killed
//! snapshots/<mapping>/    one directory per unpacked layer, named by the diffID's hex
//! cachemounts/<mapping>/  directories of `RUN --mount=type=cache`; see `cache_mount.rs`
//! paths/<hex>             a layer's path index (format of the room `layer`), by diffID
//! cache/<hex>             a build cache record (JSON of the room `build`), by key; its time is the
//!                         last use
//! cache/listings/<hex>    the files that a content digest in a record stands for, compressed
//! remote/<kind>/<hex>/    what builds got by http and git (the room `remote`), by address or digest
//! mirror/<hex>            what a mirror knows of a repository that it fills (lines of JSON of the room
//!                         `operations`), by the digest of its name
//! seen/<hex>              what the name of an image was last seen to mean; see `seen.rs`
//! registries.json         what was learnt about registries (JSON of the room `operations`)
//! locks/                  empty files to `flock`
//! tmp/                    files about to be renamed, and directories of running steps
//! ```
//!
//! An entry of index.json has the annotation `org.opencontainers.image.ref.name` with the full
//! reference (`docker.io/library/alpine:3`, or `host/name@sha256:...` for an image kept by digest
//! only), `rpub.tagged` with the time, `rpub.index` with the digest of the index in the registry that
//! it was chosen from, which is kept as a blob to be compared with, `rpub.subject` when the manifest
//! refers to another, `rpub.evictable` when only a pull-through cache wanted it, and `rpub.kept` when it
//! is kept by its digest after its tag has moved. An
//! entry without a name is a dangling image. There is one entry per name. Images in Docker's format
//! are kept as they came, so their entries have Docker's media types; the image-spec allows that,
//! but skopeo's `oci:` transport does not look at such entries.
//!
//! **Crash safety.** The final name of a file is never open for writing: bytes go to a temporary
//! on the same file system, blob data and index.json are synced, then renamed. Directories are not
//! synced: a power cut may take back the latest renames, but a journal replays them in order, so
//! index.json never names a blob that is not there. Cache records are not synced at all: an empty
//! one reads as absent. Snapshots are not synced either: a killed process harms none, as they are
//! renamed into place, but after a power cut those made in its last half minute may be damaged.
//! They can be deleted at any time: they are unpacked again from the blobs.
//!
//! **Sharing.** Processes share a store. Changing index.json takes `locks/index.lock` for the
//! read-modify-write. A command that uses blobs or snapshots holds [`Store::lock_shared`]; garbage
//! collection takes the same lock exclusively, so it never takes away what a command is using.

mod cache;
mod cache_mount;
mod collect;
mod error;
mod evict;
mod index;
mod journal;
mod lock;
mod notes;
mod open;
mod partial;
mod read;
mod remote;
mod seen;
mod snapshot;
#[cfg(test)]
mod tests;
mod usage;
mod write;

pub use cache_mount::{CacheChoice, CacheFound, CacheInstance, CacheLease, CacheSharing, NewCache};
pub use collect::{Reaching, Reclaimed};
pub use error::{Error, Result};
pub use evict::Evicted;
pub use index::ImageEntry;
pub use journal::Journal;
pub use lock::{ExclusiveLock, SharedLock};
pub use notes::PushNote;
pub use open::Store;
pub use partial::PartialBlob;
pub use remote::{RemoteKind, RemoteLock};
pub use seen::Seen;
pub use usage::{Amount, Usage};
pub use write::{BlobWriter, IngestFile};
