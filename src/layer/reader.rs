//! Tar reader.

/// The longest path that is accepted: what Linux accepts in one call.
pub(super) const MAX_PATH: usize = 4096;

/// A bounded, streaming tar reader.
#[derive(Debug)]
pub struct TarReader {}
/// A member.
#[derive(Debug)]
pub struct Member {}
