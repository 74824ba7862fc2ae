//! Directory handles: how this room reaches a path without ever following a link.
//!
//! Each component is opened from its parent's handle with `O_NOFOLLOW`, so neither a link in the
//! tree nor one put there in the meantime can lead out of the root. The chain of the last path is
//! kept open: tars list directories together, so this costs about one call for each directory, and
//! it needs neither `openat2` (which old container runtimes refuse) nor `/proc`.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::layer::{Error, Result};

/// The deepest accepted path: every level of the current one is an open file.
pub(in crate::layer) const MAX_DEPTH: usize = 256;

const OPEN: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A root directory, and the open handles of the path last used.
#[derive(Debug)]
pub(in crate::layer) struct Directories {
    root: OwnedFd,
    chain: Vec<(Vec<u8>, OwnedFd)>,
}

/// Why a directory could not be opened.
#[derive(Debug)]
pub(in crate::layer) enum Obstacle {
    /// The first so many bytes of the path name something that is not a directory.
    NotDirectory(usize),
    /// Any other failure.
    Failed(Error),
}

impl Directories {
    pub(in crate::layer) fn new(root: OwnedFd) -> Self {
        Self { root, chain: Vec::new() }
    }

    /// Closes the kept handles: a directory was removed.
    pub(in crate::layer) fn forget(&mut self) {
        self.chain.clear();
    }

    /// Returns the handle of the directory at `path`; missing ones are made, private for now.
    pub(in crate::layer) fn open(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, Obstacle> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        if parts.len() > MAX_DEPTH {
            let limit = MAX_DEPTH as u64;
            return Err(Obstacle::Failed(Error::Limit { what: "the depth of a path", limit }));
        }
        let common = self.chain.iter().zip(&parts).take_while(|(a, b)| a.0 == **b).count();
        self.chain.truncate(common);
        let mut length = parts[..common].iter().map(|part| part.len() + 1).sum::<usize>();
        for part in &parts[common..] {
            length += part.len();
            let parent = self.chain.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd());
            let fd = open_or_make(parent, part).map_err(|error| match error {
                Errno::NOTDIR | Errno::LOOP => Obstacle::NotDirectory(length),
                error => Obstacle::Failed(failed("open the directory", &path[..length], error)),
            })?;
            self.chain.push((part.to_vec(), fd));
            length += 1;
        }
        Ok(self.chain.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd()))
    }
}

fn open_or_make(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    match rustix::fs::openat(parent, name, OPEN, Mode::empty()) {
        Err(Errno::NOENT) => {
            rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
            rustix::fs::openat(parent, name, OPEN, Mode::empty())
        }
        result => result,
    }
}

/// Opens a directory that exists, following no link.
pub(in crate::layer) fn open(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(parent, name, OPEN, Mode::empty())
}

/// Removes `name`, with everything below it if it is a directory.
pub(in crate::layer) fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        result => return result,
    }
    let directory = open(parent, name)?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if child == b"." || child == b".." {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            remove(directory.as_fd(), child)?;
        } else {
            rustix::fs::unlinkat(&directory, child, AtFlags::empty())?;
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Returns the error of a system call on `path`.
pub(in crate::layer) fn failed(action: &'static str, path: &[u8], errno: Errno) -> Error {
    Error::File { action, path: OsStr::from_bytes(path).into(), source: errno.into() }
}
