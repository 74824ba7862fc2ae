//! Writing a selection into a layer.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::layer::{EntryKind, LayerTar, View};

use super::archive::Archive;
use super::destination::{PARENT_MODE, Plan, Planned, destination};
use super::files::{Opener, read_xattrs};
use super::select::{Selection, Source};
use super::tree::Kind;
use super::{CopyError, CopyRequest, Metadata};

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
        let newest = self.nodes().map(|node| node.meta.mtime_ns).max().unwrap_or_default();
        let mut plan = Plan::new(view, request, newest.div_euclid(1_000_000_000));
        let (destination, says_directory) = destination(request);
        let mut opener = Opener::new(&self.trees);
        for (number, source) in self.sources.iter().enumerate() {
            // Each time anew: a source may be a link in the way of the next.
            let target = plan.resolve(Path::new(""), &destination)?;
            if let Some(archive) = Self::archive(source, &mut opener)? {
                plan.make_directories(&target, PARENT_MODE)?;
                self.write_entries(plan.take(), tar)?;
                archive.write(&target, request, &mut plan, tar)?;
            } else {
                plan.place_source(number, source, &target, says_directory)?;
            }
        }
        self.write_entries(plan.take(), tar)
    }

    /// Opens `source` as an archive if that is what it is, and it shall be extracted.
    fn archive(source: &Source, opener: &mut Opener<'_>) -> Result<Option<Archive>, CopyError> {
        if !source.extract || source.node.meta.kind != Kind::File || source.inline.is_some() {
            return Ok(None);
        }
        Archive::open(&source.node.path, || opener.open(source.tree, &source.node))
    }

    /// Writes `entries` with the content of the files they come from.
    fn write_entries<W: Write>(
        &self,
        entries: BTreeMap<PathBuf, Planned<'_>>,
        tar: &mut LayerTar<W>,
    ) -> Result<(), CopyError> {
        let mut opener = Opener::new(&self.trees);
        // The first path of each file with several names, by source and inode: links between files of
        // different sources are not links in the image, as each source is copied for itself.
        let mut first_names: HashMap<(usize, u64, u64), PathBuf> = HashMap::new();
        for (path, Planned { mut entry, from }) in entries {
            let Some((number, node)) = from.filter(|(_, node)| node.meta.kind == Kind::File) else {
                tar.append(&entry, None)?;
                continue;
            };
            let (meta, source) = (&node.meta, &self.sources[number]);
            if let Some(content) = &source.inline {
                tar.append(&entry, Some(&mut content.as_slice()))?;
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
            let file = opener.open(source.tree, node)?;
            if source.metadata == Metadata::All {
                entry.xattrs = read_xattrs(&file);
            }
            tar.append(&entry, Some(&mut file.take(meta.size)))?;
        }
        Ok(())
    }
}
