//! Stacks of snapshots as overlayfs mounts.
//!
//! `userxattr` always: without it the mount succeeds in a user namespace and then fails at the first
//! deleted directory. `volatile`: a step's `fsync` need not survive a crash, as the layer made of it
//! is what is kept.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, mount,
};

use super::make::{NOTHING_SPECIAL, attach_at};
use crate::sandbox::protocol::{Attempt as _, Failure};

/// The kernel takes at most this many bytes as one option's value.
const MAX_OPTION_BYTES: usize = 255;

/// A stack to mount.
pub(super) struct Overlay<'a> {
    /// What is stacked, bottom first: at least two directories without `upper`, one with it.
    pub(super) layers: &'a [PathBuf],
    /// Where changes go.
    pub(super) upper: Option<Upper>,
    pub(super) attributes: MountAttrFlags,
}

/// Where changes go.
pub(super) struct Upper {
    pub(super) directory: PathBuf,
    /// An empty directory on the same file system, used by no mount before.
    pub(super) work: PathBuf,
}

impl Overlay<'_> {
    /// Mounts it on a path of the host. `what` says for whom when it fails.
    pub(super) fn mount_at(&self, path: &Path, what: &str) -> Result<(), Failure> {
        let mut held = Vec::new();
        let what = || format!("mount {what}");
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).attempting(what)?;
        match self.configure(&context, &mut held) {
            Ok(mounted) => attach_at(&mounted, path).attempting(what),
            // Linux before 6.7 does not know `lowerdir+`.
            Err(Errno::INVAL) => self.mount_by_string(path).map_err(|error| {
                let mut said = [0_u8; 512];
                let count = rustix::io::read(&context, &mut said).unwrap_or(0);
                let said = String::from_utf8_lossy(&said[..count]);
                Failure::Failed { what: what(), reason: format!("{error} {}", said.trim()) }
            }),
            Err(error) => Err(Failure::new(what(), &error)),
        }
    }

    /// Makes a mount that is in no tree. `held` must live until it is made.
    fn configure(&self, context: &OwnedFd, held: &mut Vec<OwnedFd>) -> rustix::io::Result<OwnedFd> {
        fsconfig_set_string(context, "source", "overlay")?;
        fsconfig_set_flag(context, "userxattr")?;
        if let Some(upper) = &self.upper {
            fsconfig_set_flag(context, "volatile")?;
            fsconfig_set_string(context, "upperdir", short(&upper.directory, held)?)?;
            fsconfig_set_string(context, "workdir", short(&upper.work, held)?)?;
        }
        for layer in self.layers.iter().rev() {
            fsconfig_set_string(context, "lowerdir+", short(layer, held)?)?;
        }
        fsconfig_create(context)?;
        fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, self.attributes)
    }

    fn mount_by_string(&self, path: &Path) -> io::Result<()> {
        let mut options = b"userxattr,lowerdir=".to_vec();
        for (number, layer) in self.layers.iter().rev().enumerate() {
            if number > 0 {
                options.push(b':');
            }
            escape_into(&mut options, layer);
        }
        if let Some(Upper { directory, work }) = &self.upper {
            for (name, directory) in
                [(&b",volatile,upperdir="[..], directory), (b",workdir=", work)]
            {
                options.extend_from_slice(name);
                escape_into(&mut options, directory);
            }
        }
        let options = std::ffi::CString::new(options)?;
        let mut flags = MountFlags::empty();
        for (attribute, flag) in [
            (MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
            (MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        ] {
            flags.set(flag, self.attributes.contains(attribute));
        }
        mount("overlay", path, "overlay", flags, options.as_c_str())?;
        Ok(())
    }
}

/// Merges `layers`, bottom first, read-only. The mount is in no tree and ends with the descriptor.
pub(in crate::sandbox) fn mount_read_only(layers: &[PathBuf]) -> Result<OwnedFd, Failure> {
    let what = || "merge the source's layers".to_owned();
    let attributes = NOTHING_SPECIAL | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).attempting(what)?;
    let overlay = Overlay { layers, upper: None, attributes };
    overlay.configure(&context, &mut Vec::new()).attempting(what)
}

/// Returns a name for `path` that fits into one option, if need be of a descriptor kept in `held`.
fn short(path: &Path, held: &mut Vec<OwnedFd>) -> rustix::io::Result<PathBuf> {
    if path.as_os_str().len() <= MAX_OPTION_BYTES {
        return Ok(path.to_owned());
    }
    let opened = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let name = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    held.push(opened);
    Ok(name)
}

fn escape_into(options: &mut Vec<u8>, path: &Path) {
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            options.push(b'\\');
        }
        options.push(byte);
    }
}
