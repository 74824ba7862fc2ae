//! Writing a selection into a layer.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::layer::{EntryKind, LayerTar, View};

use super::archive::Archive;
use super::destination::{Plan, Planned, destination};
use super::files::{Opener, read_xattrs};
use super::select::{Selection, Source};
use super::tree::{Kind, Tree};
use super::{CopyError, CopyRequest};

impl Selection {
    /// Writes the selection as entries below the destination of `request` in the root file system
    /// `view`. Blocks.
    ///
    /// Entries come parents first, siblings sorted; of two sources for one path the last counts.
    /// Existing parents of the destination are listed with the metadata they have, missing ones are
    /// made with mode 0755, 0:0 or the request's owner and mode, and the time of the newest source.
    /// Tars that ADD extracts are written in their own order.
    ///
    /// # Errors
    ///
    /// [`CopyError::DestinationNotDirectory`], [`CopyError::NotDirectory`] and
    /// [`CopyError::IsDirectory`] when things do not fit, [`CopyError::Changed`] when a file is not
    /// what it was when it was selected, and errors of reading and writing.
    pub fn write<W: Write>(
        &self,
        view: &View,
        request: &CopyRequest,
        tar: &mut LayerTar<W>,
    ) -> Result<(), CopyError> {
        if self.is_empty() {
            return Ok(());
        }
        let newest = self.nodes().map(|node| node.meta.mtime_ns).max().unwrap_or_default();
        let mut plan = Plan::new(view, request, newest.div_euclid(1_000_000_000));
        let (target, says_directory) = destination(request);
        let target = plan.resolve(Path::new(""), &target)?;
        if says_directory {
            plan.make_directories(&target)?;
        } else if self.needs_directory(request) && plan.kind(&target) != Some(EntryKind::Directory)
        {
            return Err(CopyError::DestinationNotDirectory(request.destination.clone()));
        }
        let mut opener = Opener::new(&self.tree);
        for (number, source) in self.sources.iter().enumerate() {
            if let Some(archive) = self.archive(source, &mut opener)? {
                plan.make_directories(&target)?;
                write_entries(&self.tree, plan.take(), tar)?;
                archive.write(&target, request, &mut plan, tar)?;
            } else if source.node.meta.kind == Kind::Directory {
                plan.place_content(number, &source.node, &source.content, &target)?;
            } else {
                plan.place_file(number, &source.node, Path::new(&source.name), &target)?;
            }
        }
        write_entries(&self.tree, plan.take(), tar)
    }

    /// Returns whether what was selected can only go into a directory: several arguments, or several
    /// files of one.
    fn needs_directory(&self, request: &CopyRequest) -> bool {
        let has_files = self.sources.iter().any(|s| s.node.meta.kind != Kind::Directory);
        request.sources.len() > 1 || (self.sources.len() > 1 && has_files)
    }

    /// Opens `source` as an archive if that is what it is, and ADD extracts it.
    fn archive(
        &self,
        source: &Source,
        opener: &mut Opener<'_>,
    ) -> Result<Option<Archive>, CopyError> {
        if !self.extract || source.node.meta.kind != Kind::File {
            return Ok(None);
        }
        Archive::open(&source.node.path, || opener.open(&source.node))
    }
}

/// Writes `entries`, the content of files from `tree`.
fn write_entries<W: Write>(
    tree: &Tree,
    entries: BTreeMap<PathBuf, Planned<'_>>,
    tar: &mut LayerTar<W>,
) -> Result<(), CopyError> {
    let mut opener = Opener::new(tree);
    // The first path of each file with several names, by source and inode: links between files of
    // different sources are not links in the image, as each source is copied for itself.
    let mut first_names: HashMap<(usize, u64, u64), PathBuf> = HashMap::new();
    for (path, Planned { mut entry, from }) in entries {
        let Some((number, node)) = from else {
            tar.append(&entry, None)?;
            continue;
        };
        let meta = &node.meta;
        if meta.kind != Kind::File {
            tar.append(&entry, None)?;
            continue;
        }
        if meta.links > 1 {
            let key = (number, meta.device, meta.inode);
            if let Some(target) = first_names.get(&key) {
                entry.kind = EntryKind::HardLink { target: target.clone() };
                tar.append(&entry, None)?;
                continue;
            }
            first_names.insert(key, path);
        }
        let file = opener.open(node)?;
        entry.xattrs = read_xattrs(&file);
        tar.append(&entry, Some(&mut file.take(meta.size)))?;
    }
    Ok(())
}
