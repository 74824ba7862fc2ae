//! A directory tree that is read without ever leaving it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::CopyError;

/// As many links as the kernel follows in one path (`path_resolution(7)`).
const MOST_LINKS: usize = 40;

/// What kind of file something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

/// What `statx` says of a file, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Nanoseconds since 1970.
    pub(super) mtime_ns: i64,
    pub(super) ctime_ns: i64,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) links: u32,
    /// Major and minor number of a device.
    pub(super) device_number: (u32, u32),
}

impl Meta {
    /// Reads the metadata of `name` in `directory`, or of `directory` itself for an empty name.
    pub(super) fn of<P: rustix::path::Arg>(directory: impl AsFd, name: P) -> io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
        Ok(Self::from_statx(&rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS)?))
    }

    fn from_statx(stat: &Statx) -> Self {
        let mode = u32::from(stat.stx_mode);
        let kind = match mode & 0o170_000 {
            0o040_000 => Kind::Directory,
            0o120_000 => Kind::Symlink,
            0o010_000 => Kind::Fifo,
            0o140_000 => Kind::Socket,
            0o020_000 => Kind::CharDevice,
            0o060_000 => Kind::BlockDevice,
            _ => Kind::File,
        };
        let nanoseconds = |seconds: i64, rest: u32| {
            seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(rest))
        };
        Self {
            kind,
            mode: mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            mtime_ns: nanoseconds(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            ctime_ns: nanoseconds(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            device: u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
            inode: stat.stx_ino,
            links: stat.stx_nlink,
            device_number: (stat.stx_rdev_major, stat.stx_rdev_minor),
        }
    }

    /// Returns whether the content is surely what it was when `earlier` was read.
    pub(super) fn is_unchanged_since(&self, earlier: &Self) -> bool {
        self.kind == earlier.kind
            && (self.device, self.inode) == (earlier.device, earlier.inode)
            && (self.size, self.mtime_ns) == (earlier.size, earlier.mtime_ns)
    }
}

/// An open tree. Paths are relative to its root; the empty path is the root.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
}

impl Tree {
    pub(super) fn open(root: &Path) -> Result<Self, CopyError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, root, flags, Mode::empty()) {
            Ok(root) => Ok(Self { root }),
            Err(error) => Err(failed("open", root)(error.into())),
        }
    }

    /// Opens the directory at `path`, none of whose components may be a symbolic link.
    pub(super) fn open_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let whole = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&self.root, whole, flags, Mode::empty(), resolve) {
            // Older kernels do not know `openat2`, and some sandboxes forbid what they do not know.
            Err(Errno::NOSYS | Errno::PERM) => {}
            result => return Ok(result?),
        }
        let mut directory = rustix::fs::openat(&self.root, ".", flags, Mode::empty())?;
        for component in path.components() {
            directory = rustix::fs::openat(directory, component.as_os_str(), flags, Mode::empty())?;
        }
        Ok(directory)
    }

    /// Follows every symbolic link in `path`, as if the tree were the root file system, and returns
    /// where it leads and what is there; `None` when nothing is.
    pub(super) fn follow(&self, path: &Path) -> Result<Option<(PathBuf, Meta)>, CopyError> {
        let mut done = PathBuf::new();
        let mut rest: VecDeque<OsString> = components(path.as_os_str());
        let mut meta = Meta::of(&self.root, c"").map_err(failed("read", &done))?;
        let mut links = 0;
        while let Some(component) = rest.pop_front() {
            if component == ".." {
                done.pop();
                meta = self.meta(&done)?.unwrap_or(meta);
                continue;
            }
            if meta.kind != Kind::Directory {
                return Ok(None);
            }
            let next = done.join(&component);
            match self.meta(&next)? {
                None => return Ok(None),
                Some(found) if found.kind == Kind::Symlink => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(CopyError::LinkLoop(path.to_owned()));
                    }
                    let target = self.read_link(&next)?;
                    if target.has_root() {
                        done = PathBuf::new();
                    }
                    for component in components(target.as_os_str()).into_iter().rev() {
                        rest.push_front(component);
                    }
                    meta = self.meta(&done)?.unwrap_or(meta);
                }
                Some(found) => (done, meta) = (next, found),
            }
        }
        Ok(Some((done, meta)))
    }

    /// Returns the metadata at `path`, whose parents are known not to be links.
    fn meta(&self, path: &Path) -> Result<Option<Meta>, CopyError> {
        match self.with_parent(path, |directory, name| Meta::of(directory, name)) {
            Ok(meta) => Ok(Some(meta)),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR) => Ok(None),
                _ => Err(failed("read", path)(error)),
            },
        }
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, CopyError> {
        self.with_parent(path, |directory, name| read_link(directory, name))
            .map_err(failed("read the link", path))
    }

    fn with_parent<T>(
        &self,
        path: &Path,
        act: impl FnOnce(&OwnedFd, &OsStr) -> io::Result<T>,
    ) -> io::Result<T> {
        match path.file_name() {
            None => act(&self.root, OsStr::new("")),
            Some(name) => {
                let parent = path.parent().unwrap_or(Path::new(""));
                act(&self.open_directory(parent)?, name)
            }
        }
    }
}

/// Reads what the link `name` in `directory` holds.
pub(super) fn read_link<P: rustix::path::Arg>(
    directory: impl AsFd,
    name: P,
) -> io::Result<PathBuf> {
    let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// Returns the components of `path` without empty ones, `.` and the leading slash; `..` is kept.
fn components(path: &OsStr) -> VecDeque<OsString> {
    let parts = path.as_bytes().split(|byte| *byte == b'/');
    parts
        .filter(|part| !part.is_empty() && *part != b".")
        .map(|part| OsStr::from_bytes(part).to_owned())
        .collect()
}

/// Returns `path` without `.`, `..` and slashes it does not need, relative to the root, where `..`
/// stops: what Go's `filepath.Join("/", path)` gives, without its slash.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => _ = cleaned.pop(),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

/// Returns the error of a system call that was to do `action` to `path`.
pub(super) fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> CopyError {
    move |source| CopyError::File { action, path: path.to_owned(), source }
}
