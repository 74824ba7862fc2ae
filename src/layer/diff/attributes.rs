//! The extended attributes of what lies in an overlay upper directory.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::io::Errno;

use super::at;
use crate::layer::Result;
use crate::layer::apply::metadata::{ESCAPED, OVERLAY};

/// The largest list of names, and the largest value, that Linux has: xattr(7).
const LARGEST: usize = 64 << 10;

/// Attributes, apart by whom they are for.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// Those that belong into a layer.
    pub(super) kept: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Whether overlayfs says that the file is a deletion.
    pub(super) is_whiteout: bool,
    opaque: Vec<u8>,
}

impl Attributes {
    /// Returns whether overlayfs says that the directory hides what is below it.
    pub(super) fn is_opaque(&self) -> bool {
        self.opaque == b"y"
    }
}

/// Where attributes are read from.
pub(super) enum Source<'a> {
    /// An open file.
    Open(BorrowedFd<'a>),
    /// The path of something that cannot be opened, such as a link.
    Path(&'a [u8]),
}

impl Source<'_> {
    fn list(&self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, buffer),
            Self::Path(path) => rustix::fs::llistxattr(*path, buffer),
        }
    }

    fn get(&self, name: &[u8], buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, name, buffer),
            Self::Path(path) => rustix::fs::lgetxattr(*path, name, buffer),
        }
    }
}

/// Reads the attributes of `source`, which is `path` in the tree.
pub(super) fn read(source: &Source<'_>, path: &Path) -> Result<Attributes> {
    let mut attributes = Attributes::default();
    let names = match whole(|buffer| source.list(buffer)) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP) => return Ok(attributes),
        Err(errno) => return Err(at(path, "list the extended attributes of", errno)),
    };
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let own = [b"user.overlay.opaque".as_slice(), b"user.overlay.whiteout"].contains(&name);
        let kept = kept_name(name);
        if kept.is_none() && !own {
            continue;
        }
        let value = whole(|buffer| source.get(name, buffer))
            .map_err(|errno| at(path, "read the extended attributes of", errno))?;
        match name {
            b"user.overlay.opaque" => attributes.opaque = value,
            b"user.overlay.whiteout" => attributes.is_whiteout = true,
            _ => {
                attributes.kept.extend(kept.map(|name| (name, value)));
            }
        }
    }
    Ok(attributes)
}

/// Returns the name that an attribute has in a layer; `None` if it does not belong there.
fn kept_name(name: &[u8]) -> Option<Vec<u8>> {
    if let Some(rest) = name.strip_prefix(ESCAPED) {
        return Some([OVERLAY, rest].concat());
    }
    if name.starts_with(OVERLAY) {
        return None;
    }
    let others: [&[u8]; 3] =
        [b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"];
    (name.starts_with(b"user.") || others.contains(&name)).then(|| name.to_vec())
}

/// Calls `read` with a small buffer, and with the largest if that does not do.
fn whole(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0; 512];
    match read(&mut small) {
        Ok(count) => Ok(small[..count].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; LARGEST];
            let count = read(&mut large)?;
            large.truncate(count);
            Ok(large)
        }
        Err(errno) => Err(errno),
    }
}
