//! `/dev` of a step.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, symlink};
use rustix::mount::MountAttrFlags;

use super::make::{Depth, NOTHING_SPECIAL, attach, bind, filesystem, open_path};

/// Devices that a step gets from the host: device nodes cannot be made in a user namespace.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Size of `/dev/shm` when the request says nothing, as docker has it.
const SHM_BYTES: u64 = 64 << 20;

/// The host's devices, cloned.
pub(super) fn host_devices() -> Vec<(&'static str, OwnedFd)> {
    let device = |name| {
        let path = Path::new("/dev").join(name);
        bind(&path, Depth::Single).ok().map(|mounted| (name, mounted))
    };
    DEVICES.into_iter().filter_map(device).collect()
}

pub(super) fn new_dev() -> rustix::io::Result<OwnedFd> {
    let options = [("mode", "755"), ("size", "65536k")];
    filesystem("tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID)
}

pub(super) fn fill_dev(
    devices: &[(&str, OwnedFd)],
    shm_bytes: Option<u64>,
) -> rustix::io::Result<()> {
    let mut path = String::new();
    for (name, device) in devices {
        path.clear();
        let _ = write!(path, "/dev/{name}");
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let point = rustix::fs::open(path.as_str(), flags, Mode::from_raw_mode(0o666))?;
        attach(device, &point)?;
    }
    let noexec = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let terminals = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    // Group 5 is the terminals' in the distributions; it may not be mapped.
    let pts = filesystem("devpts", &terminals, noexec)
        .or_else(|_| filesystem("devpts", &terminals[..3], noexec))?;
    let size = shm_bytes.unwrap_or(SHM_BYTES).to_string();
    let shm = filesystem("tmpfs", &[("mode", "1777"), ("size", &size)], NOTHING_SPECIAL)?;
    let mqueue = filesystem("mqueue", &[], NOTHING_SPECIAL).ok();
    let directories = [("/dev/pts", Some(pts)), ("/dev/shm", Some(shm)), ("/dev/mqueue", mqueue)];
    for (path, mounted) in directories {
        let Some(mounted) = mounted else { continue };
        rustix::fs::mkdir(path, Mode::from_raw_mode(0o755))?;
        attach(&mounted, &open_path(path)?)?;
    }
    let links = [
        ("pts/ptmx", "/dev/ptmx"),
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("/proc/kcore", "/dev/core"),
    ];
    links.into_iter().try_for_each(|(target, path)| symlink(target, path))
}
