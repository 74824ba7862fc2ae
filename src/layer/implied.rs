//! Parents that a layer needs without listing them.

use crate::layer::{Entry, Error, PathIndex, Result, View};

/// Returns, sorted, the implied directories of `layer` whose metadata differ from what `below` says.
///
/// A snapshot holds such a directory with mode 0755 and owned by root, and overlayfs takes a
/// directory's metadata from the topmost snapshot that has it. Whoever stacks the snapshot puts a
/// small layer with the returned directories above it, so that shared snapshots never change.
/// Modification times are no reason for an entry, but the returned ones are right.
///
/// # Errors
///
/// [`Error::ImpliedParent`] when the path is not a directory below: the layer was made for another
/// base, or by a tool that follows links while unpacking.
pub fn implied_fixes(below: &View, layer: &PathIndex) -> Result<Vec<Entry>> {
    let mut fixes = Vec::new();
    for record in layer.records().filter(|record| record.is_implied()) {
        if layer.hides_below(record.path()) {
            continue;
        }
        let Some(entry) = below.lookup(record.path()) else { continue };
        if !entry.is_directory() {
            // A deletion of what is below, and a new directory in its place, are one change.
            if record.is_opaque() {
                continue;
            }
            let (path, kind) = (entry.path, entry.kind.name());
            return Err(Error::ImpliedParent { path, kind });
        }
        let implied = Entry { mtime: entry.mtime, ..Entry::implied_directory(record.path()) };
        if entry != implied {
            fixes.push(entry);
        }
    }
    Ok(fixes)
}
