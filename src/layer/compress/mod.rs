//! Compression of layers: from a tar to a sealed blob, and back.
//!
//! [`LayerWriter`] takes the uncompressed tar and gives digest, diffID and sizes in one pass,
//! compressing blocks on several threads. [`decompress`] recognises what is inside a blob by its
//! first bytes; [`VerifiedTar`] does so ahead of its reader, on a thread of its own, and checks the
//! diffID.
//!
//! A gzip layer is a sequence of members (RFC 1952, section 2.2), as those of apko, eStargz and
//! concatenated layers are: the tar is cut into blocks of fixed size, and each is compressed without
//! knowledge of the others. What looks compressed already is stored, as a member of its own. Level,
//! block size and that choice make the bytes; the number of threads does not.
//!
//! A zstd layer is a sequence of frames, one a block (RFC 8878, section 3).

mod block;
mod pipeline;
mod read;
#[cfg(test)]
mod tests;
mod writer;

use serde::{Deserialize, Serialize};

use crate::image::{DiffId, Digest, media_type};

pub use read::{CorruptData, VerifiedTar, decompress};
pub use writer::LayerWriter;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// gzip at a level from 0 to 9: what every registry and runtime reads.
    Gzip(u32),
    /// zstd at a level from 1 to 22.
    Zstd(i32),
    /// The tar as it is.
    None,
}

impl Compression {
    /// The level of gzip when nothing else is asked for.
    ///
    /// Level 2 of libdeflate makes layers 2 % smaller than Go's default, which the other builders
    /// use, in two thirds of its time; level 6 would save 4 % of the bytes for half as much time
    /// again.
    pub const DEFAULT_GZIP_LEVEL: u32 = 2;

    /// Returns the media type of a layer made so (OCI image-spec, layer.md).
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gzip(_) => media_type::OCI_LAYER_GZIP,
            Self::Zstd(_) => media_type::OCI_LAYER_ZSTD,
            Self::None => media_type::OCI_LAYER_TAR,
        }
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::Gzip(Self::DEFAULT_GZIP_LEVEL)
    }
}

/// What there is to know of a layer once all its bytes are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedLayer {
    /// The digest of the bytes as written.
    pub digest: Digest,
    /// How many bytes were written.
    pub size: u64,
    /// The digest of the tar.
    pub diff_id: DiffId,
    /// The size of the tar in bytes.
    pub uncompressed_size: u64,
    /// The media type that a descriptor of the layer has.
    pub media_type: String,
}
