//! Overlay upper directory to tar.
use std::io::Write;
use std::path::Path;

use crate::layer::{LayerTar, Result};

/// Appends the change set that the overlay upper directory `upper` holds to `tar`. Blocks.
///
/// Paths for which `exclude` is true are left out, with everything below them.
pub fn diff<W: Write>(
    _upper: &Path,
    _exclude: &dyn Fn(&Path) -> bool,
    _tar: &mut LayerTar<W>,
) -> Result<()> {
    todo!()
}
