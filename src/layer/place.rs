//! Moving a finished tree into a directory that may hold other things.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::layer::apply::directories::{self, MAX_DEPTH, failed};
use crate::layer::{Error, Result};

/// What happens to what is in the directory and not in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leftover {
    /// It stays.
    #[default]
    Keep,
    /// It is removed.
    Remove,
}

/// Moves everything in `tree` into the directory `target`, which is on the same file system. Blocks.
///
/// Each file takes its place in one step, by renaming. A directory that is there already keeps what
/// it holds and gets the tree's mode, times and, as far as the caller may, owner; `target` itself
/// stays as it is. What is of another kind than the tree's is replaced. Links in `target` are never
/// followed: a link where the tree has a directory is replaced by the directory.
///
/// # Errors
///
/// [`Error::File`] for a system call that fails; what was moved before stays.
pub fn place(tree: &Path, target: &Path, leftover: Leftover) -> Result<()> {
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| Error::File {
            action: "open",
            path: path.to_owned(),
            source: errno.into(),
        })
    };
    let (from, to) = (open(tree)?, open(target)?);
    let own_name = (tree.parent() == Some(target)).then(|| tree.file_name()).flatten();
    let mut names = merge_into(&from, &to, b"", leftover, 0)?;
    if leftover == Leftover::Remove {
        names.extend(own_name.map(|name| name.as_encoded_bytes().to_vec()));
        remove_others(to.as_fd(), &names, b"")?;
    }
    Ok(())
}

/// Moves the content of the directory `from` to `to`; returns the names it had.
fn merge_into(
    from: &OwnedFd,
    to: &OwnedFd,
    path: &[u8],
    leftover: Leftover,
    depth: usize,
) -> Result<BTreeSet<Vec<u8>>> {
    if depth > MAX_DEPTH {
        return Err(Error::Limit { what: "the depth of a path", limit: MAX_DEPTH as u64 });
    }
    let names = names(from.as_fd()).map_err(|errno| failed("list", path, errno))?;
    for name in &names {
        let here = [path, if path.is_empty() { b"" } else { b"/" }, name].concat();
        let at = |action| move |errno: Errno| (action, errno);
        let stat = stat(from.as_fd(), name).map_err(at("read"));
        let stat = stat.map_err(|(action, errno)| failed(action, &here, errno))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            place_directory(from, to, name, &here, &stat, leftover, depth)?;
        } else {
            place_file(from.as_fd(), to.as_fd(), name)
                .map_err(|errno| failed("put in place", &here, errno))?;
        }
    }
    Ok(names)
}

/// Renames a file to its place; a directory that is there goes.
fn place_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::renameat(from, name, to, name) {
        Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) => {
            directories::remove(to, name)?;
            rustix::fs::renameat(from, name, to, name)
        }
        result => result,
    }
}

fn place_directory(
    from: &OwnedFd,
    to: &OwnedFd,
    name: &[u8],
    path: &[u8],
    stat: &Stat,
    leftover: Leftover,
    depth: usize,
) -> Result<()> {
    let fail = |action: &'static str| move |errno| failed(action, path, errno);
    let tree = directories::open(from.as_fd(), name).map_err(fail("open"))?;
    // Whoever owns a directory may not move it, nor out of it, without the right to write to it.
    let mode = Mode::from_raw_mode(stat.st_mode);
    rustix::fs::fchmod(&tree, mode | Mode::RWXU).map_err(fail("change the mode of"))?;
    let target = match directories::open(to.as_fd(), name) {
        Ok(target) => target,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
            match rustix::fs::unlinkat(to, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed("replace", path, errno)),
            }
            rustix::fs::renameat(from, name, to, name).map_err(fail("put in place"))?;
            return rustix::fs::fchmod(&tree, mode).map_err(fail("change the mode of"));
        }
        Err(errno) => return Err(failed("open", path, errno)),
    };
    // The user's own directory may lack the right as well; somebody else's is his to refuse.
    let before = rustix::fs::fstat(&target).map_err(fail("read"))?;
    let before = Mode::from_raw_mode(before.st_mode);
    if !before.contains(Mode::RWXU) {
        rustix::fs::fchmod(&target, before | Mode::RWXU).map_err(fail("change the mode of"))?;
    }
    let names = merge_into(&tree, &target, path, leftover, depth + 1)?;
    if leftover == Leftover::Remove {
        remove_others(target.as_fd(), &names, path)?;
    }
    give_metadata(&target, stat).map_err(fail("change the mode of"))
}

/// Gives an existing directory the owner (as far as the caller may), mode and times of the tree's.
fn give_metadata(target: &OwnedFd, stat: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    match rustix::fs::fchown(target, Some(uid), Some(gid)) {
        Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
        Err(errno) => return Err(errno),
    }
    match rustix::fs::fchmod(target, Mode::from_raw_mode(stat.st_mode)) {
        // A directory of somebody else that the user may write to keeps its mode.
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(stat.st_mtime, 0),
        last_modification: time(stat.st_mtime, 0),
    };
    match rustix::fs::futimens(target, &times) {
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn remove_others(directory: BorrowedFd<'_>, kept: &BTreeSet<Vec<u8>>, path: &[u8]) -> Result<()> {
    for name in names(directory).map_err(|errno| failed("list", path, errno))? {
        if !kept.contains(&name) {
            directories::remove(directory, &name)
                .map_err(|errno| failed("remove", &[path, b"/", &name].concat(), errno))?;
        }
    }
    Ok(())
}

fn names(directory: BorrowedFd<'_>) -> rustix::io::Result<BTreeSet<Vec<u8>>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.insert(name.to_vec());
        }
    }
    Ok(names)
}

fn stat(directory: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Stat> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn write(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
    }

    fn read(root: &Path, path: &str) -> Option<String> {
        fs_err::read_to_string(root.join(path)).ok()
    }

    #[test]
    fn files_are_replaced_and_others_stay() {
        let root = tempfile::tempdir().unwrap();
        let (tree, target) = (root.path().join("target/.tree"), root.path().join("target"));
        write(&target, "a", "old");
        write(&target, "d/kept", "kept");
        write(&target, "file/was/directory", "");
        write(&tree, "a", "new");
        write(&tree, "d/new", "new");
        write(&tree, "file", "now a file");
        write(&tree, "e/f", "f");
        let mode = std::fs::Permissions::from_mode(0o555);
        fs_err::set_permissions(tree.join("e"), mode).unwrap();
        place(&tree, &target, Leftover::Keep).unwrap();
        let expected = [("a", "new"), ("d/kept", "kept"), ("d/new", "new"), ("file", "now a file")];
        for (path, content) in expected {
            assert_eq!(read(&target, path).as_deref(), Some(content), "{path}");
        }
        let mode = fs_err::metadata(target.join("e")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o555);
    }

    #[test]
    fn leftovers_go_only_when_asked() {
        let root = tempfile::tempdir().unwrap();
        let (tree, target) = (root.path().join("target/.tree"), root.path().join("target"));
        write(&target, "old/x", "");
        write(&target, "d/old", "");
        write(&tree, "d/new", "new");
        place(&tree, &target, Leftover::Remove).unwrap();
        assert!(!target.join("old").exists());
        assert!(!target.join("d/old").exists());
        assert_eq!(read(&target, "d/new").as_deref(), Some("new"));
    }

    #[test]
    fn links_do_not_lead_out() {
        let root = tempfile::tempdir().unwrap();
        let (tree, target) = (root.path().join("target/.tree"), root.path().join("target"));
        write(root.path(), "outside/a", "untouched");
        fs_err::create_dir_all(&target).unwrap();
        symlink(root.path().join("outside"), target.join("d")).unwrap();
        symlink(root.path().join("outside/a"), target.join("a")).unwrap();
        write(&tree, "d/a", "inside");
        write(&tree, "a", "inside");
        place(&tree, &target, Leftover::Keep).unwrap();
        assert_eq!(read(root.path(), "outside/a").as_deref(), Some("untouched"));
        assert_eq!(read(&target, "d/a").as_deref(), Some("inside"));
        assert_eq!(read(&target, "a").as_deref(), Some("inside"));
        assert!(!target.join("d").is_symlink());
    }
}
