//! Steps: the instructions that make a layer, fully expanded.

use crate::dockerfile::{Sharing, Span};
use crate::event::StepId;
use crate::image::Digest;

use super::{Environment, Network};

/// One step: an instruction that makes a layer.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its number.
    pub id: StepId,
    /// How it is shown, as in `[build 2/5] RUN make`.
    pub name: String,
    /// Where it stands.
    pub span: Span,
    /// The instruction when it is a trigger of the base, as in `ONBUILD RUN make`: its text is not
    /// where it stands.
    pub trigger: Option<String>,
    /// What it does.
    pub work: Work,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// `RUN`.
    Run(Run),
    /// `COPY` and `ADD`.
    Copy(Copy),
    /// `WORKDIR`: makes a directory.
    Directory(Directory),
}

/// A `RUN` step, ready to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Program and arguments.
    pub args: Vec<String>,
    /// The environment: that of the config and the arguments.
    pub env: Environment,
    /// Proxy arguments that no `ARG` declares: given to the command, kept out of the key.
    pub proxy_env: Vec<String>,
    /// The directory it starts in.
    pub cwd: String,
    /// `USER`, empty for root.
    pub user: String,
    /// The network.
    pub network: Network,
    /// What the command may do.
    pub security: Security,
    /// `--mount`, in order.
    pub mounts: Vec<RunMount>,
    /// A here-document that is the program itself.
    pub script: Option<Script>,
    /// The host name in the step.
    pub hostname: String,
    /// `--add-host`: names and addresses for `/etc/hosts`. Addresses are kept out of the key.
    pub hosts: Vec<(String, String)>,
}

/// What a command may do (Dockerfile reference, "RUN --security").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// The usual restrictions.
    Sandbox,
    /// All capabilities of the user namespace, no system call filter.
    Insecure,
}

/// A here-document that starts with `#!`: a read-only file that the step executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Its absolute path, below `/dev/pipes`.
    pub path: String,
    /// Its content.
    pub content: String,
}

/// A `RUN --mount`, expanded. Targets are absolute paths in the step's root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunMount {
    /// Files of a context, a stage or an image.
    Bind {
        /// Where it appears.
        target: String,
        /// Where the files are.
        from: Origin,
        /// Which of them: an absolute path in there.
        source: String,
        /// Whether it may be written to; what is written is dropped after the step.
        access: Access,
    },
    /// A directory kept between builds.
    Cache {
        /// Where it appears.
        target: String,
        /// Its name, with the namespace that `BUILDKIT_CACHE_MOUNT_NS` gives.
        id: String,
        /// How builds share it.
        sharing: Sharing,
        /// Where a new one gets its first files.
        from: Option<Origin>,
        /// Which of them: an absolute path in there.
        source: String,
        /// Mode of a new one.
        mode: u32,
        /// Owner of a new one.
        uid: u32,
        /// Group of a new one.
        gid: u32,
        /// Whether it may be written to.
        access: Access,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Where it appears.
        target: String,
        /// Its largest size; the kernel's default without.
        size_bytes: Option<u64>,
    },
    /// A secret.
    Secret {
        /// Which.
        id: String,
        /// As a file.
        file: Option<MountedFile>,
        /// As a variable of the environment.
        env: Option<String>,
        /// Whether the step fails without it.
        required: bool,
    },
    /// The socket of an ssh agent.
    Ssh {
        /// Which agent.
        id: String,
        /// Where the socket appears.
        socket: MountedFile,
        /// Whether the step fails without it.
        required: bool,
    },
}

/// Where a secret or socket appears, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedFile {
    /// The absolute path.
    pub target: String,
    /// Its mode.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Whether a mount may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only read.
    ReadOnly,
    /// Written to as well.
    ReadWrite,
}

/// A `COPY` or `ADD` step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// `ADD` or `COPY`.
    pub instruction: &'static str,
    /// Where the sources that are paths are.
    pub from: Origin,
    /// The sources, expanded.
    pub sources: Vec<CopySource>,
    /// The absolute destination; a trailing slash means a directory.
    pub destination: String,
    /// `--chown`, expanded.
    pub chown: Option<String>,
    /// `--chmod`, expanded.
    pub chmod: Option<String>,
    /// `--link`: the layer does not depend on those below. Never with `--chmod` (BuildKit,
    /// `convert_copy.go`).
    pub link: bool,
    /// `--parents`: sources keep the directories they are in.
    pub parents: bool,
    /// `--exclude`, expanded.
    pub exclude: Vec<String>,
    /// Which archives are extracted.
    pub unpack: Unpack,
}

/// A source of a `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path or pattern.
    Path(String),
    /// A here-document.
    Inline {
        /// The name it gets in a directory.
        name: String,
        /// Its content.
        content: String,
    },
    /// Something that a URL names.
    Remote(Remote),
}

/// What `ADD` gets from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remote {
    /// A file.
    Http {
        /// Where it is.
        url: String,
        /// What it must be.
        checksum: Option<Digest>,
    },
    /// The files of a commit.
    Git {
        /// The repository, and what of it, as written: what
        /// [`GitReference::parse_known`](crate::dockerfile::GitReference::parse_known) reads.
        url: String,
        /// `--checksum` or the URL's: the commit, or how its name begins.
        checksum: Option<String>,
        /// `--keep-git-dir` or the URL's.
        keep_git_dir: bool,
    },
}

/// Which sources that are archives `ADD` extracts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpack {
    /// None.
    Never,
    /// Those of the context, not those that a URL names.
    Local,
    /// All.
    Always,
}

/// Where files come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The build context at this position of [`Plan::contexts`](super::Plan::contexts).
    Context(usize),
    /// The stage at this position of [`Plan::stages`](super::Plan::stages).
    Stage(usize),
    /// The image at this position of [`Plan::bases`](super::Plan::bases).
    Image(usize),
}

/// A `WORKDIR` step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The absolute path.
    pub path: String,
    /// `USER`, who owns what is made; empty for root.
    pub user: String,
}
