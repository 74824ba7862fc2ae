//! Implied directories.
use crate::layer::{Entry, PathIndex, Result, View};

/// Returns the implied directories of `layer` whose metadata differ from what `below` says.
pub fn implied_fixes(_below: &View, _layer: &PathIndex) -> Result<Vec<Entry>> {
    todo!()
}
