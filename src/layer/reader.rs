//! Tar reader.

/// A bounded, streaming tar reader.
#[derive(Debug)]
pub struct TarReader {}
/// A member.
#[derive(Debug)]
pub struct Member {}
