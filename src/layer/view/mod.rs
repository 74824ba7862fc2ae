//! The merged metadata of a stack of layers.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::layer::{Entry, EntryKind, Error, PathIndex, Record, Result};

/// How many symbolic links a path may lead through: the kernel's own limit, `path_resolution(7)`.
const MAX_LINKS: usize = 40;

/// The metadata of the root file system that a stack of layers makes.
///
/// An upper layer's entry hides a lower one's; a deletion, an opaque directory and anything that is
/// not a directory also hide what lies below them in lower layers (OCI image-spec, layer.md,
/// "Whiteouts"). A directory that a layer needs without listing it changes nothing of one below.
#[derive(Debug, Clone, Default)]
pub struct View {
    layers: Vec<Arc<PathIndex>>,
}

impl View {
    /// Returns the view of `layers`, bottom first.
    #[must_use]
    pub fn new(layers: Vec<Arc<PathIndex>>) -> Self {
        Self { layers }
    }

    /// Returns what is at `path`, following no links; a hard link is shown as the file it names.
    #[must_use]
    pub fn lookup(&self, path: &Path) -> Option<Entry> {
        let path = relative(path);
        let (index, record) = self.find(path)?;
        let mut entry = record.entry()?;
        if let EntryKind::HardLink { target } = &entry.kind
            && let Some(file) = index.get(target).and_then(Record::entry)
        {
            entry = Entry { path: entry.path, ..file };
        }
        Some(entry)
    }

    /// Returns the path that `path` leads to, relative to the root, as chroot would resolve it.
    ///
    /// Absolute and relative paths both start at the root, `..` stops there, and components that do
    /// not exist are kept as they are. A link in last place is followed if `follow_last` is set.
    ///
    /// # Errors
    ///
    /// [`Error::LinkLoop`] after forty links.
    pub fn resolve(&self, path: &Path, follow_last: bool) -> Result<PathBuf> {
        let mut pending: VecDeque<OsString> = components(path).collect();
        let mut resolved = PathBuf::new();
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            if name == ".." {
                resolved.pop();
                continue;
            }
            resolved.push(name);
            if pending.is_empty() && !follow_last {
                break;
            }
            let kind = self.find(&resolved).and_then(|(_, record)| record.kind());
            let Some(EntryKind::Symlink { target }) = kind else { continue };
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::LinkLoop(path.to_owned()));
            }
            if target.is_absolute() {
                resolved = PathBuf::new();
            } else {
                resolved.pop();
            }
            for name in components(&target).collect::<Vec<_>>().into_iter().rev() {
                pending.push_front(name);
            }
        }
        Ok(resolved)
    }

    /// Returns the entries of the directory at `path`, following no links, sorted bytewise by name.
    #[must_use]
    pub fn children(&self, path: &Path) -> Vec<Entry> {
        let path = relative(path);
        let mut found: BTreeMap<&OsStr, Option<Entry>> = BTreeMap::new();
        for index in self.layers.iter().rev() {
            let own = index.get(path);
            if own.is_some_and(|record| !record.is_directory()) {
                break;
            }
            for record in index.children(path) {
                let name = record.path().file_name().unwrap_or_default();
                // The first layer from the top that has the name decides; `lookup` merges the
                // metadata of directories that it does not list.
                found.entry(name).or_insert_with(|| self.lookup(record.path()));
            }
            if own.is_some_and(Record::is_opaque) || index.hides_below(path) {
                break;
            }
        }
        found.into_values().flatten().collect()
    }

    /// Returns the content of a file that indexes keep whole, `etc/passwd` and `etc/group`, or of
    /// one that a link leads to from `path`; `None` when it is absent or larger than 256 KiB.
    #[must_use]
    pub fn small_file(&self, path: &Path) -> Option<&[u8]> {
        let path = self.resolve(path, true).ok()?;
        self.find(&path)?.1.content()
    }

    /// Returns the record that decides `path`, with its layer.
    fn find(&self, path: &Path) -> Option<(&PathIndex, Record<'_>)> {
        let mut implied = None;
        for index in self.layers.iter().rev() {
            if let Some(record) = index.get(path) {
                if record.is_whiteout() || (implied.is_some() && !record.is_directory()) {
                    return implied;
                }
                if !record.is_implied() {
                    return Some((index, record));
                }
                implied = implied.or(Some((&**index, record)));
                if record.is_opaque() {
                    return implied;
                }
            }
            if index.hides_below(path) {
                return implied;
            }
        }
        implied
    }
}

/// Returns `path` as indexes have it: without a leading or trailing slash.
fn relative(path: &Path) -> &Path {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().position(|byte| *byte != b'/').unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(start, |at| at + 1);
    Path::new(OsStr::from_bytes(&bytes[start..end]))
}

fn components(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests;
