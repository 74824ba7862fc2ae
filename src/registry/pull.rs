//! Blobs on their way in (OCI distribution-spec, "Pulling blobs").

use bytes::Bytes;

use super::external::External;
use super::progress::Progress;
use super::retry::Budget;
use super::session::Session;
use super::spread::Spread;
use super::{Error, Result};
use crate::blob::Hasher;
use crate::event::TransferOutcome;
use crate::image::Descriptor;

/// A blob's bytes as they arrive, verified, resumed after a cut.
///
/// Dropping it before the end ends the transfer as failed.
pub struct BlobStream {
    bytes: Origin,
    descriptor: Descriptor,
    progress: Progress,
    /// `None` once the end was reached or an error was given.
    hasher: Option<Hasher>,
}

/// Where the bytes come from.
enum Origin {
    Registry(Spread),
    Elsewhere(External),
}

impl Origin {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Registry(spread) => spread.next().await,
            Self::Elsewhere(external) => external.next().await,
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Registry(spread) => spread.url(),
            Self::Elsewhere(external) => external.url(),
        }
    }
}

impl BlobStream {
    /// Reads a layer that its registry does not keep, after what `hasher` has taken in.
    pub(super) fn elsewhere(
        external: External,
        descriptor: Descriptor,
        progress: Progress,
        hasher: Hasher,
    ) -> Self {
        progress.moved_to(hasher.count());
        Self { bytes: Origin::Elsewhere(external), descriptor, progress, hasher: Some(hasher) }
    }

    /// Opens the blob at the first of `places` that has it; there is at least one. It begins after
    /// what `hasher` has taken in. Of an empty rest nobody is asked.
    pub(super) async fn open(
        places: Vec<Session>,
        descriptor: Descriptor,
        budget: Budget,
        progress: Progress,
        hasher: Hasher,
    ) -> Result<Self> {
        progress.moved_to(hasher.count());
        let mut spread = Spread::new(places, descriptor.clone(), budget, hasher.count());
        let opened = spread.open().await;
        let bytes = Origin::Registry(spread);
        let mut stream = Self { bytes, descriptor, progress, hasher: Some(hasher) };
        opened.inspect_err(|_| stream.failed())?;
        Ok(stream)
    }

    /// Returns the next bytes, or `None` after the last when size and digest were right.
    ///
    /// A broken connection is taken up again where it broke, within the operation's retry budget.
    /// Bytes handed out before an error must be thrown away, unless the error is one of the network.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] instead of the end when the bytes are not those of the descriptor, and
    /// whatever keeps the blob from being read.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let next = self.try_next().await;
        if next.is_err() {
            self.failed();
            if let Origin::Registry(spread) = &mut self.bytes {
                spread.close();
            }
        }
        next
    }

    // Chunks are at most a few hundred KiB, so hashing them here takes the runtime's thread for
    // some tens of microseconds: less than handing them to another thread would cost.
    async fn try_next(&mut self) -> Result<Option<Bytes>> {
        let Some(hasher) = &mut self.hasher else { return Ok(None) };
        let Some(chunk) = self.bytes.next().await? else { return self.finish() };
        hasher.update(&chunk);
        self.progress.moved_to(hasher.count());
        Ok(Some(chunk))
    }

    fn finish(&mut self) -> Result<Option<Bytes>> {
        let Some(hasher) = self.hasher.take() else { return Ok(None) };
        if let Err(source) = hasher.verify(&self.descriptor) {
            self.progress.end(TransferOutcome::Failed);
            return Err(Error::Mismatch { url: self.bytes.url(), source });
        }
        if let Origin::Registry(spread) = &self.bytes {
            spread.went_well();
        }
        self.progress.moved_to(self.descriptor.size);
        self.progress.end(TransferOutcome::Moved);
        Ok(None)
    }

    /// Ends the transfer as failed, once.
    fn failed(&mut self) {
        if self.hasher.take().is_some() {
            self.progress.end(TransferOutcome::Failed);
        }
    }
}

impl Drop for BlobStream {
    fn drop(&mut self) {
        self.failed();
    }
}

impl std::fmt::Debug for BlobStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("BlobStream")
            .field("descriptor", &self.descriptor)
            .finish_non_exhaustive()
    }
}
