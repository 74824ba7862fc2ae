//! The mounts that a step asks for: parts of other trees, caches, memory, secrets, agents.
//!
//! They are made before the root is pivoted. What has no place of its own on the host is made on a
//! *shelf*: a file system in memory that is mounted in the step's directory until then, and that the
//! step never sees as a whole.

use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use zeroize::Zeroizing;

use super::READ_ONLY_ATTRIBUTES;
use super::make::{
    Depth, NOTHING_SPECIAL, attach, attach_at, bind, bind_opened, filesystem, open_path, restrict,
};
use super::overlay::{Overlay, Upper};
use crate::sandbox::handover::Handing;
use crate::sandbox::protocol::{Attempt as _, Failure};
use crate::sandbox::request::{
    FileOwner, MountAccess, MountSource, RunRequest, SecretPart, StepMount,
};
use crate::sandbox::stubs::{Stub, Target, open_target};

/// What a step gets from and gives to the outer process.
pub(in crate::sandbox) struct Outside<'a> {
    /// The secrets' values.
    pub(in crate::sandbox) secrets: Option<&'a std::fs::File>,
    /// Takes what is passed out.
    pub(in crate::sandbox) handing: Option<&'a Handing>,
}

impl Outside<'_> {
    /// Reads the value of a secret.
    pub(in crate::sandbox) fn secret(
        &self,
        part: SecretPart,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let what = || "take a secret".to_owned();
        let file = self.secrets.ok_or_else(|| Failure::Failed {
            what: what(),
            reason: "its descriptor is missing".to_owned(),
        })?;
        let mut value = Zeroizing::new(vec![0; part.length]);
        file.read_exact_at(&mut value, part.offset).attempting(what)?;
        Ok(value)
    }
}

/// A mount that was asked for, in no tree yet.
pub(super) struct Asked {
    target: String,
    mounted: Mounted,
}

enum Mounted {
    /// A file or directory.
    Ready(Target, OwnedFd),
    /// A file system in memory, which takes over the mode of what it is mounted on.
    Tmpfs(Option<u64>),
}

impl Asked {
    /// Mounts it in the step's root, which is this process's root by now.
    pub(super) fn place(&self, proc: &OwnedFd, stubs: &mut Vec<Stub>) -> Result<(), Failure> {
        let what = || format!("mount `{}`", self.target);
        let before = stubs.len();
        let kind = match &self.mounted {
            Mounted::Ready(kind, _) => *kind,
            Mounted::Tmpfs(_) => Target::Directory,
        };
        let point = open_target(&self.target, kind, proc, stubs)?;
        let status = fstat(&point).attempting(what)?;
        let is_directory = FileType::from_raw_mode(status.st_mode).is_dir();
        if is_directory != (kind == Target::Directory) {
            let [is, wanted] = if is_directory {
                ["a directory", "a file"]
            } else {
                ["not a directory", "a directory"]
            };
            let reason = format!("it is {is} in the image, and {wanted} is to be mounted on it");
            return Err(Failure::Failed { what: what(), reason });
        }
        match &self.mounted {
            Mounted::Ready(_, mounted) => attach(mounted, &point).attempting(what),
            Mounted::Tmpfs(size) => {
                // As runc does: a new mount point has the kernel's mode.
                let was_there = stubs.len() == before;
                let mode = was_there.then_some(status.st_mode & 0o7777);
                let mounted = new_tmpfs(mode, *size).attempting(what)?;
                attach(&mounted, &point).attempting(what)
            }
        }
    }
}

fn new_tmpfs(mode: Option<u32>, size_bytes: Option<u64>) -> rustix::io::Result<OwnedFd> {
    let mode = format!("{:o}", mode.unwrap_or(0o1777));
    let size = size_bytes.map(|bytes| bytes.to_string());
    let mut options = vec![("mode", mode.as_str())];
    options.extend(size.as_deref().map(|size| ("size", size)));
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    filesystem("tmpfs", &options, attributes)
}

/// Makes what `request` asks for, in its order.
pub(super) fn prepare(request: &RunRequest, outside: &Outside<'_>) -> Result<Vec<Asked>, Failure> {
    if request.mounts.is_empty() {
        return Ok(Vec::new());
    }
    let shelf = Shelf::mount(&request.step_directory)?;
    let make = |(number, mount): (usize, &StepMount)| {
        let mounted = shelf.make(number, mount, outside)?;
        Ok(Asked { target: mount.target.clone(), mounted })
    };
    request.mounts.iter().enumerate().map(make).collect()
}

/// A file system in memory.
struct Shelf<'a> {
    step_directory: &'a Path,
    path: PathBuf,
    /// Its root. Sockets are bound through it: their names have room for a hundred bytes.
    root: OwnedFd,
}

impl<'a> Shelf<'a> {
    fn mount(step_directory: &'a Path) -> Result<Self, Failure> {
        let what = || "make a place for mounts".to_owned();
        let path = step_directory.join("shelf");
        let mounted = filesystem("tmpfs", &[("mode", "700")], MountAttrFlags::empty());
        attach_at(&mounted.attempting(what)?, &path).attempting(what)?;
        let root = open_path(&path).attempting(what)?;
        Ok(Self { step_directory, path, root })
    }

    fn make(
        &self,
        number: usize,
        mount: &StepMount,
        outside: &Outside<'_>,
    ) -> Result<Mounted, Failure> {
        let what = || format!("mount `{}`", mount.target);
        let place = self.path.join(number.to_string());
        match &mount.source {
            MountSource::Tree { layers, path, access, .. } => {
                fs_err::create_dir(&place).attempting(what)?;
                self.tree(number, &place, layers, *access, &mount.target)?;
                part_of_tree(&place, path, *access, &mount.target)
            }
            MountSource::Directory { path, access } => {
                let mounted = bind(path, Depth::Single).attempting(what)?;
                close_to_writes(&mounted, *access).attempting(what)?;
                Ok(Mounted::Ready(Target::Directory, mounted))
            }
            MountSource::Tmpfs { size_bytes } => Ok(Mounted::Tmpfs(*size_bytes)),
            MountSource::Secret { part, owner } => {
                let value = outside.secret(*part)?;
                let file = secret_file(&place, &value, *owner).attempting(what)?;
                Ok(Mounted::Ready(Target::File, file))
            }
            MountSource::Agent { owner } => {
                self.agent(number, *owner, outside.handing).attempting(what)
            }
            MountSource::Scripts { files } => {
                let directory = scripts(&place, files).attempting(what)?;
                Ok(Mounted::Ready(Target::Directory, directory))
            }
        }
    }

    /// Mounts a stack of snapshots at `place`.
    fn tree(
        &self,
        number: usize,
        place: &Path,
        layers: &[PathBuf],
        access: MountAccess,
        target: &str,
    ) -> Result<(), Failure> {
        // overlayfs wants two directories; the empty one changes nothing.
        let empty = self.step_directory.join("empty");
        let layers: Vec<PathBuf> = [empty].into_iter().chain(layers.iter().cloned()).collect();
        let (upper, attributes) = match access {
            MountAccess::ReadOnly => (None, MountAttrFlags::MOUNT_ATTR_RDONLY),
            MountAccess::ReadWrite => {
                let own = writable_directory(self.step_directory, number);
                let upper = Upper { directory: own.join("upper"), work: own.join("work") };
                (Some(upper), MountAttrFlags::empty())
            }
        };
        let attributes = attributes | MountAttrFlags::MOUNT_ATTR_NODEV;
        let overlay = Overlay { layers: &layers, upper, attributes };
        overlay.mount_at(place, &format!("the source of `{target}`"))
    }

    /// Makes a listening socket and passes the listener out.
    fn agent(
        &self,
        number: usize,
        owner: FileOwner,
        handing: Option<&Handing>,
    ) -> std::io::Result<Mounted> {
        let handing = handing.ok_or(std::io::ErrorKind::NotConnected)?;
        let name = format!("/proc/self/fd/{}/{number}", self.root.as_raw_fd());
        let listener = UnixListener::bind(&name)?;
        let path = self.path.join(number.to_string());
        give(&path, owner)?;
        let mounted = bind(&path, Depth::Single)?;
        handing.agent(number, &listener)?;
        Ok(Mounted::Ready(Target::File, mounted))
    }
}

/// Returns the directory for what is written to the mount with this number.
pub(in crate::sandbox) fn writable_directory(step_directory: &Path, number: usize) -> PathBuf {
    step_directory.join(format!("bind-{number}"))
}

/// Takes a part of the tree that is mounted at `place`. Links are followed inside of it only.
fn part_of_tree(
    place: &Path,
    path: &str,
    access: MountAccess,
    target: &str,
) -> Result<Mounted, Failure> {
    let root = open_path(place).attempting(|| format!("mount `{target}`"))?;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), inside);
    let found = match found {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
            return Err(Failure::MountSourceNotFound(path.to_owned()));
        }
        found => found.attempting(|| format!("find `{path}` in the source of `{target}`"))?,
    };
    let mount = || -> std::io::Result<Mounted> {
        let mounted = bind_opened(&found)?;
        close_to_writes(&mounted, access)?;
        let mode = fstat(&found)?.st_mode;
        let kind = match FileType::from_raw_mode(mode) {
            FileType::Directory => Target::Directory,
            _ => Target::File,
        };
        Ok(Mounted::Ready(kind, mounted))
    };
    mount().attempting(|| format!("mount `{target}`"))
}

fn close_to_writes(mounted: &OwnedFd, access: MountAccess) -> std::io::Result<()> {
    match access {
        MountAccess::ReadOnly => restrict(mounted, MountAttrFlags::MOUNT_ATTR_RDONLY),
        MountAccess::ReadWrite => Ok(()),
    }
}

fn secret_file(path: &Path, value: &[u8], owner: FileOwner) -> std::io::Result<OwnedFd> {
    let mut options = fs_err::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.options_mut(), 0o600);
    options.write(true).create_new(true).open(path)?.write_all(value)?;
    give(path, owner)?;
    let mounted = bind(path, Depth::Single)?;
    restrict(&mounted, READ_ONLY_ATTRIBUTES)?;
    Ok(mounted)
}

/// Sets owner and mode; the mode last, because a change of owner clears parts of it.
fn give(path: &Path, owner: FileOwner) -> std::io::Result<()> {
    std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid))?;
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(owner.mode & 0o7777))
}

fn scripts(place: &Path, files: &[(String, String)]) -> std::io::Result<OwnedFd> {
    fs_err::create_dir(place)?;
    for (name, content) in files {
        let path = place.join(name);
        fs_err::write(&path, content)?;
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    fs_err::set_permissions(place, std::fs::Permissions::from_mode(0o755))?;
    let mounted = bind(place, Depth::Single)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | NOTHING_SPECIAL.difference(MountAttrFlags::MOUNT_ATTR_NOEXEC);
    restrict(&mounted, attributes)?;
    Ok(mounted)
}
