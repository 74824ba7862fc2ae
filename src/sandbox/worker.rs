//! The outer process's handle on the worker.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::Result;
use super::protocol::{
    CopyFromRequest, Exit, RunRequest, SealRequest, SealedSnapshot, UnpackRequest,
};
use crate::image::Digest;

/// How to start a worker.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The program to execute; `/proc/self/exe` unless a test says otherwise.
    pub program: PathBuf,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self { program: PathBuf::from("/proc/self/exe") }
    }
}

/// A running worker. Methods block; any number of threads may call them at once.
///
/// Dropping it kills the worker and everything it started.
#[derive(Debug)]
pub struct Worker {}

/// A step that runs.
#[derive(Debug)]
pub struct Running {}

/// Cancels a step from any thread.
#[derive(Debug, Clone)]
pub struct Canceller {}

impl Worker {
    /// Starts the worker and waits until it is in its namespaces (2 to 4 ms).
    pub fn start(_options: &WorkerOptions) -> Result<Self> {
        todo!()
    }

    /// Returns the word that names the id mapping, for the store's snapshot paths.
    #[must_use]
    pub fn mapping(&self) -> &str {
        todo!()
    }

    /// Unpacks a layer: decompresses, verifies the diffID, writes the snapshot and its path index.
    pub fn unpack(&self, _request: UnpackRequest, _source: OwnedFd) -> Result<()> {
        todo!()
    }

    /// Runs a command and waits for its end. Afterwards `step_directory/upper` is its change set.
    pub fn run(&self, _request: RunRequest, _output: OwnedFd) -> Result<Exit> {
        todo!()
    }

    /// Starts a command without waiting, so that it can be cancelled.
    pub fn begin_run(&self, _request: RunRequest, _output: OwnedFd) -> Result<Running> {
        todo!()
    }

    /// Turns a change set into a layer, written to `output`, and a snapshot.
    pub fn seal(&self, _request: SealRequest, _output: OwnedFd) -> Result<SealedSnapshot> {
        todo!()
    }

    /// Returns the content key of what a `COPY --from` would copy.
    pub fn copy_digest(&self, _request: CopyFromRequest) -> Result<Digest> {
        todo!()
    }

    /// Makes a layer of files of another root file system, written to `output`.
    pub fn copy_from(&self, _request: CopyFromRequest, _output: OwnedFd) -> Result<SealedSnapshot> {
        todo!()
    }

    /// Deletes trees that only the namespace's root may delete. Absent ones are no error.
    pub fn remove(&self, _paths: Vec<PathBuf>) -> Result<()> {
        todo!()
    }

    /// Kills every running step; their requests end with [`super::Error::Canceled`].
    pub fn cancel_all(&self) {
        todo!()
    }
}

impl Running {
    /// Waits for the end of the command.
    pub fn wait(self) -> Result<Exit> {
        todo!()
    }

    /// Returns a handle that can cancel the step.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        todo!()
    }
}

impl Canceller {
    /// Kills the step with everything it started. Does nothing when it has ended.
    pub fn cancel(&self) {
        todo!()
    }
}
