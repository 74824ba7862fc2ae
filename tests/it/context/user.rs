//! Who runs the program: root, or a user with nothing but subordinate ids.

use std::ffi::OsStr;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::guard::{has_tools, skip};

/// The account that the tests make when they run as root.
const NAME: &str = "rpub-test";

/// As whom a test wants the program to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The superuser.
    Root,
    /// A user with a range of subordinate ids.
    Unprivileged,
}

/// As whom the program runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum User {
    /// Who runs the tests.
    Invoking,
    /// The account made for tests.
    Other { uid: u32, gid: u32 },
}

impl User {
    /// Returns the user who runs the tests.
    pub(crate) fn invoking() -> Self {
        Self::Invoking
    }

    /// Returns a user of that kind; `None` where there is none, after saying so.
    pub(crate) fn for_role(role: Role) -> Option<Self> {
        match (role, is_root()) {
            (Role::Root, true) => Some(Self::Invoking),
            (Role::Root, false) => {
                skip("the test must run as root");
                None
            }
            (Role::Unprivileged, false) => has_tools(&["newuidmap"]).then_some(Self::Invoking),
            (Role::Unprivileged, true) => {
                if !has_tools(&["newuidmap", "setpriv", "useradd"]) {
                    return None;
                }
                let (uid, gid) = make_account();
                Some(Self::Other { uid, gid })
            }
        }
    }

    /// Returns a command that runs `program` as the user.
    pub(super) fn command(self, program: &OsStr) -> Command {
        match self {
            Self::Invoking => Command::new(program),
            Self::Other { uid, gid } => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}"));
                command.arg("--init-groups").arg("--").arg(program);
                command
            }
        }
    }

    /// Gives a path to the user.
    pub(super) fn own(self, path: &Path) {
        if let Self::Other { uid, gid } = self {
            lchown(path, Some(uid), Some(gid)).unwrap();
        }
    }
}

/// Removes a tree in which the program may have left files of subordinate ids.
pub(super) fn remove(path: &Path) {
    if fs_err::remove_dir_all(path).is_ok() || is_root() {
        return;
    }
    let _ = Command::new("unshare")
        .args(["--user", "--map-root-user", "--map-auto", "rm", "-rf"])
        .arg(path)
        .stderr(Stdio::null())
        .status();
}

/// Returns whether the tests run as root.
pub(super) fn is_root() -> bool {
    uid() == 0
}

/// Returns who runs the tests.
pub(super) fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// Makes the account and its subordinate ids where they are missing; returns its ids.
fn make_account() -> (u32, u32) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    if account().is_none() {
        let status = Command::new("useradd")
            .args(["--system", "--shell", "/bin/sh", "--home-dir", "/nonexistent", NAME])
            .status();
        assert!(status.unwrap().success(), "`useradd {NAME}` failed");
    }
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = fs_err::read_to_string(file).unwrap_or_default();
        if !text.lines().any(|line| line.starts_with(&format!("{NAME}:"))) {
            let first = next_subordinate(&text);
            fs_err::write(file, format!("{text}{NAME}:{first}:65536\n")).unwrap();
        }
    }
    account().unwrap_or_else(|| panic!("`{NAME}` is not in /etc/passwd after `useradd`"))
}

/// Returns the first id after every range of the file.
fn next_subordinate(text: &str) -> u64 {
    let ends = text.lines().filter_map(|line| {
        let mut fields = line.split(':').skip(1);
        let first: u64 = fields.next()?.parse().ok()?;
        Some(first + fields.next()?.parse::<u64>().ok()?)
    });
    ends.chain([100_000]).max().unwrap_or(100_000)
}

fn account() -> Option<(u32, u32)> {
    let text = fs_err::read_to_string("/etc/passwd").ok()?;
    let line = text.lines().find(|line| line.starts_with(&format!("{NAME}:")))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
