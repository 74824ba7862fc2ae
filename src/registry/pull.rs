//! Blobs on their way in.

use bytes::Bytes;

use super::Result;

/// A blob's bytes as they arrive, verified, resumed after a cut.
pub struct BlobStream {}

impl BlobStream {
    /// Returns the next bytes, or `None` after the last when size and digest were right.
    ///
    /// A broken connection is taken up again where it broke, within the operation's retry budget.
    /// Bytes handed out before an error must be thrown away.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`](super::Error::Mismatch) instead of the end when the bytes are not those of the descriptor, and
    /// whatever keeps the blob from being read.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        todo!()
    }
}
