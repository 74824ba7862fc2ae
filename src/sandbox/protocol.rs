//! The messages between the outer process and the worker.
//!
//! The outer process sends requests, each with an id of its choice; the worker answers each exactly
//! once, in any order. Descriptors travel with the message that needs them. Paths are
//! absolute paths of the host, below the store.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::image::{DiffId, Digest};

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Gzip at this level.
    Gzip(u32),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It returned this code. 127: not found, 126: not executable, as shells and docker say.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// Returns the code a shell would show: 128 + n for signal n.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }

    /// Returns whether the command succeeded.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

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

/// Contents of the files that a container gets from outside. They never become part of a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFiles {
    /// `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// `/etc/hosts`.
    pub hosts: String,
}

/// Unpacks one layer into a snapshot. Descriptor: the compressed bytes, a file or a pipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackRequest {
    /// What the uncompressed tar must hash to.
    pub diff_id: DiffId,
    /// A path that does not exist, on the same file system as `target`, to unpack into.
    pub temporary: PathBuf,
    /// Where the finished snapshot goes. When it exists already, nothing is unpacked.
    pub target: PathBuf,
    /// Where the layer's path index goes.
    pub index: PathBuf,
}

/// Runs one command on a stack of snapshots. Descriptor: where its output and errors go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    /// Snapshot directories, bottom first. May be empty (`FROM scratch`).
    pub layers: Vec<PathBuf>,
    /// Path index files of the same layers, in the same order.
    pub indexes: Vec<PathBuf>,
    /// The directory that holds snapshots of this id mapping; fix-up layers are kept in it.
    pub snapshots_directory: PathBuf,
    /// A directory for this step, made if absent: gets `upper` (the change set) and private things.
    pub step_directory: PathBuf,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`, complete: nothing is inherited. `PATH` and `HOME` are added when absent.
    pub env: Vec<String>,
    /// The working directory, absolute; made when it is absent.
    pub cwd: String,
    /// `USER` as the Dockerfile has it; empty means root.
    pub user: String,
    /// The host name; `buildkitsandbox` is what BuildKit uses.
    pub hostname: String,
    /// The network.
    pub network: Network,
    /// Files provided from outside.
    pub files: RunFiles,
}

/// Turns a change set into a layer and a snapshot. Descriptor: the file the compressed layer goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealRequest {
    /// The change set, as a step left it in `upper`. It is moved away.
    pub upper: PathBuf,
    /// How to compress.
    pub compression: Compression,
    /// The change set becomes `<snapshots_directory>/<hex of the diffID>`, unless that exists.
    pub snapshots_directory: PathBuf,
    /// Its path index becomes `<paths_directory>/<hex of the diffID>`.
    pub paths_directory: PathBuf,
}

/// Makes a layer of files selected from a stack of snapshots (`COPY --from`). Descriptor: the file
/// the compressed layer goes to. The layer's own snapshot is made later, by unpacking, when needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyFromRequest {
    /// Snapshot directories of the source, bottom first.
    pub layers: Vec<PathBuf>,
    /// Path index files of the source, in the same order.
    pub indexes: Vec<PathBuf>,
    /// Path index files of the destination, bottom first.
    pub destination_indexes: Vec<PathBuf>,
    /// The directory that holds snapshots of this id mapping.
    pub snapshots_directory: PathBuf,
    /// Where the new layer's path index goes, named by the hex of its diffID.
    pub paths_directory: PathBuf,
    /// How to compress.
    pub compression: Compression,
}

/// A sealed layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSnapshot {
    /// The digest of the compressed bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// The digest of the tar.
    pub diff_id: DiffId,
    /// The size of the tar.
    pub uncompressed_size: u64,
    /// The layer's media type.
    pub media_type: String,
}
