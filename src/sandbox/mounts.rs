//! The mounts of a step: overlay, `/proc`, `/dev`, `/sys`, and files from outside.
//!
//! Everything that comes from the host is opened as a detached mount first, then the root is
//! pivoted, and only then are mount points looked up: no link in an image can lead outside.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat, symlink};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount,
    move_mount, open_tree, unmount,
};

use super::protocol::{Attempt as _, Failure, Network, RunRequest};
use super::stubs::{Stub, Target, open_target};
use super::sys;

/// The kernel takes at most this many bytes as one option's value.
const MAX_OPTION_BYTES: usize = 255;

const NOTHING_SPECIAL: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Devices that a step gets from the host: device nodes cannot be made in a user namespace.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What docker hides of `/proc` and `/sys`: they tell of, or act on, the whole machine.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What docker makes read-only.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Mounts that are made but not in any tree yet.
struct Prepared {
    proc: OwnedFd,
    sys: Option<OwnedFd>,
    devices: Vec<(&'static str, OwnedFd)>,
}

/// Builds the step's root file system and makes it this process's root.
///
/// The process must be alone in new mount and pid namespaces. Mount points that the image lacks are
/// made and added to `stubs`.
pub(super) fn enter_root(request: &RunRequest, stubs: &mut Vec<Stub>) -> Result<(), Failure> {
    // On top of the step's own directory, whose `upper` and `work` overlayfs has found by then.
    let merged = &request.step_directory;
    mount_overlay(&request.layers, merged, merged)?;
    let prepared = prepare(request.network)?;
    pivot(merged)?;
    let proc = &prepared.proc;
    let place = |mounted: &OwnedFd, path: &str, target, stubs: &mut Vec<Stub>| {
        let point = open_target(path, target, proc, stubs)?;
        attach(mounted, &point).attempting(|| format!("mount `{path}`"))
    };
    place(proc, "/proc", Target::Directory, stubs)?;
    if let Some(sys) = &prepared.sys {
        place(sys, "/sys", Target::Directory, stubs)?;
    }
    let dev = filesystem(
        "tmpfs",
        &[("mode", "755"), ("size", "65536k")],
        MountAttrFlags::MOUNT_ATTR_NOSUID,
    )
    .attempting(|| "make `/dev`".to_owned())?;
    place(&dev, "/dev", Target::Directory, stubs)?;
    fill_dev(&prepared.devices).attempting(|| "fill `/dev`".to_owned())?;
    let hostname = format!("{}\n", request.hostname);
    let files = [
        ("/etc/resolv.conf", &request.files.resolv_conf),
        ("/etc/hosts", &request.files.hosts),
        ("/etc/hostname", &hostname),
    ];
    for (path, content) in files {
        let file = read_only_file(content).attempting(|| format!("provide `{path}`"))?;
        place(&file, path, Target::File, stubs)?;
        fs_err::remove_file(PROVIDED).attempting(|| format!("provide `{path}`"))?;
    }
    hide_host().attempting(|| "hide paths of `/proc`".to_owned())
}

fn prepare(network: Network) -> Result<Prepared, Failure> {
    // A masked /proc of a surrounding container forbids a fresh one: then the step sees that one.
    let proc = match filesystem("proc", &[], NOTHING_SPECIAL) {
        Err(Errno::PERM) => bind(Path::new("/proc"), Depth::Recursive),
        proc => proc,
    }
    .attempting(|| "mount `/proc`".to_owned())?;
    let attributes = NOTHING_SPECIAL | MountAttrFlags::MOUNT_ATTR_RDONLY;
    // Who owns the network namespace may have a fresh one, which shows that namespace's devices.
    let own = match network {
        Network::None => filesystem("sysfs", &[], attributes).ok(),
        Network::Host => None,
    };
    let sys = own.or_else(|| bind(Path::new("/sys"), Depth::Recursive).ok());
    if let Some(sys) = &sys {
        sys::add_mount_attributes(sys.as_fd(), u64::from(attributes.bits()))
            .attempting(|| "make `/sys` read-only".to_owned())?;
    }
    let device = |name| {
        let path = Path::new("/dev").join(name);
        bind(&path, Depth::Single).ok().map(|mounted| (name, mounted))
    };
    Ok(Prepared { proc, sys, devices: DEVICES.into_iter().filter_map(device).collect() })
}

/// Where a provided file is kept until it is mounted: in memory, in the step's `/dev`.
const PROVIDED: &str = "/dev/.provided";

/// Returns a read-only mount of a file with this content, which the caller unlinks when it is placed.
fn read_only_file(content: &str) -> io::Result<OwnedFd> {
    fs_err::write(PROVIDED, content)?;
    let mounted = bind(Path::new(PROVIDED), Depth::Single)?;
    let read_only = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    sys::add_mount_attributes(mounted.as_fd(), read_only)?;
    Ok(mounted)
}

/// Whether a bind mount takes the mounts below along.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Single,
    Recursive,
}

fn bind(path: &Path, depth: Depth) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if depth == Depth::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags)
}

fn attach(mounted: &OwnedFd, point: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mounted, "", point, "", flags)
}

fn filesystem(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(&context, *name)?;
        } else {
            fsconfig_set_string(&context, *name, *value)?;
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Stacks `layers`, bottom first, under `step_directory/upper`, at `merged`.
///
/// `userxattr` always: without it the mount succeeds in a user namespace and then fails at the first
/// deleted directory. `volatile`: a step's `fsync` need not survive a crash, as the layer made of it
/// is what is kept.
fn mount_overlay(layers: &[PathBuf], step: &Path, merged: &Path) -> Result<(), Failure> {
    let what = || "mount the step's root file system".to_owned();
    let empty = [step.join("empty")];
    // overlayfs wants something below even for `FROM scratch`.
    let layers = if layers.is_empty() { &empty } else { layers };
    let mut held = Vec::new();
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).attempting(what)?;
    let configure = |held: &mut Vec<OwnedFd>| -> rustix::io::Result<OwnedFd> {
        fsconfig_set_string(&context, "source", "overlay")?;
        fsconfig_set_flag(&context, "userxattr")?;
        fsconfig_set_flag(&context, "volatile")?;
        fsconfig_set_string(&context, "upperdir", short(&step.join("upper"), held)?)?;
        fsconfig_set_string(&context, "workdir", short(&step.join("work"), held)?)?;
        for layer in layers.iter().rev() {
            fsconfig_set_string(&context, "lowerdir+", short(layer, held)?)?;
        }
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    };
    match configure(&mut held) {
        Ok(mounted) => {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(&mounted, "", CWD, merged, flags).attempting(what)
        }
        // Linux before 6.7 does not know `lowerdir+`.
        Err(Errno::INVAL) => mount_overlay_by_string(layers, step, merged).map_err(|error| {
            let mut said = [0_u8; 512];
            let count = rustix::io::read(&context, &mut said).unwrap_or(0);
            let said = String::from_utf8_lossy(&said[..count]);
            Failure::Failed { what: what(), reason: format!("{error} {}", said.trim()) }
        }),
        Err(error) => Err(Failure::new(what(), &error)),
    }
}

/// Merges `layers`, bottom first, read-only. The mount is in no tree and ends with the descriptor.
pub(super) fn mount_read_only(layers: &[PathBuf]) -> Result<OwnedFd, Failure> {
    let mut held = Vec::new();
    let mut configure = || -> rustix::io::Result<OwnedFd> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", "overlay")?;
        fsconfig_set_flag(&context, "userxattr")?;
        for layer in layers.iter().rev() {
            fsconfig_set_string(&context, "lowerdir+", short(layer, &mut held)?)?;
        }
        fsconfig_create(&context)?;
        let attributes = NOTHING_SPECIAL | MountAttrFlags::MOUNT_ATTR_RDONLY;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    configure().attempting(|| "merge the source's layers".to_owned())
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

fn mount_overlay_by_string(layers: &[PathBuf], step: &Path, merged: &Path) -> io::Result<()> {
    let mut options = b"userxattr,volatile,lowerdir=".to_vec();
    for (number, layer) in layers.iter().rev().enumerate() {
        if number > 0 {
            options.push(b':');
        }
        escape_into(&mut options, layer);
    }
    for (name, directory) in [(&b",upperdir="[..], "upper"), (b",workdir=", "work")] {
        options.extend_from_slice(name);
        escape_into(&mut options, &step.join(directory));
    }
    let options = std::ffi::CString::new(options)?;
    mount("overlay", merged, "overlay", MountFlags::empty(), options.as_c_str())?;
    Ok(())
}

fn escape_into(options: &mut Vec<u8>, path: &Path) {
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            options.push(b'\\');
        }
        options.push(byte);
    }
}

fn pivot(merged: &Path) -> Result<(), Failure> {
    let what = || "change the root".to_owned();
    rustix::process::chdir(merged).attempting(what)?;
    // Stacks the old root on the new one, from where it is detached.
    rustix::process::pivot_root(".", ".").attempting(what)?;
    unmount(".", UnmountFlags::DETACH).attempting(what)?;
    rustix::process::chdir("/").attempting(what)
}

fn fill_dev(devices: &[(&str, OwnedFd)]) -> rustix::io::Result<()> {
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
    let shm = filesystem("tmpfs", &[("mode", "1777"), ("size", "65536k")], NOTHING_SPECIAL)?;
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

fn open_path(path: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

fn hide_host() -> io::Result<()> {
    for path in READ_ONLY {
        let Ok(point) = open_path(path) else { continue };
        let mounted = bind(Path::new(path), Depth::Recursive)?;
        let read_only = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
        sys::add_mount_attributes(mounted.as_fd(), read_only)?;
        attach(&mounted, &point)?;
    }
    for path in MASKED {
        let Ok(point) = open_path(path) else { continue };
        let mode = rustix::fs::fstat(&point)?.st_mode;
        let mask = if rustix::fs::FileType::from_raw_mode(mode).is_dir() {
            let attributes = NOTHING_SPECIAL | MountAttrFlags::MOUNT_ATTR_RDONLY;
            filesystem("tmpfs", &[("size", "0")], attributes)?
        } else {
            bind(Path::new("/dev/null"), Depth::Single)?
        };
        attach(&mask, &point)?;
    }
    Ok(())
}
