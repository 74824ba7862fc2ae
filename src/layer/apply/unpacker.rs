//! Placing one entry after another below the root.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::directories::{self, Directories, Obstacle, failed};
use super::metadata::Metadata;
use super::{Applied, ApplyOptions, WhiteoutForm};
use crate::layer::index::{KEPT_FILES, MAX_KEPT, Node, as_path};
use crate::layer::writer::{OPAQUE, WHITEOUT};
use crate::layer::{Entry, EntryKind, Error, IndexBuilder, Member, Result, TarReader};

/// How many links of the layer a name may lead through, as in `path_resolution(7)`.
const MAX_LINKS: usize = 40;

/// The state of one `apply`.
#[derive(Debug)]
pub(super) struct Unpacker {
    directories: Directories,
    /// A second chain of handles, for the targets of hard links.
    targets: Directories,
    index: IndexBuilder,
    metadata: Metadata,
    whiteouts: WhiteoutForm,
    /// Directories that hold whiteouts in the form of attributes.
    marked: BTreeSet<Vec<u8>>,
    left: (u64, u64),
    limits: (u64, u64),
}

impl Unpacker {
    pub(super) fn new(root: OwnedFd, again: OwnedFd, options: &ApplyOptions) -> Self {
        let limits = (options.max_entries, options.max_bytes);
        Self {
            directories: Directories::new(root),
            targets: Directories::new(again),
            index: IndexBuilder::default(),
            metadata: Metadata::new(options.ownership),
            whiteouts: options.whiteouts,
            marked: BTreeSet::new(),
            left: limits,
            limits,
        }
    }

    /// Creates what `member` says; a file's content comes from `reader`.
    pub(super) fn place<R: Read>(
        &mut self,
        member: &Member,
        reader: &mut TarReader<R>,
    ) -> Result<()> {
        let limit = self.limits.0;
        let entries = self.left.0.checked_sub(1);
        self.left.0 = entries.ok_or(Error::Limit { what: "the number of entries", limit })?;
        let is_plain = self.whiteouts == WhiteoutForm::Plain;
        let relative = (is_plain && member.path.starts_with(b"/")).then(|| member.relative());
        let member = relative.as_ref().unwrap_or(member);
        let mut entry = member.entry()?;
        let path = entry.path.as_os_str().as_bytes().to_vec();
        if path.is_empty() {
            self.index.insert(entry, None);
            return Ok(());
        }
        let (parent, name) = split(&path);
        let parent = self.parent(parent, &path)?;
        if name.starts_with(WHITEOUT) && !is_plain {
            return self.deletion(&parent, name, &path);
        }
        let path = join(&parent, name);
        as_path(&path).clone_into(&mut entry.path);
        let mut kept = None;
        match &mut entry.kind {
            EntryKind::Directory => self.directory(&path)?,
            EntryKind::File { .. } => kept = self.file(&path, &entry, member, reader)?,
            EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } if is_plain => {
                self.metadata.warn(&path, "a device node is left out".to_owned());
                return Ok(());
            }
            EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => {
                self.empty_file(&path, &entry)?;
            }
            EntryKind::Symlink { target } => {
                let target = target.clone();
                self.create(&path, |parent, name| rustix::fs::symlinkat(&target, parent, name))?;
                self.set_at(&path, &entry)?;
            }
            EntryKind::HardLink { target } => {
                let resolved = self.hard_link(&path, target.as_os_str().as_bytes())?;
                as_path(&resolved).clone_into(target);
                if resolved == path {
                    return Ok(());
                }
            }
            EntryKind::Fifo => {
                self.create(&path, |parent, name| {
                    rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                })?;
                self.set_at(&path, &entry)?;
            }
        }
        self.index.insert(entry, kept);
        Ok(())
    }

    /// Gives directories their metadata, deepest first, so that none loses a permission too early.
    pub(super) fn finish(mut self) -> Result<Applied> {
        let index = self.index.finish()?;
        let mut records: Vec<_> = index.records().filter(|record| record.is_directory()).collect();
        records.reverse();
        for record in records {
            let path = record.path().as_os_str().as_bytes();
            let Some(entry) = record.entry() else { continue };
            let fd = self.directories.open(path).map_err(|obstacle| unexpected(obstacle, path))?;
            let mark = match (record.is_opaque(), self.marked.contains(path)) {
                (true, _) => Some(b"y"),
                (false, true) => Some(b"x"),
                (false, false) => None,
            };
            if let Some(mark) = mark {
                let flags = XattrFlags::empty();
                rustix::fs::fsetxattr(fd, "user.overlay.opaque", mark, flags)
                    .map_err(|errno| failed("mark the directory", path, errno))?;
            }
            self.metadata.set(fd, path, &entry)?;
        }
        let bytes = self.limits.1 - self.left.1;
        Ok(Applied { index, bytes, warnings: self.metadata.warnings })
    }

    /// Returns the path of the directory that `parent` leads to, which exists afterwards.
    fn parent(&mut self, parent: &[u8], path: &[u8]) -> Result<Vec<u8>> {
        let mut resolved = parent.to_vec();
        for _ in 0..=MAX_LINKS {
            let length = match self.directories.open(&resolved) {
                Ok(_) => return Ok(resolved),
                Err(Obstacle::Failed(error)) => return Err(error),
                Err(Obstacle::NotDirectory(length)) => length,
            };
            let (before, after) = resolved.split_at(length);
            match self.index.get(before) {
                Some(Node::Whiteout) => self.remove(before)?,
                Some(Node::Present { entry, .. }) if is_link(entry) => {
                    let EntryKind::Symlink { target } = &entry.kind else { continue };
                    resolved = follow(before, target.as_os_str().as_bytes(), after);
                }
                _ => {
                    let [path, parent] = [path, before].map(|path| as_path(path).to_owned());
                    return Err(Error::ParentNotDirectory { path, parent });
                }
            }
        }
        Err(Error::LinkLoop(as_path(path).to_owned()))
    }

    fn deletion(&mut self, parent: &[u8], name: &[u8], path: &[u8]) -> Result<()> {
        if name == OPAQUE {
            self.index.opaque(as_path(parent));
            return Ok(());
        }
        let name = &name[WHITEOUT.len()..];
        if name.starts_with(WHITEOUT) {
            self.index.need(parent);
            return Ok(());
        }
        if matches!(name, b"" | b"." | b"..") {
            let reason = "it deletes nothing that has a name";
            return Err(Error::UnsafePath { path: as_path(path).to_owned(), reason });
        }
        let path = join(parent, name);
        if self.index.get(&path).is_none() {
            self.whiteout(&path)?;
        }
        self.index.whiteout(as_path(&path));
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        if self.whiteouts == WhiteoutForm::Device {
            let (parent, name) = self.open_parent(path)?;
            let device = rustix::fs::makedev(0, 0);
            let kind = FileType::CharacterDevice;
            match rustix::fs::mknodat(parent, name, kind, Mode::empty(), device) {
                Ok(()) => return Ok(()),
                Err(
                    Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS,
                ) => {
                    self.whiteouts = WhiteoutForm::Xattr;
                }
                Err(errno) => return Err(failed("record the deletion of", path, errno)),
            }
        }
        let file = self.create(path, create_file)?;
        rustix::fs::fsetxattr(&file, "user.overlay.whiteout", b"y", XattrFlags::empty())
            .map_err(|errno| failed("record the deletion of", path, errno))?;
        self.marked.insert(split(path).0.to_vec());
        Ok(())
    }

    fn directory(&mut self, path: &[u8]) -> Result<()> {
        let known = self.index.get(path).is_some_and(Node::is_directory);
        let (parent, name) = self.open_parent(path)?;
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Err(Errno::EXIST) if known => Ok(()),
            Err(Errno::EXIST) => {
                self.create(path, |parent, name| rustix::fs::mkdirat(parent, name, Mode::RWXU))
            }
            result => result.map_err(|errno| failed("create", path, errno)),
        }
    }

    /// Writes a file; returns its content if the index keeps it.
    fn file<R: Read>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        member: &Member,
        reader: &mut TarReader<R>,
    ) -> Result<Option<Vec<u8>>> {
        let file = self.create(path, create_file)?;
        let keep = member.size <= MAX_KEPT
            && member.pieces.is_none()
            && KEPT_FILES.iter().any(|kept| kept.as_bytes() == path);
        let mut kept = Vec::new();
        let whole = [(0, member.size)];
        let pieces = member.pieces.as_deref().unwrap_or(&whole);
        for &(start, length) in pieces {
            let limit = self.limits.1;
            let left = self.left.1.checked_sub(length);
            self.left.1 = left.ok_or(Error::Limit { what: "the content of all files", limit })?;
            let mut at = start;
            while at < start + length {
                let bytes = reader.fill()?;
                let most = usize::try_from(start + length - at).unwrap_or(usize::MAX);
                let bytes = &bytes[..bytes.len().min(most)];
                let count = rustix::io::retry_on_intr(|| rustix::io::pwrite(&file, bytes, at))
                    .map_err(|errno| failed("write", path, errno))?;
                if keep {
                    kept.extend_from_slice(&bytes[..count]);
                }
                reader.consume(count);
                at += count as u64;
            }
        }
        if member.pieces.is_some() {
            rustix::fs::ftruncate(&file, member.size)
                .map_err(|errno| failed("set the size of", path, errno))?;
        }
        self.metadata.set(file.as_fd(), path, entry)?;
        Ok(keep.then_some(kept))
    }

    fn empty_file(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let file = self.create(path, create_file)?;
        self.metadata.set(file.as_fd(), path, entry)
    }

    /// Makes `path` another name of `target`; returns what that resolves to.
    fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<Vec<u8>> {
        let outside = || {
            let [path, target] = [path, target].map(|path| as_path(path).to_owned());
            Error::HardLinkOutside { path, target }
        };
        let (parent, name) = split(target);
        let resolved = join(&self.target_parent(parent).ok_or_else(outside)?, name);
        match self.index.get(&resolved) {
            Some(node) if node.entry().is_some() && !node.is_directory() => {}
            _ => return Err(outside()),
        }
        if resolved == path {
            return Ok(resolved);
        }
        let (parent, name) = split(&resolved);
        let target_directory = match self.targets.open(parent) {
            Ok(fd) => fd.try_clone_to_owned().map_err(|source| Error::File {
                action: "open",
                path: as_path(parent).to_owned(),
                source,
            })?,
            Err(_) => return Err(outside()),
        };
        self.create(path, |parent, own| {
            rustix::fs::linkat(&target_directory, name, parent, own, AtFlags::empty())
        })?;
        Ok(resolved)
    }

    /// Resolves links of this layer in the path to a hard link's target; `None` when it is not here.
    fn target_parent(&self, parent: &[u8]) -> Option<Vec<u8>> {
        let mut resolved = parent.to_vec();
        'again: for _ in 0..=MAX_LINKS {
            let slashes = resolved.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            let ends: Vec<usize> = slashes.map(|(at, _)| at).chain([resolved.len()]).collect();
            for end in ends.into_iter().filter(|end| *end > 0) {
                let (before, after) = resolved.split_at(end);
                let entry = self.index.get(before)?.entry()?;
                if let EntryKind::Symlink { target } = &entry.kind {
                    resolved = follow(before, target.as_os_str().as_bytes(), after);
                    continue 'again;
                }
                if !entry.is_directory() {
                    return None;
                }
            }
            return Some(resolved);
        }
        None
    }

    fn set_at(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let (parent, name) = split(path);
        let parent = self.directories.open(parent).map_err(|o| unexpected(o, parent))?;
        self.metadata.set_at(parent, name, path, entry)
    }

    fn open_parent<'a>(&mut self, path: &'a [u8]) -> Result<(BorrowedFd<'_>, &'a [u8])> {
        let (parent, name) = split(path);
        let fd = self.directories.open(parent).map_err(|obstacle| unexpected(obstacle, parent))?;
        Ok((fd, name))
    }

    /// Makes something new at `path`, in place of what an earlier entry made there.
    fn create<T>(
        &mut self,
        path: &[u8],
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<T>,
    ) -> Result<T> {
        let (parent, name) = self.open_parent(path)?;
        match make(parent, name) {
            Err(Errno::EXIST) => {
                self.remove(path)?;
                let (parent, name) = self.open_parent(path)?;
                make(parent, name).map_err(|errno| failed("create", path, errno))
            }
            result => result.map_err(|errno| failed("create", path, errno)),
        }
    }

    fn remove(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = self.open_parent(path)?;
        directories::remove(parent, name).map_err(|errno| failed("replace", path, errno))?;
        self.directories.forget();
        self.targets.forget();
        Ok(())
    }
}

fn create_file(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
}

fn is_link(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Symlink { .. })
}

/// Returns what `link` followed by `after` means when the link holds `target`: inside the root.
fn follow(link: &[u8], target: &[u8], after: &[u8]) -> Vec<u8> {
    let start = if target.starts_with(b"/") { &b""[..] } else { split(link).0 };
    let mut parts: Vec<&[u8]> = Vec::new();
    for path in [start, target, after] {
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
    }
    parts.join(&b'/')
}

/// Splits a path into its parent, empty for the root, and its name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, name].join(&b'/') }
}

/// A directory that was there a moment ago is gone or replaced: someone else writes to the target.
fn unexpected(obstacle: Obstacle, path: &[u8]) -> Error {
    match obstacle {
        Obstacle::Failed(error) => error,
        Obstacle::NotDirectory(_) => failed("open the directory", path, Errno::NOTDIR),
    }
}
