//! Where the sources go: the plan of a layer's entries.
//!
//! By the rules of BuildKit's copy: a source directory copies its content, and leaves a destination
//! directory that exists as it is, while directories further down take the source's metadata; a
//! file goes into a destination that is a directory and replaces one that is not; symbolic links on
//! the way to the destination are followed, those in the way of a source are replaced by a file and
//! refuse a directory.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crate::layer::{Entry, EntryKind, View};

use super::select::Source;
use super::tree::{Kind, clean};
use super::walk::Node;
use super::{CopyError, CopyRequest, ModeChange};

const MOST_LINKS: usize = 40;

/// The mode of directories that are made because something goes into them.
pub(super) const PARENT_MODE: u32 = 0o755;

/// One entry to write.
#[derive(Debug)]
pub(super) struct Planned<'a> {
    pub(super) entry: Entry,
    /// The file it comes from, with the number of its source; none for parents.
    pub(super) from: Option<(usize, &'a Node)>,
}

/// The entries to write, over what the root file system has.
pub(super) struct Plan<'a> {
    view: &'a View,
    request: &'a CopyRequest,
    pub(super) entries: BTreeMap<PathBuf, Planned<'a>>,
    /// What is in the tar already, when an archive was written in between.
    written: HashMap<PathBuf, EntryKind>,
    /// The modification time of directories that nobody else gives one.
    new_mtime: i64,
    /// The last directory that was asked about, and whether the view has it.
    seen: Option<(PathBuf, bool)>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(view: &'a View, request: &'a CopyRequest, new_mtime: i64) -> Self {
        let (entries, written) = (BTreeMap::new(), HashMap::new());
        Self { view, request, entries, written, new_mtime, seen: None }
    }

    /// Returns the kind of what is at `path` as things stand, following no links.
    pub(super) fn kind(&mut self, path: &Path) -> Option<EntryKind> {
        if path.as_os_str().is_empty() {
            return Some(EntryKind::Directory);
        }
        if let Some(planned) = self.entries.get(path) {
            return Some(planned.entry.kind.clone());
        }
        if let Some(kind) = self.written.get(path) {
            return Some(kind.clone());
        }
        self.existing(path).map(|entry| entry.kind)
    }

    /// Returns what the root file system has at `path`.
    fn existing(&mut self, path: &Path) -> Option<Entry> {
        // In a directory that the view does not have there is nothing, and most of what a COPY
        // writes goes into such directories.
        let parent = path.parent().unwrap_or(Path::new(""));
        let has_parent = match &self.seen {
            _ if parent.as_os_str().is_empty() => true,
            Some((seen, has)) if seen == parent => *has,
            _ => {
                let has = self.view.lookup(parent).is_some_and(|entry| entry.is_directory());
                self.seen = Some((parent.to_owned(), has));
                has
            }
        };
        if has_parent { self.view.lookup(path) } else { None }
    }

    /// Follows the links in `path`, as if `base` were the root; what does not exist is kept.
    pub(super) fn resolve(&mut self, base: &Path, path: &Path) -> Result<PathBuf, CopyError> {
        let mut done = base.to_owned();
        let mut rest: Vec<PathBuf> = path.iter().rev().map(PathBuf::from).collect();
        let mut links = 0;
        while let Some(component) = rest.pop() {
            if component == Path::new("..") {
                if done != base {
                    done.pop();
                }
                continue;
            }
            if component == Path::new("/") || component == Path::new(".") {
                continue;
            }
            let next = done.join(component);
            let Some(EntryKind::Symlink { target }) = self.kind(&next) else {
                done = next;
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                return Err(CopyError::LinkLoop(path.to_owned()));
            }
            if target.has_root() {
                base.clone_into(&mut done);
            }
            rest.extend(target.iter().rev().map(PathBuf::from));
        }
        Ok(done)
    }

    /// Returns the mode that `--chmod` gives new parents of what is copied: a number does, without
    /// its set-id and sticky bits; a change of modes does not.
    fn parent_mode(&self) -> u32 {
        let octal = self.request.mode.as_ref().and_then(ModeChange::octal);
        octal.map_or(PARENT_MODE, |mode| mode & 0o777)
    }

    /// Makes sure that the directory `path`, which has no links in it, and its parents are there:
    /// lists those that exist with the metadata they have, and plans the others with `mode`.
    pub(super) fn make_directories(&mut self, path: &Path, mode: u32) -> Result<(), CopyError> {
        let mut parents: Vec<&Path> = path.ancestors().collect();
        parents.pop();
        for directory in parents.into_iter().rev() {
            if self.entries.contains_key(directory) || self.written.contains_key(directory) {
                if self.kind(directory) != Some(EntryKind::Directory) {
                    return Err(CopyError::NotDirectory(directory.to_owned()));
                }
                continue;
            }
            let entry = match self.existing(directory) {
                Some(entry) if entry.is_directory() => Entry { path: directory.into(), ..entry },
                Some(_) => return Err(CopyError::NotDirectory(directory.to_owned())),
                None => self.new_directory(directory, mode),
            };
            self.insert(entry, None);
        }
        Ok(())
    }

    fn new_directory(&self, path: &Path, mode: u32) -> Entry {
        let mut entry = Entry::new(path, EntryKind::Directory, mode);
        (entry.uid, entry.gid) = self.request.owner.unwrap_or_default();
        entry.mtime = self.new_mtime;
        entry
    }

    /// Plans `source`, which is number `number`, at `target`, which `is_directory` says is meant to
    /// be a directory.
    pub(super) fn place_source(
        &mut self,
        number: usize,
        source: &'a Source,
        target: &Path,
        is_directory: bool,
    ) -> Result<(), CopyError> {
        let mode = self.parent_mode();
        if is_directory {
            self.make_directories(target, mode)?;
        }
        if source.node.meta.kind == Kind::Directory {
            return self.place_content((number, source), target, mode);
        }
        self.place_file((number, source), target, mode)
    }

    /// Plans what is in a directory below the directory `target`.
    fn place_content(
        &mut self,
        from: (usize, &'a Source),
        target: &Path,
        mode: u32,
    ) -> Result<(), CopyError> {
        let source = &from.1.node;
        if from.1.whole && self.kind(target).is_none() {
            self.make_directories(target.parent().unwrap_or(Path::new("")), mode)?;
            self.place(from, source, target.to_owned())?;
        } else {
            self.make_directories(target, mode)?;
        }
        for node in &from.1.content {
            let below = node.path.strip_prefix(&source.path).unwrap_or(&node.path);
            self.place(from, node, target.join(below))?;
        }
        Ok(())
    }

    /// Plans a file at `target`, or below it if that is a directory.
    fn place_file(
        &mut self,
        from: (usize, &'a Source),
        target: &Path,
        mode: u32,
    ) -> Result<(), CopyError> {
        let is_directory = self.kind(target) == Some(EntryKind::Directory);
        if !is_directory && (self.entries.contains_key(target) || self.has_written(target)) {
            // It would silently take the place of another source.
            return Err(CopyError::DestinationNotDirectory(self.request.destination.clone()));
        }
        let target = if is_directory { target.join(&from.1.name) } else { target.to_owned() };
        self.make_directories(target.parent().unwrap_or(Path::new("")), mode)?;
        self.place(from, &from.1.node, target)
    }

    fn place(
        &mut self,
        from: (usize, &'a Source),
        node: &'a Node,
        path: PathBuf,
    ) -> Result<(), CopyError> {
        let in_the_way = self.kind(&path);
        let is_directory = node.meta.kind == Kind::Directory;
        match in_the_way {
            Some(EntryKind::Directory) if !is_directory => {
                return Err(CopyError::IsDirectory(path));
            }
            Some(EntryKind::Directory) if node.is_parent => {
                self.change_mode(&path, node.meta.mode);
                return Ok(());
            }
            Some(kind) if is_directory && kind != EntryKind::Directory => {
                return Err(CopyError::NotDirectory(path));
            }
            _ => {}
        }
        let entry = self.entry(from.1, node, path);
        self.insert(entry, Some((from.0, node)));
        Ok(())
    }

    /// Gives the directory at `path` the mode of a source's directory: all that one takes of it that
    /// is only there for what is in it.
    fn change_mode(&mut self, path: &Path, mode: u32) {
        if let Some(planned) = self.entries.get_mut(path) {
            planned.entry.mode = mode;
        } else if let Some(entry) = self.existing(path).filter(|_| !self.has_written(path)) {
            self.insert(Entry { mode, ..entry }, None);
        }
    }

    fn insert(&mut self, entry: Entry, from: Option<(usize, &'a Node)>) {
        self.entries.insert(entry.path.clone(), Planned { entry, from });
    }

    /// Returns the entry of `node` at `path`: a file's size is there, its extended attributes are not.
    fn entry(&self, source: &Source, node: &Node, path: PathBuf) -> Entry {
        let meta = &node.meta;
        let (major, minor) = meta.device_number;
        let kind = match meta.kind {
            Kind::Directory => EntryKind::Directory,
            Kind::File => EntryKind::File { size: meta.size },
            // Nobody listens behind it in an image; BuildKit makes it an empty file.
            Kind::Socket => EntryKind::File { size: 0 },
            Kind::Symlink => EntryKind::Symlink { target: node.target.clone().unwrap_or_default() },
            Kind::Fifo => EntryKind::Fifo,
            Kind::CharDevice => EntryKind::CharDevice { major, minor },
            Kind::BlockDevice => EntryKind::BlockDevice { major, minor },
        };
        let is_link = meta.kind == Kind::Symlink;
        let mode = match &self.request.mode {
            Some(change) if !is_link => change.apply(meta.mode, meta.kind == Kind::Directory),
            _ if is_link => 0o777,
            _ => meta.mode,
        };
        let kept = if source.keep_ownership { (meta.uid, meta.gid) } else { (0, 0) };
        let (uid, gid) = self.request.owner.unwrap_or(kept);
        let mtime = meta.mtime_ns.div_euclid(1_000_000_000);
        Entry { path, kind, mode, uid, gid, mtime, xattrs: node.xattrs.clone() }
    }

    /// Takes the planned entries to write them, and remembers that they are there.
    pub(super) fn take(&mut self) -> BTreeMap<PathBuf, Planned<'a>> {
        let entries = std::mem::take(&mut self.entries);
        for (path, planned) in &entries {
            self.written.insert(path.clone(), planned.entry.kind.clone());
        }
        entries
    }

    /// Remembers that `entry` is written.
    pub(super) fn wrote(&mut self, entry: &Entry) {
        self.written.insert(entry.path.clone(), entry.kind.clone());
    }

    /// Returns whether the tar holds `path` already.
    pub(super) fn has_written(&self, path: &Path) -> bool {
        self.written.contains_key(path)
    }
}

/// Returns the destination of `request` without `.` and `..`, and whether it says that it is a
/// directory.
pub(super) fn destination(request: &CopyRequest) -> (PathBuf, bool) {
    let text = &request.destination;
    let says_directory = text.ends_with('/') || text.ends_with("/.") || text.ends_with("/..");
    let path = clean(Path::new(text));
    let says_directory = says_directory || path.as_os_str().is_empty() || text == ".";
    (path, says_directory)
}
