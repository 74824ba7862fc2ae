//! From a commit to its files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;

use super::GitTree;
use super::fetch::LOCAL_LIMIT;
use super::program::Program;
use super::references::Resolved;
use crate::dockerfile::GitTimes;
use crate::remote::{Error, Result, TemporaryTree};
use crate::store::Store;

/// How long submodules may take.
const SUBMODULES_LIMIT: Duration = Duration::from_secs(60 * 60);
/// As deep as directories of a repository may lie.
const MAX_DEPTH: usize = 256;

/// The files of one commit, to be made.
pub(super) struct Checkout<'a> {
    pub(super) program: &'a Program<'a>,
    /// The bare repository that has the commit.
    pub(super) repository: &'a Path,
    pub(super) wanted: &'a GitTree<'a>,
    pub(super) resolved: &'a Resolved,
    pub(super) commit: &'a str,
    /// The directory, clean; empty for the whole.
    pub(super) directory: &'a str,
}

impl Checkout<'_> {
    /// Makes the files at `target`, which is there whole or not at all.
    pub(super) fn run(&self, store: &Store, target: &Path) -> Result<()> {
        let tree = TemporaryTree::new(store)?;
        let root = tree.root();
        // BuildKit keeps `.git` only of a whole repository.
        let keeps = self.wanted.keeps_git_dir() && self.directory.is_empty();
        self.git(root, &["init", "--quiet", "--template="])?;
        let remote = self.program.remote();
        self.git(root, &["remote", "add", "origin", remote])?;
        if keeps {
            self.copy_objects(root)?;
        } else {
            self.borrow_objects(root)?;
        }
        self.git(root, &["checkout", "--quiet", "--force", "--detach", self.commit])?;
        if self.wanted.reference.submodules != Some(false) && root.join(".gitmodules").exists() {
            self.submodules(root)?;
        }
        if keeps {
            clean_git_dir(&root.join(".git"))?;
        } else {
            fs::remove_dir_all(root.join(".git"))?;
        }
        let inside = self.inside(root)?;
        let time = self.time(root)?;
        finish(&inside, time, keeps, 0)?;
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        tree.keep(&inside, target)?;
        Ok(())
    }

    fn git(&self, root: &Path, args: &[&str]) -> Result<Vec<u8>> {
        self.program.local(root, args, LOCAL_LIMIT)
    }

    /// Lets the new repository use the objects of the bare one, for as long as the checkout takes.
    fn borrow_objects(&self, root: &Path) -> Result<()> {
        let objects = self.repository.join("objects");
        let info = root.join(".git/objects/info");
        fs::create_dir_all(&info)?;
        fs::write(info.join("alternates"), format!("{}\n", objects.display()))?;
        let shallow = self.repository.join("shallow");
        if shallow.exists() {
            fs::copy(shallow, root.join(".git/shallow"))?;
        }
        Ok(())
    }

    /// Copies the commit into the new repository, which stays, with the branch or tag it came by.
    fn copy_objects(&self, root: &Path) -> Result<()> {
        let object = &self.resolved.object;
        let source = format!("refs/rpub/{object}");
        self.program.local(self.repository, &["update-ref", &source, object], LOCAL_LIMIT)?;
        let name = self.resolved.name.as_deref().filter(|name| *name != "HEAD");
        let spec = match name {
            Some(name) => format!("+{source}:{name}"),
            None => source,
        };
        // By the file transport: the shortcut for local repositories would link its files.
        let from = format!("file://{}", self.repository.display());
        let args = ["fetch", "--quiet", "--depth=1", "--no-tags", "--update-head-ok", "--"];
        self.git(root, &[&args[..], &[&from, &spec]].concat())?;
        Ok(())
    }

    fn submodules(&self, root: &Path) -> Result<()> {
        let args = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"];
        match self.program.transfer(root, &args, SUBMODULES_LIMIT) {
            Err(Error::Git { message, .. })
                if message.contains("shallow") || message.contains("--depth") =>
            {
                self.program.transfer(root, &args[..args.len() - 1], SUBMODULES_LIMIT)?;
            }
            result => {
                result?;
            }
        }
        Ok(())
    }

    /// Returns the wanted directory, which must really lie in the tree.
    fn inside(&self, root: &Path) -> Result<PathBuf> {
        if self.directory.is_empty() {
            return Ok(root.to_owned());
        }
        let no_directory = |reason| Error::NoDirectory {
            remote: self.program.shown().to_owned(),
            directory: self.directory.to_owned(),
            reason,
        };
        let root = root.canonicalize()?;
        let Ok(inside) = root.join(self.directory).canonicalize() else {
            return Err(no_directory(""));
        };
        if !inside.starts_with(&root) {
            return Err(no_directory(": a symbolic link leads outside"));
        }
        if inside.is_dir() { Ok(inside) } else { Err(no_directory("")) }
    }

    /// Returns the time that all files get, when it is that of the commit.
    fn time(&self, root: &Path) -> Result<Option<SystemTime>> {
        if self.wanted.reference.times == GitTimes::Checkout {
            return Ok(None);
        }
        debug_assert!(root.is_absolute(), "the tree is in the store");
        let seconds = committed(self.program, self.repository, self.commit)?;
        let seconds = u64::try_from(seconds).unwrap_or(0);
        Ok(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
    }
}

/// Returns when a commit of `repository` was made, in seconds since 1970.
pub(super) fn committed(program: &Program<'_>, repository: &Path, commit: &str) -> Result<i64> {
    let args = ["log", "-1", "--no-show-signature", "--format=%ct", commit];
    let output = program.local(repository, &args, LOCAL_LIMIT)?;
    Ok(String::from_utf8_lossy(&output).trim().parse().unwrap_or(0))
}

/// Removes what of a kept `.git` only says how it came to be here.
fn clean_git_dir(git: &Path) -> Result<()> {
    for file in ["FETCH_HEAD", "ORIG_HEAD"] {
        match fs::remove_file(git.join(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    match fs::remove_dir_all(git.join("logs")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Gives files and directories the modes that they have in every checkout, whatever the umask, and
/// the time. Submodules leave a file `.git` that names a directory which is gone.
fn finish(directory: &Path, time: Option<SystemTime>, keeps: bool, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(std::io::Error::from(rustix::io::Errno::NAMETOOLONG).into());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        if kind.is_dir() {
            finish(&path, time, keeps, depth + 1)?;
        } else if kind.is_file() && !keeps && entry.file_name() == ".git" {
            fs::remove_file(&path)?;
        } else if kind.is_file() {
            let is_executable = entry.metadata()?.permissions().mode() & 0o100 != 0;
            set_mode(&path, if is_executable { 0o755 } else { 0o644 })?;
            set_time(&path, time)?;
        } else {
            set_time(&path, time)?;
        }
    }
    set_mode(directory, 0o755)?;
    set_time(directory, time)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

fn set_time(path: &Path, time: Option<SystemTime>) -> Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
    let Some(time) = time else { return Ok(()) };
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| Error::Io(error.into()))
}
