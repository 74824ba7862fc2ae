//! Files and directories made only so that something can be mounted on them.
//!
//! They must not become part of the layer: BuildKit removes them after the step when they are
//! still empty, and puts the parent's modification time back. So do we; and a parent directory
//! that is in the change set only because of a stub leaves it again.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, fstat, lgetxattr, mkdirat, open,
    stat, statat, unlinkat, utimensat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::protocol::{Attempt as _, Failure};

/// What a mount needs to be mounted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    File,
    Directory,
}

/// Something that was made.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stub {
    /// Below the root, without links.
    path: PathBuf,
    /// The directory it is in, as that was before.
    parent: Parent,
}

#[derive(Debug, Serialize, Deserialize)]
struct Parent {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, i64),
}

impl Parent {
    fn of(status: &rustix::fs::Stat) -> Self {
        Self {
            mode: status.st_mode,
            uid: status.st_uid,
            gid: status.st_gid,
            mtime: (status.st_mtime, status.st_mtime_nsec.cast_signed()),
        }
    }

    fn is_owned_as(&self, other: &Self) -> bool {
        (self.mode, self.uid, self.gid) == (other.mode, other.uid, other.gid)
    }

    fn times(&self) -> Timestamps {
        let keep = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let modified = Timespec { tv_sec: self.mtime.0, tv_nsec: self.mtime.1 };
        Timestamps { last_access: keep, last_modification: modified }
    }
}

/// Makes sure that `path`, absolute in the current root, exists, and opens it. What had to be made
/// is added to `stubs`, parents first. `proc` is a mount of procfs.
pub(super) fn open_target(
    path: &str,
    target: Target,
    proc: &OwnedFd,
    stubs: &mut Vec<Stub>,
) -> Result<OwnedFd, Failure> {
    if let Ok(found) = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        return Ok(found);
    }
    let what = || format!("make the mount point `{path}`");
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = if parent.is_empty() { "/" } else { parent };
    let parent = open_target(parent, Target::Directory, proc, stubs)?;
    let before = Parent::of(&fstat(&parent).attempting(what)?);
    // A dangling link is in the way of a directory as of a file; docker fails there, too.
    match target {
        Target::Directory => mkdirat(&parent, name, Mode::from_raw_mode(0o755)),
        Target::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    }
    .attempting(what)?;
    // The step sees the directory's own time.
    let _ = utimensat(&parent, ".", &before.times(), AtFlags::empty());
    let made = rustix::fs::openat(&parent, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .attempting(what)?;
    let link = format!("self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&made));
    let real = rustix::fs::readlinkat(proc, link, Vec::new()).attempting(what)?;
    let path = PathBuf::from(OsString::from_vec(real.into_bytes()));
    stubs.push(Stub { path, parent: before });
    Ok(made)
}

/// Removes from the upper directory what was made for mounts only and is still empty.
pub(super) fn remove_stubs(upper: &Path, stubs: &[Stub]) {
    for stub in stubs.iter().rev() {
        if let Err(error) = remove_stub(upper, stub) {
            tracing::debug!(%error, path = %stub.path.display(), "a mount point stays");
        }
    }
}

fn remove_stub(upper: &Path, stub: &Stub) -> rustix::io::Result<()> {
    let relative = stub.path.strip_prefix("/").unwrap_or(&stub.path);
    let path = upper.join(relative);
    let Some(parent) = path.parent() else { return Ok(()) };
    let now = Parent::of(&stat(parent)?);
    match statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW) {
        // It went as the parent of the stub before.
        Err(Errno::NOENT) => {}
        status => {
            let status = status?;
            match FileType::from_raw_mode(status.st_mode) {
                FileType::RegularFile if status.st_size == 0 => {
                    unlinkat(CWD, &path, AtFlags::empty())?;
                }
                FileType::Directory => unlinkat(CWD, &path, AtFlags::REMOVEDIR)?,
                _ => return Ok(()),
            }
        }
    }
    utimensat(CWD, parent, &now.times(), AtFlags::empty())?;
    let is_untouched = now.is_owned_as(&stub.parent) && now.mtime == stub.parent.mtime;
    let is_opaque = lgetxattr(parent, "user.overlay.opaque", &mut [0_u8; 1]).is_ok();
    if is_untouched && !is_opaque && parent != upper {
        // A copy of a directory below, made when the stub was put in. Fails if it holds anything.
        let above = parent.parent().unwrap_or(upper);
        let times = Parent::of(&stat(above)?).times();
        unlinkat(CWD, parent, AtFlags::REMOVEDIR)?;
        utimensat(CWD, above, &times, AtFlags::empty())?;
    }
    Ok(())
}
