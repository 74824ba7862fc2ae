//! Opening the files of a tree one after another, and their extended attributes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::CopyError;
use super::tree::{Meta, Tree, failed};
use super::walk::Node;

/// Extended attributes by name.
pub(super) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Opens files by their nodes; keeps the last one's directory open, as the next is mostly in it too.
pub(super) struct Opener<'a> {
    trees: &'a [Tree],
    /// The number of the tree and the path in there.
    directory: Option<(usize, PathBuf, OwnedFd)>,
}

impl<'a> Opener<'a> {
    pub(super) fn new(trees: &'a [Tree]) -> Self {
        Self { trees, directory: None }
    }

    /// Opens the regular file `node` of tree number `tree`.
    ///
    /// # Errors
    ///
    /// [`CopyError::Changed`] when it is not what it was when it was selected.
    pub(super) fn open(&mut self, tree: usize, node: &Node) -> Result<File, CopyError> {
        let failed_here = failed("open", &node.path);
        let parent = node.path.parent().unwrap_or(Path::new(""));
        let directory = match &mut self.directory {
            Some((of, path, directory)) if *of == tree && path == parent => directory,
            last => {
                let directory = self.trees[tree].open_directory(parent).map_err(&failed_here)?;
                &mut last.insert((tree, parent.to_owned(), directory)).2
            }
        };
        // Not to wait for a writer, should the file have become a fifo.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = node.path.file_name().unwrap_or_default();
        let file = match rustix::fs::openat(&*directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP) => return Err(CopyError::Changed(node.path.clone())),
            Err(error) => return Err(failed_here(error.into())),
        };
        let meta = Meta::of(&file, c"").map_err(failed_here)?;
        if !meta.is_unchanged_since(&node.meta) {
            return Err(CopyError::Changed(node.path.clone()));
        }
        Ok(File::from(file))
    }
}

/// Reads the extended attributes that layers keep: `security.capability` and those of users, but
/// not overlayfs's own. What cannot be read is left out, as BuildKit does.
pub(super) fn read_xattrs(file: impl AsFd) -> Xattrs {
    let Ok(names) = xattr_names(file.as_fd()) else { return Xattrs::new() };
    let names = names.split(|byte| *byte == 0).filter(|name| is_kept(name));
    names.filter_map(|name| Some((name.to_vec(), xattr(file.as_fd(), name).ok()?))).collect()
}

/// Returns whether the extended attribute `name` goes into a layer.
pub(super) fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Returns the names, each with a zero byte after it.
fn xattr_names(file: impl AsFd) -> io::Result<Vec<u8>> {
    // Few files have any attribute, so the first call is mostly the only one.
    let mut names = vec![0; 256];
    loop {
        match rustix::fs::flistxattr(&file, names.as_mut_slice()) {
            Ok(size) => {
                names.truncate(size);
                return Ok(names);
            }
            Err(Errno::RANGE) if names.len() < 64 * 1024 => names.resize(64 * 1024, 0),
            Err(error) => return Err(error.into()),
        }
    }
}

fn xattr(file: impl AsFd, name: &[u8]) -> io::Result<Vec<u8>> {
    // The greatest size of a value that Linux allows (xattr(7)).
    let mut value = vec![0; 64 * 1024];
    let size = rustix::fs::fgetxattr(file, name, value.as_mut_slice())?;
    value.truncate(size);
    Ok(value)
}
