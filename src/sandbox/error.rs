//! What can go wrong in and around the worker.

use std::io;
use std::path::PathBuf;

use super::protocol::Failure;

/// An error of the sandbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine or the user's account does not allow a user namespace with a range of ids.
    #[error("cannot isolate build steps: {}", .0.cause())]
    Isolation(Isolation),
    /// The worker could not be started.
    #[error("failed to start the worker `{program}`")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The worker died, or was stopped, with requests pending.
    #[error("the worker ended unexpectedly{}", said(.stderr))]
    WorkerDied {
        /// The last lines it wrote.
        stderr: String,
    },
    /// The worker said something that is not in the protocol.
    #[error("failed to talk to the worker")]
    Protocol(#[source] io::Error),
    /// The request was cancelled.
    #[error("cancelled")]
    Canceled,
    /// `USER` names a user that the image does not have.
    #[error("unable to find user `{name}`: no matching entries in the image's `/etc/passwd`")]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// `USER` names a group that the image does not have.
    #[error("unable to find group `{name}`: no matching entries in the image's `/etc/group`")]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// A layer's bytes are damaged, or are not what its diffID says.
    #[error("failed to {what}: {reason}")]
    Corrupt {
        /// What was being done.
        what: String,
        /// Why, with its causes.
        reason: String,
    },
    /// The source of a copy does not exist.
    #[error("`{pattern}` not found in the copy source")]
    CopySourceNotFound {
        /// The source as written.
        pattern: String,
    },
    /// The source of a mount does not exist.
    #[error("\"{path}\": not found")]
    MountSourceNotFound {
        /// The source as written.
        path: String,
    },
    /// A request failed inside the worker.
    #[error("failed to {what}: {reason}")]
    Failed {
        /// What was being done.
        what: String,
        /// Why, with its causes.
        reason: String,
    },
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

/// Why steps cannot be isolated here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// `/etc/subuid` or `/etc/subgid` gives the user no range.
    NoSubordinateIds {
        /// The file.
        file: PathBuf,
        /// The user's name or number.
        user: String,
    },
    /// `newuidmap` or `newgidmap` is not installed.
    HelperMissing {
        /// The program.
        program: String,
    },
    /// `newuidmap` or `newgidmap` failed.
    HelperFailed {
        /// The program.
        program: String,
        /// What it said.
        message: String,
    },
    /// This process runs with `no_new_privs`, so the helpers cannot gain the right to write maps.
    NoNewPrivileges,
    /// User namespaces are refused.
    NamespacesRefused {
        /// The system's error.
        reason: String,
        /// What stands in the way, when it is known.
        obstacle: Option<String>,
    },
}

impl Isolation {
    /// Returns the cause, in one line.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::NoSubordinateIds { file, user } => {
                format!("`{}` gives no subordinate ids to `{user}`", file.display())
            }
            Self::HelperMissing { program } => format!("`{program}` is not installed"),
            Self::HelperFailed { program, message } => format!("`{program}` failed: {message}"),
            Self::NoNewPrivileges => {
                "this process runs with `no_new_privs`, which stops `newuidmap`".to_owned()
            }
            Self::NamespacesRefused { reason, obstacle: None } => {
                format!("the system refuses a user namespace: {reason}")
            }
            Self::NamespacesRefused { reason, obstacle: Some(obstacle) } => {
                format!("the system refuses a user namespace: {reason}; {obstacle}")
            }
        }
    }

    /// Returns what to do about it: a command where there is one.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NoSubordinateIds { user, .. } => format!(
                "run `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}` as root"
            ),
            Self::HelperMissing { .. } => {
                "install the package `uidmap` (Debian, Ubuntu) or `shadow-utils` (Fedora)".to_owned()
            }
            Self::HelperFailed { program, .. } => format!(
                "`{program}` must be setuid root or have its file capability, on a file system \
                 without `nosuid`, and the ranges in `/etc/subuid` and `/etc/subgid` must not overlap"
            ),
            Self::NoNewPrivileges => "start rpub without `no_new_privs` (in a container: \
                 `allowPrivilegeEscalation: true`, or no `--security-opt no-new-privileges`)"
                .to_owned(),
            Self::NamespacesRefused { .. } => "allow user namespaces: \
                 `sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=65536`; in a \
                 container, allow `unshare` and `mount` in its seccomp profile"
                .to_owned(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Canceled => Self::Canceled,
            Failure::UnknownUser(name) => Self::UnknownUser { name },
            Failure::UnknownGroup(name) => Self::UnknownGroup { name },
            Failure::Corrupt { what, reason } => Self::Corrupt { what, reason },
            Failure::CopySourceNotFound(pattern) => Self::CopySourceNotFound { pattern },
            Failure::MountSourceNotFound(path) => Self::MountSourceNotFound { path },
            Failure::Failed { what, reason } => Self::Failed { what, reason },
        }
    }
}
