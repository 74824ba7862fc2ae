//! What every end-to-end test starts from: a fresh root with its own home, a cleared environment,
//! the built program, real registries on the loopback, and guards for what a machine may lack.

mod bases;
mod command;
mod craft;
mod forward;
mod guard;
mod http;
mod image;
mod layer;
mod leaks;
mod noise;
mod process;
mod proxy;
mod registry;
mod repository;
mod serve;
mod store;
mod tls;
mod token;
mod user;
mod web;
mod world;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

pub(crate) use bases::{Bases, bases};
pub(crate) use command::{Checked, Output, Running, TestCommand};
pub(crate) use craft::{CraftedLayer, push_crafted};
pub(crate) use forward::ForwardProxy;
pub(crate) use guard::{has_tools, skip, variable};
pub(crate) use http::get;
pub(crate) use image::{Unpacked, verify_image};
pub(crate) use layer::{LayerFile, files_of};
pub(crate) use noise::noise;
pub(crate) use proxy::{Cut, Manners, Passed, Proxy, Side};
pub(crate) use registry::{Auth, PASSWORD, Registry, RegistryOptions, USERNAME, digest_of};
pub(crate) use repository::Repository;
pub(crate) use serve::Serve;
pub(crate) use store::{verify_blobs, verify_store};
pub(crate) use tls::Authority;
pub(crate) use user::{Role, User};
pub(crate) use web::{Page, WebServer, git_daemon};
pub(crate) use world::World;

/// A fresh world for one test. Everything in it is removed when it is dropped.
pub(crate) struct TestContext {
    root: PathBuf,
    user: User,
    environment: BTreeMap<OsString, OsString>,
}

impl TestContext {
    /// Makes a world for the user who runs the tests.
    pub(crate) fn new() -> Self {
        Self::with_user(User::invoking())
    }

    /// Makes a world for an unprivileged user or for root; `None` where the machine cannot, after
    /// saying so.
    pub(crate) fn for_role(role: Role) -> Option<Self> {
        Some(Self::with_user(User::for_role(role)?))
    }

    fn with_user(user: User) -> Self {
        let root = fresh_root();
        let context = Self { root, user, environment: BTreeMap::new() };
        context.user.own(&context.root);
        context.with_pinned_environment()
    }

    fn with_pinned_environment(mut self) -> Self {
        for (name, directory) in [
            ("HOME", "home"),
            ("XDG_DATA_HOME", "home/data"),
            ("XDG_CONFIG_HOME", "home/settings"),
            ("XDG_CACHE_HOME", "home/cache"),
            ("XDG_STATE_HOME", "home/state"),
            ("XDG_RUNTIME_DIR", "run"),
            ("TMPDIR", "tmp"),
            ("DOCKER_CONFIG", "home/docker"),
        ] {
            let path = self.directory(directory);
            self.environment.insert(name.into(), path.into());
        }
        let run = self.path("run");
        fs_err::set_permissions(run, std::fs::Permissions::from_mode(0o700)).unwrap();
        for (name, value) in [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("LC_ALL", "C.UTF-8"),
            ("TZ", "UTC"),
            ("COLUMNS", "100"),
            ("NO_COLOR", "1"),
            ("RPUB_STORE", ""),
        ] {
            self.environment.insert(name.into(), value.into());
        }
        let store = self.store();
        self.environment.insert("RPUB_STORE".into(), store.into());
        self
    }

    /// Returns the store that the program uses here. The program makes it.
    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Returns a path below the root.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Makes a directory below the root, owned by the user.
    pub(crate) fn directory(&self, relative: impl AsRef<Path>) -> PathBuf {
        let mut path = self.root.clone();
        for part in relative.as_ref().components() {
            path.push(part);
            match fs_err::create_dir(&path) {
                Ok(()) => self.user.own(&path),
                // Also when another thread of the test was first.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{error}"),
            }
        }
        path
    }

    /// Writes a file below the root, with the directories above it, owned by the user.
    pub(crate) fn write(&self, relative: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let relative = relative.as_ref();
        if let Some(parent) = relative.parent() {
            self.directory(parent);
        }
        let path = self.path(relative);
        fs_err::write(&path, content).unwrap();
        self.user.own(&path);
        path
    }

    /// Copies a directory of `fixtures/` below the root.
    pub(crate) fn fixture(&self, name: &str, relative: &str) -> PathBuf {
        let target = self.directory(relative);
        self.copy_tree(&fixtures().join(name), Path::new(relative));
        target
    }

    fn copy_tree(&self, from: &Path, to: &Path) {
        for entry in fs_err::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                self.directory(&target);
                self.copy_tree(&entry.path(), &target);
            } else {
                self.write(&target, fs_err::read(entry.path()).unwrap());
            }
        }
    }

    /// Sets a variable of the environment of every later command.
    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.environment.insert(name.into(), value.as_ref().into());
    }

    /// Sends the names of `docker.io` to `registry`, as a user would: by a mirror in
    /// `registries.conf`.
    pub(crate) fn mirror_docker_io(&self, registry: &Registry) {
        let text = format!(
            "[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n\n\
             [[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
            registry.name()
        );
        self.write("home/settings/containers/registries.conf", text);
    }

    /// Returns the built program with `args`, to be run as the user in the root.
    pub(crate) fn rpub<I>(&self, args: I) -> TestCommand
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        self.command(program()).searched().args(args)
    }

    /// Returns any program, to be run as the user in the root with the context's environment.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> TestCommand {
        let mut command = self.user.command(program.as_ref());
        command.env_clear().envs(&self.environment).current_dir(&self.root);
        TestCommand::new(command, self.root.clone(), self.filters())
    }

    /// Returns any program, to be run as the user in the root, where there is no network but a loopback
    /// of its own; `None` where the tests may not make one, after saying so.
    pub(crate) fn without_network(&self, program: impl AsRef<OsStr>) -> Option<TestCommand> {
        if !user::is_root() {
            skip("only root makes a network namespace for another user");
            return None;
        }
        let inner = self.user.command(program.as_ref());
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "busybox ip link set lo up && exec \"$@\"", "sh"]);
        command.arg(inner.get_program()).args(inner.get_args());
        command.env_clear().envs(&self.environment).current_dir(&self.root);
        Some(TestCommand::new(command, self.root.clone(), self.filters()))
    }

    /// Returns a program of the machine, run as the user who runs the tests.
    pub(crate) fn tool(&self, program: &str) -> TestCommand {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        TestCommand::new(command, self.root.clone(), self.filters())
    }

    /// What differs between runs, and what a snapshot says instead.
    fn filters(&self) -> Vec<(String, String)> {
        let root = regex::escape(&self.root.to_string_lossy());
        let pairs = [
            (root.as_str(), "[ROOT]"),
            (r"127\.0\.0\.1:\d+", "[REGISTRY]"),
            (r"\b\d+(\.\d+)? ?m?s\b", "[TIME]"),
        ];
        pairs.map(|(pattern, text)| (pattern.to_owned(), text.to_owned())).to_vec()
    }
}

impl Drop for TestContext {
    fn drop(&mut self) {
        if std::thread::panicking() && guard::variable("RPUB_TEST_KEEP").is_some() {
            return;
        }
        user::remove(&self.root);
    }
}

/// Returns the project's directory of fixtures.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Returns the built program in a place that every user may read: a checkout may be private.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_rpub"));
        if !user::is_root() {
            return built.to_owned();
        }
        let modified = fs_err::metadata(built).unwrap().modified().unwrap();
        let stamp = modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let directory = guard::shared_cache().join(format!("program-{stamp}"));
        fs_err::create_dir_all(&directory).unwrap();
        let public = directory.join("rpub");
        if !public.exists() {
            let temporary = public.with_extension(std::process::id().to_string());
            fs_err::copy(built, &temporary).unwrap();
            fs_err::set_permissions(&temporary, std::fs::Permissions::from_mode(0o755)).unwrap();
            fs_err::rename(&temporary, &public).unwrap();
            forget_old_programs();
        }
        public
    })
}

/// Removes the copies that [`program`] made a day ago and longer: each is tens of megabytes.
fn forget_old_programs() {
    const DAY: Duration = Duration::from_secs(86400);
    for entry in fs_err::read_dir(guard::shared_cache()).unwrap().flatten() {
        let is_program = entry.file_name().to_string_lossy().starts_with("program-");
        let age = entry.metadata().and_then(|data| data.modified()).map(|time| time.elapsed());
        if is_program && age.is_ok_and(|age| age.is_ok_and(|age| age > DAY)) {
            // Another run may be at it too.
            let _ = fs_err::remove_dir_all(entry.path());
        }
    }
}

/// Makes a directory that any user may pass through, on a file system that can hold an overlay.
fn fresh_root() -> PathBuf {
    let parent = guard::variable("RPUB_TEST_ROOT").unwrap_or_else(|| "/var/tmp".into());
    let root = tempfile::Builder::new().prefix("rpub-test-").tempdir_in(parent).unwrap().keep();
    fs_err::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
    root
}
