//! The mounts of a step: overlay, `/proc`, `/dev`, `/sys`, files from outside, and what it asks for.
//!
//! Everything that comes from the host is opened as a detached mount first, then the root is
//! pivoted, and only then are mount points looked up: no link in an image can lead outside.

mod asked;
mod dev;
mod make;
mod overlay;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};

use super::protocol::{Attempt as _, Failure};
use super::request::{Network, RunRequest, Security};
use super::stubs::{Stub, Target, open_target};
use asked::Asked;
use make::{Depth, NOTHING_SPECIAL, attach, bind, filesystem, open_path, restrict};
use overlay::{Overlay, Upper};

pub(super) use asked::{Outside, writable_directory};
pub(super) use overlay::mount_read_only;

const READ_ONLY_ATTRIBUTES: MountAttrFlags =
    NOTHING_SPECIAL.union(MountAttrFlags::MOUNT_ATTR_RDONLY);

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
    asked: Vec<Asked>,
}

/// Builds the step's root file system and makes it this process's root.
///
/// The process must be alone in new mount and pid namespaces. Mount points that the image lacks are
/// made and added to `stubs`.
pub(super) fn enter_root(
    request: &RunRequest,
    outside: &Outside<'_>,
    stubs: &mut Vec<Stub>,
) -> Result<(), Failure> {
    let prepared = prepare(request, outside)?;
    // On top of the step's own directory, whose `upper` and `work` overlayfs has found by then.
    let step = &request.step_directory;
    let empty = [step.join("empty")];
    let root = Overlay {
        // overlayfs wants something below even for `FROM scratch`.
        layers: if request.layers.is_empty() { &empty } else { &request.layers },
        upper: Some(Upper { directory: step.join("upper"), work: step.join(request.work_name()) }),
        attributes: MountAttrFlags::empty(),
    };
    root.mount_at(step, "the step's root file system")?;
    pivot(step)?;
    let proc = &prepared.proc;
    place(proc, proc, "/proc", Target::Directory, stubs)?;
    if let Some(sys) = &prepared.sys {
        place(sys, proc, "/sys", Target::Directory, stubs)?;
    }
    let dev = dev::new_dev().attempting(|| "make `/dev`".to_owned())?;
    place(&dev, proc, "/dev", Target::Directory, stubs)?;
    dev::fill_dev(&prepared.devices, request.shm_bytes).attempting(|| "fill `/dev`".to_owned())?;
    provide_files(request, proc, stubs)?;
    if request.security == Security::Sandbox {
        hide_host().attempting(|| "hide paths of `/proc`".to_owned())?;
    }
    prepared.asked.iter().try_for_each(|asked| asked.place(proc, stubs))
}

/// Puts a mount where the step shall see it.
fn place(
    mounted: &OwnedFd,
    proc: &OwnedFd,
    path: &str,
    target: Target,
    stubs: &mut Vec<Stub>,
) -> Result<(), Failure> {
    let point = open_target(path, target, proc, stubs)?;
    attach(mounted, &point).attempting(|| format!("mount `{path}`"))
}

fn prepare(request: &RunRequest, outside: &Outside<'_>) -> Result<Prepared, Failure> {
    // A masked /proc of a surrounding container forbids a fresh one: then the step sees that one.
    let proc = match filesystem("proc", &[], NOTHING_SPECIAL) {
        Err(Errno::PERM) => bind(Path::new("/proc"), Depth::Recursive),
        proc => proc,
    }
    .attempting(|| "mount `/proc`".to_owned())?;
    let attributes = match request.security {
        Security::Sandbox => READ_ONLY_ATTRIBUTES,
        Security::Insecure => NOTHING_SPECIAL,
    };
    // Who owns the network namespace may have a fresh one, which shows that namespace's devices.
    let own = match request.network {
        Network::None => filesystem("sysfs", &[], attributes).ok(),
        Network::Host => None,
    };
    let sys = own.or_else(|| bind(Path::new("/sys"), Depth::Recursive).ok());
    if let Some(sys) = &sys {
        restrict(sys, attributes).attempting(|| "restrict `/sys`".to_owned())?;
    }
    let asked = asked::prepare(request, outside)?;
    Ok(Prepared { proc, sys, devices: dev::host_devices(), asked })
}

/// Where a provided file is kept until it is mounted: in memory, in the step's `/dev`.
const PROVIDED: &str = "/dev/.provided";

fn provide_files(
    request: &RunRequest,
    proc: &OwnedFd,
    stubs: &mut Vec<Stub>,
) -> Result<(), Failure> {
    let hostname = format!("{}\n", request.hostname);
    let files = [
        ("/etc/resolv.conf", &request.files.resolv_conf),
        ("/etc/hosts", &request.files.hosts),
        ("/etc/hostname", &hostname),
    ];
    for (path, content) in files {
        let file = read_only_file(content).attempting(|| format!("provide `{path}`"))?;
        place(&file, proc, path, Target::File, stubs)?;
        fs_err::remove_file(PROVIDED).attempting(|| format!("provide `{path}`"))?;
    }
    Ok(())
}

/// Returns a read-only mount of a file with this content, which the caller unlinks when it is placed.
fn read_only_file(content: &str) -> io::Result<OwnedFd> {
    fs_err::write(PROVIDED, content)?;
    let mounted = bind(Path::new(PROVIDED), Depth::Single)?;
    restrict(&mounted, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    Ok(mounted)
}

fn pivot(merged: &Path) -> Result<(), Failure> {
    let what = || "change the root".to_owned();
    rustix::process::chdir(merged).attempting(what)?;
    // Stacks the old root on the new one, from where it is detached.
    rustix::process::pivot_root(".", ".").attempting(what)?;
    unmount(".", UnmountFlags::DETACH).attempting(what)?;
    rustix::process::chdir("/").attempting(what)
}

fn hide_host() -> io::Result<()> {
    for path in READ_ONLY {
        let Ok(point) = open_path(path) else { continue };
        let mounted = bind(Path::new(path), Depth::Recursive)?;
        restrict(&mounted, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
        attach(&mounted, &point)?;
    }
    for path in MASKED {
        let Ok(point) = open_path(path) else { continue };
        let mode = rustix::fs::fstat(&point)?.st_mode;
        let mask = if rustix::fs::FileType::from_raw_mode(mode).is_dir() {
            filesystem("tmpfs", &[("size", "0")], READ_ONLY_ATTRIBUTES)?
        } else {
            bind(Path::new("/dev/null"), Depth::Single)?
        };
        attach(&mask, &point)?;
    }
    Ok(())
}
