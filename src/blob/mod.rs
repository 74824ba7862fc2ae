//! Bytes with a digest: sources that can be opened again, and readers and writers that hash.
//!
//! Everything here is blocking and knows nothing of files' places or of the network: the store and
//! the registry client both build on it. Main types: [`Source`], [`FileSource`], [`BytesSource`],
//! [`Hasher`], [`VerifyingReader`], [`HashingWriter`].

mod hash;
mod source;

pub use hash::{Hasher, HashingWriter, Mismatch, VerifyingReader};
pub use source::{BytesSource, FileSource, HeldFile, Source};
