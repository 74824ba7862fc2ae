//! The messages between the outer process and the worker.
//!
//! The outer process sends requests, each with an id of its choice; the worker answers each exactly
//! once, in any order. Descriptors travel with the message that needs them. Paths are
//! absolute paths of the host, below the store.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::image::{DiffId, Digest};
use crate::layer::{Compression, CopyRequest, SealedLayer};

use super::cache_mount::MakeCacheRequest;
use super::request::RunRequest;

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

/// Turns a change set into a layer and a snapshot. Descriptor: the file the compressed layer goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealRequest {
    /// The change set, as a step left it in `upper`. It is moved away.
    pub upper: PathBuf,
    /// How to compress.
    pub compression: Compression,
    /// Later modification times become this one, in seconds (`SOURCE_DATE_EPOCH`).
    pub latest_mtime: Option<i64>,
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
    /// What to copy where.
    pub copy: CopyRequest,
    /// How to compress.
    pub compression: Compression,
    /// Later modification times become this one, in seconds (`SOURCE_DATE_EPOCH`).
    pub latest_mtime: Option<i64>,
}

/// What the runner takes from the outer process after the start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToRunner {
    /// Start a step. Descriptors: those of [`super::StepIo`], in its order. Answered when it has
    /// ended.
    Run {
        /// Names the request.
        id: u64,
        /// What to run; its layers are ready to be stacked, fix-ups included.
        request: Box<RunRequest>,
    },
    /// Kill the step of that request, whose answer is then [`Failure::Canceled`]. Not answered
    /// itself; unknown ids are ignored, as the step may just have ended.
    Cancel {
        /// The request.
        id: u64,
    },
}

/// What the filer takes from the outer process. Every request is answered once.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ToFiler {
    /// Names the request.
    pub(super) id: u64,
    /// What to do.
    pub(super) work: Work,
}

/// Work on files.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Work {
    /// Descriptor: the compressed bytes. Answer: [`Answer::Unpacked`].
    Unpack(UnpackRequest),
    /// Descriptor: the file for the compressed layer. Answer: [`Answer::Sealed`].
    Seal(SealRequest),
    /// Descriptor: the file for the compressed layer. Answer: [`Answer::Sealed`].
    CopyFrom(Box<CopyFromRequest>),
    /// Answer: [`Answer::Digest`].
    CopyDigest(Box<CopyFromRequest>),
    /// Answer: [`Answer::Done`].
    Remove(Vec<PathBuf>),
    /// Answer: [`Answer::Done`].
    MakeCache(Box<MakeCacheRequest>),
    /// Measures trees. Answer: [`Answer::Sizes`].
    Measure(Vec<PathBuf>),
    /// Finds the directories to stack for these layers. Answer: [`Answer::Stack`].
    Stack(StackRequest),
}

/// Layers that are to be stacked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct StackRequest {
    /// Snapshot directories, bottom first.
    pub(super) layers: Vec<PathBuf>,
    /// Their path index files.
    pub(super) indexes: Vec<PathBuf>,
    /// Where fix-up layers are kept.
    pub(super) snapshots_directory: PathBuf,
}

/// The worker's answer to one request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reply {
    /// The request.
    pub(super) id: u64,
    /// How it went.
    pub(super) result: Result<Answer, Failure>,
}

/// What a request gives.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// Nothing but success.
    Done,
    /// A layer was unpacked, but for what these sentences say.
    Unpacked(Vec<String>),
    /// A command ended.
    Exit(Exit),
    /// A layer was made.
    Sealed(SealedLayer),
    /// A content key.
    Digest(Digest),
    /// Bytes on disk, in the order of the paths.
    Sizes(Vec<u64>),
    /// Directories to stack, bottom first.
    Stack(Vec<PathBuf>),
}

/// Why a request failed: what of [`super::Error`] can travel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Failure {
    /// See [`super::Error::Canceled`].
    Canceled,
    /// See [`super::Error::UnknownUser`].
    UnknownUser(String),
    /// See [`super::Error::UnknownGroup`].
    UnknownGroup(String),
    /// See [`super::Error::Corrupt`].
    Corrupt {
        /// What was being done.
        what: String,
        /// Why.
        reason: String,
    },
    /// See [`super::Error::CopySourceNotFound`].
    CopySourceNotFound(String),
    /// See [`super::Error::MountSourceNotFound`].
    MountSourceNotFound(String),
    /// See [`super::Error::Failed`].
    Failed {
        /// What was being done.
        what: String,
        /// Why.
        reason: String,
    },
}

impl Failure {
    /// Makes a failure of an error and its causes.
    pub(super) fn new(what: impl Into<String>, error: &dyn std::error::Error) -> Self {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            reason.push_str(": ");
            reason.push_str(&error.to_string());
            cause = error.source();
        }
        Self::Failed { what: what.into(), reason }
    }
}

/// Says what was being attempted when a system call failed.
pub(super) trait Attempt<T> {
    /// Turns the error into a [`Failure`].
    fn attempting(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: std::error::Error> Attempt<T> for Result<T, E> {
    fn attempting(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(what(), &error))
    }
}

/// What the runner and the outer process say to each other while the worker starts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Start {
    /// From the runner, first: it is in its namespaces and wants its maps.
    Entered,
    /// From the runner instead of any other: it cannot go on.
    Refused {
        /// What it tried.
        what: String,
        /// The system's error.
        reason: String,
    },
    /// To the runner: the maps are written. Descriptor: the filer's socket.
    Mapped,
    /// From the runner: both processes take requests now.
    Ready,
}
