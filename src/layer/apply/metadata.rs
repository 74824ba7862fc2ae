//! Owners, modes, times and extended attributes of what was just created.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::directories::failed;
use super::{Ownership, Warning};
use crate::layer::{Entry, Error, Result};

/// Overlayfs' own attributes in a user namespace, overlayfs.rst, "User xattr".
pub(in crate::layer) const OVERLAY: &[u8] = b"user.overlay.";
/// How overlayfs stores what a program inside the mount names `user.overlay.`.
pub(in crate::layer) const ESCAPED: &[u8] = b"user.overlay.overlay.";
/// How many warnings are kept.
const MAX_WARNINGS: usize = 100;

/// Sets metadata, and remembers what could not be set.
#[derive(Debug)]
pub(super) struct Metadata {
    ownership: Ownership,
    /// What the kernel gives to new files.
    own: (u32, u32),
    pub(super) warnings: Vec<Warning>,
}

impl Metadata {
    pub(super) fn new(ownership: Ownership) -> Self {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Self { ownership, own: (uid.as_raw(), gid.as_raw()), warnings: Vec::new() }
    }

    /// Sets the metadata of `entry` on an open file or directory.
    ///
    /// The order matters: a change of owner clears set-id bits and capabilities, attributes need
    /// write permission that the mode may take away, and everything changes times.
    pub(super) fn set(&mut self, fd: BorrowedFd<'_>, path: &[u8], entry: &Entry) -> Result<()> {
        if let Some((uid, gid)) = self.owner(entry) {
            rustix::fs::fchown(fd, uid, gid).map_err(|errno| not_owned(path, entry, errno))?;
        }
        for (name, value) in &entry.xattrs {
            self.attribute(path, name, |name| {
                rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())
            });
        }
        let mode = Mode::from_raw_mode(entry.mode);
        rustix::fs::fchmod(fd, mode).map_err(|errno| failed("set the mode of", path, errno))?;
        rustix::fs::futimens(fd, &times(entry))
            .map_err(|errno| failed("set the times of", path, errno))
    }

    /// Sets the metadata of `entry` on something that cannot be opened: a link or a fifo.
    pub(super) fn set_at(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if let Some((uid, gid)) = self.owner(entry) {
            rustix::fs::chownat(parent, name, uid, gid, flags)
                .map_err(|errno| not_owned(path, entry, errno))?;
        }
        if !entry.xattrs.is_empty() {
            let full = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name].concat();
            for (key, value) in &entry.xattrs {
                self.attribute(path, key, |key| {
                    rustix::fs::lsetxattr(full.as_slice(), key, value, XattrFlags::empty())
                });
            }
        }
        if entry.kind == crate::layer::EntryKind::Fifo {
            // We have just made this fifo: there is no link to follow.
            let mode = Mode::from_raw_mode(entry.mode);
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
                .map_err(|errno| failed("set the mode of", path, errno))?;
        }
        rustix::fs::utimensat(parent, name, &times(entry), flags)
            .map_err(|errno| failed("set the times of", path, errno))
    }

    /// Remembers that `what` of `path` could not be reproduced.
    pub(super) fn warn(&mut self, path: &[u8], what: String) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(Warning { path: crate::layer::index::as_path(path).into(), what });
        }
    }

    fn owner(&self, entry: &Entry) -> Option<(Option<Uid>, Option<Gid>)> {
        let differs = (entry.uid, entry.gid) != self.own && self.ownership == Ownership::Set;
        differs.then(|| (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))))
    }

    fn attribute(
        &mut self,
        path: &[u8],
        name: &[u8],
        set: impl FnOnce(&[u8]) -> rustix::io::Result<()>,
    ) {
        let shown = || format!("extended attribute `{}`", String::from_utf8_lossy(name));
        // Attributes that steer overlayfs itself must not come from an image; overlayfs shows the
        // escaped form under the plain name inside the mount.
        let escaped = name.strip_prefix(OVERLAY).map(|rest| [ESCAPED, rest].concat());
        if name.starts_with(b"trusted.") {
            return self.warn(path, format!("{}: only the host's root may set it", shown()));
        }
        if let Err(errno) = set(escaped.as_deref().unwrap_or(name)) {
            self.warn(path, format!("{}: {}", shown(), std::io::Error::from(errno)));
        }
    }
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn not_owned(path: &[u8], entry: &Entry, errno: Errno) -> Error {
    let path = crate::layer::index::as_path(path).to_owned();
    Error::Owner { path, uid: entry.uid, gid: entry.gid, source: errno.into() }
}
