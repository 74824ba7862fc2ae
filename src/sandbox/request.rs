//! What a step is asked to run, and what with.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What network a command sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The host's.
    #[default]
    Host,
    /// A loopback interface and nothing else.
    None,
}

/// What a command may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// What docker lets a container do.
    #[default]
    Sandbox,
    /// Everything that the user namespace allows: all its capabilities, every system call, and
    /// nothing of `/proc` and `/sys` hidden.
    Insecure,
}

/// Contents of the files that a container gets from outside. They never become part of a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFiles {
    /// `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// `/etc/hosts`.
    pub hosts: String,
}

/// Runs one command on a stack of snapshots. Descriptors: [`StepIo`](super::StepIo).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    /// Snapshot directories, bottom first. May be empty (`FROM scratch`).
    pub layers: Vec<PathBuf>,
    /// Path index files of the same layers, in the same order.
    pub indexes: Vec<PathBuf>,
    /// The directory that holds snapshots of this id mapping; fix-up layers are kept in it.
    pub snapshots_directory: PathBuf,
    /// A directory for this step alone, made if absent: gets `upper` (the change set) and private
    /// things. [`super::Worker::remove`] it when the step is sealed or has failed.
    pub step_directory: PathBuf,
    /// Whether the step directory has the change set of an earlier command.
    pub change_set: ChangeSet,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`, complete: nothing is inherited. `PATH` and `HOME` are added when absent.
    pub env: Vec<String>,
    /// Secrets that the command gets in its environment, besides.
    pub secret_env: Vec<SecretVariable>,
    /// The working directory, absolute; made when it is absent.
    pub cwd: String,
    /// `USER` as the Dockerfile has it; empty means root.
    pub user: String,
    /// The host name; `buildkitsandbox` is what BuildKit uses.
    pub hostname: String,
    /// The network.
    pub network: Network,
    /// What the command may do.
    pub security: Security,
    /// Files provided from outside.
    pub files: RunFiles,
    /// What else is mounted, in this order: a mount below another one comes after it.
    pub mounts: Vec<StepMount>,
    /// Size of `/dev/shm`; 64 MiB without.
    pub shm_bytes: Option<u64>,
    /// Resource limits. One that may not be raised is raised as far as it may.
    pub limits: Vec<Limit>,
    /// Whether the command gets a terminal of its own instead of the output descriptor. It is
    /// passed out as [`super::Passed::Terminal`].
    pub has_terminal: bool,
}

/// Whose change set a step begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeSet {
    /// An empty one.
    #[default]
    New,
    /// That which an earlier command, which has ended, left in the same step directory.
    Kept,
}

/// Something that is mounted for a step only. What is made to mount it on does not stay in the
/// change set, unless the step has put something into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepMount {
    /// Where it appears: absolute in the step's root file system, whose links are followed.
    pub target: String,
    /// What appears.
    pub source: MountSource,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A file or directory of a stack of snapshots.
    Tree {
        /// Snapshot directories, bottom first.
        layers: Vec<PathBuf>,
        /// Path index files of the same layers, in the same order.
        indexes: Vec<PathBuf>,
        /// Which part: absolute in there, links are followed inside only.
        path: String,
        /// Whether it can be written to; what is written is dropped with the step.
        access: MountAccess,
    },
    /// A directory of the host.
    Directory {
        /// Where it is.
        path: PathBuf,
        /// Whether it can be written to.
        access: MountAccess,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Its largest size; the kernel's default without.
        size_bytes: Option<u64>,
    },
    /// A read-only file in memory with a secret.
    Secret {
        /// Which part of the secrets' descriptor it is.
        part: SecretPart,
        /// Whose it is.
        owner: FileOwner,
    },
    /// The socket of an ssh agent: its listener is passed out as [`super::Passed::Agent`], and who
    /// takes it answers.
    Agent {
        /// Whose it is.
        owner: FileOwner,
    },
    /// A read-only directory in memory with executable files.
    Scripts {
        /// Their names and contents.
        files: Vec<(String, String)>,
    },
}

/// Whether a mount can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountAccess {
    /// Only read.
    ReadOnly,
    /// Written to as well.
    ReadWrite,
}

/// Mode and ids of a file, as the step sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOwner {
    /// The mode.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// A part of the secrets' descriptor, in bytes. The values themselves are in no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretPart {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: usize,
}

/// A secret in the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretVariable {
    /// The variable.
    pub name: String,
    /// Its value.
    pub part: SecretPart,
}

/// A resource limit (`getrlimit(2)`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Of what.
    pub resource: LimitedResource,
    /// What holds; `None` is no limit.
    pub soft: Option<u64>,
    /// How far the step may raise it; `None` is no limit.
    pub hard: Option<u64>,
}

/// What can be limited, in docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitedResource {
    /// Size of core files.
    Core,
    /// Processor seconds.
    Cpu,
    /// The data segment.
    Data,
    /// Size of files.
    Fsize,
    /// File locks; without effect in Linux.
    Locks,
    /// Locked memory.
    Memlock,
    /// Bytes in message queues.
    Msgqueue,
    /// The nice value.
    Nice,
    /// Open files.
    Nofile,
    /// Processes.
    Nproc,
    /// Resident memory; without effect in Linux.
    Rss,
    /// Real-time priority.
    Rtprio,
    /// Real-time microseconds.
    Rttime,
    /// Pending signals.
    Sigpending,
    /// The stack.
    Stack,
}

impl std::str::FromStr for LimitedResource {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "core" => Self::Core,
            "cpu" => Self::Cpu,
            "data" => Self::Data,
            "fsize" => Self::Fsize,
            "locks" => Self::Locks,
            "memlock" => Self::Memlock,
            "msgqueue" => Self::Msgqueue,
            "nice" => Self::Nice,
            "nofile" => Self::Nofile,
            "nproc" => Self::Nproc,
            "rss" => Self::Rss,
            "rtprio" => Self::Rtprio,
            "rttime" => Self::Rttime,
            "sigpending" => Self::Sigpending,
            "stack" => Self::Stack,
            _ => return Err(()),
        })
    }
}

impl RunRequest {
    /// Returns whether a descriptor with secrets goes with the request.
    pub(super) fn has_secrets(&self) -> bool {
        let is_secret = |mount: &StepMount| matches!(mount.source, MountSource::Secret { .. });
        !self.secret_env.is_empty() || self.mounts.iter().any(is_secret)
    }

    /// Returns whether the step passes descriptors out.
    pub(super) fn passes_out(&self) -> bool {
        let is_agent = |mount: &StepMount| matches!(mount.source, MountSource::Agent { .. });
        self.has_terminal || self.mounts.iter().any(is_agent)
    }

    /// Returns the names in the step directory of the change set's work directory.
    pub(super) fn work_name(&self) -> &'static str {
        match self.change_set {
            ChangeSet::New => "work",
            // The first one cannot be used again after a volatile mount.
            ChangeSet::Kept => "work-again",
        }
    }
}
