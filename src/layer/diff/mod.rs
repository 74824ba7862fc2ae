//! An overlay upper directory becomes a layer's tar.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use crate::layer::apply::directories::{self, MAX_DEPTH, failed};
use crate::layer::{Entry, EntryKind, Error, LayerTar, Result};

mod attributes;

use attributes::{Attributes, Source};

/// Appends the change set that the overlay upper directory `upper` holds to `tar`. Blocks.
///
/// Entries come in bytewise order of names within each directory, a directory before its content,
/// so that the same change set gives the same tar whatever order the file system has. Deletions are
/// recognised in both of overlayfs' forms, opaque directories by their attribute (overlayfs.rst).
/// The first name of a file is the file, its further names are hard links. Sockets are left out. The
/// upper directory itself is not listed: it stands for the root, which belongs to the base.
///
/// Attributes that belong into a layer are `security.capability`, POSIX ACLs and `user.`; overlayfs'
/// own are dropped, and those that it escaped are unescaped. Labels such as `security.selinux`
/// describe the machine, not the image.
///
/// Paths for which `exclude` is true are left out, with everything below them.
///
/// # Errors
///
/// [`Error::File`] when something cannot be read, and those of [`LayerTar::append`].
pub fn diff<W: Write>(
    upper: &Path,
    exclude: &dyn Fn(&Path) -> bool,
    tar: &mut LayerTar<W>,
) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(upper, flags, Mode::empty()).map_err(|errno| Error::File {
        action: "open",
        path: upper.to_owned(),
        source: errno.into(),
    })?;
    let mut walk = Walk { exclude, tar, first_names: HashMap::new() };
    if attributes::read(&Source::Open(root.as_fd()), Path::new(""))?.is_opaque() {
        walk.tar.opaque(Path::new(""))?;
    }
    walk.directory(&root, Path::new(""), 0)
}

struct Walk<'a, W: Write> {
    exclude: &'a dyn Fn(&Path) -> bool,
    tar: &'a mut LayerTar<W>,
    first_names: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Walk<'_, W> {
    fn directory(&mut self, fd: &OwnedFd, path: &Path, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::Limit { what: "the depth of a path", limit: MAX_DEPTH as u64 });
        }
        for name in names(fd).map_err(|errno| at(path, "list", errno))? {
            let path = path.join(OsStr::from_bytes(&name));
            if !(self.exclude)(&path) {
                self.entry(fd.as_fd(), &name, &path, depth)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &Path,
        depth: usize,
    ) -> Result<()> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| at(path, "examine", errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let fd = directories::open(parent, name)
                    .map_err(|errno| at(path, "open the directory", errno))?;
                let attributes = attributes::read(&Source::Open(fd.as_fd()), path)?;
                let opaque = attributes.is_opaque();
                let entry = entry(path, EntryKind::Directory, &stat, attributes);
                self.tar.append(&entry, None)?;
                if opaque {
                    self.tar.opaque(path)?;
                }
                self.directory(&fd, path, depth + 1)
            }
            FileType::CharacterDevice if stat.st_rdev == 0 => self.tar.whiteout(path),
            FileType::Socket | FileType::Unknown => Ok(()),
            FileType::RegularFile => self.file(parent, name, path, &stat),
            kind => {
                if self.is_further_name(path, &stat)? {
                    return Ok(());
                }
                let kind = special(kind, parent, name, path, &stat)?;
                let place = format!("/proc/self/fd/{}/", parent.as_raw_fd());
                let place = [place.as_bytes(), name].concat();
                let attributes = attributes::read(&Source::Path(&place), path)?;
                self.tar.append(&entry(path, kind, &stat, attributes), None)
            }
        }
    }

    fn file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &Path,
        stat: &Stat,
    ) -> Result<()> {
        // Whiteouts may share one inode, so the first name of a file is looked at after them.
        let may_be_whiteout = stat.st_size == 0;
        if !may_be_whiteout && self.is_further_name(path, stat)? {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty())
            .map_err(|errno| at(path, "open", errno))?;
        let attributes = attributes::read(&Source::Open(fd.as_fd()), path)?;
        if may_be_whiteout {
            if attributes.is_whiteout {
                return self.tar.whiteout(path);
            }
            if self.is_further_name(path, stat)? {
                return Ok(());
            }
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let entry = entry(path, EntryKind::File { size }, stat, attributes);
        self.tar.append(&entry, Some(&mut File::from(fd)))
    }

    /// Appends a hard link if the file has had a name already, else remembers this name.
    fn is_further_name(&mut self, path: &Path, stat: &Stat) -> Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let id = (stat.st_dev, stat.st_ino);
        let Some(target) = self.first_names.get(&id).cloned() else {
            self.first_names.insert(id, path.to_owned());
            return Ok(false);
        };
        let link = entry(path, EntryKind::HardLink { target }, stat, Attributes::default());
        self.tar.append(&link, None)?;
        Ok(true)
    }
}

fn special(
    kind: FileType,
    parent: BorrowedFd<'_>,
    name: &[u8],
    path: &Path,
    stat: &Stat,
) -> Result<EntryKind> {
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    Ok(match kind {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(parent, name, Vec::new())
                .map_err(|errno| at(path, "read the link", errno))?;
            EntryKind::Symlink { target: OsStr::from_bytes(target.as_bytes()).into() }
        }
        FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
        FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
        _ => EntryKind::Fifo,
    })
}

fn entry(path: &Path, kind: EntryKind, stat: &Stat, attributes: Attributes) -> Entry {
    Entry {
        path: path.to_owned(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        xattrs: attributes.kept,
    }
}

/// Returns the names in a directory, sorted bytewise.
fn names(fd: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn at(path: &Path, action: &'static str, errno: rustix::io::Errno) -> Error {
    failed(action, path.as_os_str().as_bytes(), errno)
}

#[cfg(test)]
mod tests;
