//! What can go wrong in and around the worker.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
    /// A layer's bytes are not what its diffID says.
    #[error("layer hashes to `{actual}`, not to its diffID `{expected}`")]
    DiffIdMismatch {
        /// What was asked for.
        expected: String,
        /// What was there.
        actual: String,
    },
    /// The source of a copy does not exist.
    #[error("`{pattern}` not found in the copy source")]
    CopySourceNotFound {
        /// The source as written.
        pattern: String,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        todo!()
    }

    /// Returns what to do about it: a command where there is one.
    #[must_use]
    pub fn remedy(&self) -> String {
        todo!()
    }
}
