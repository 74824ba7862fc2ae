//! Everything that happens inside the user namespace: the worker process and how to talk to it.
//!
//! The worker is this program re-executed. It enters a user namespace and a mount namespace and does
//! what must happen under mapped ids: unpack layers, mount stacks of them, run commands, and turn
//! the change sets into layers. Images, registries, credentials and the meaning of Dockerfiles do
//! not belong here. Main types: [`Worker`] (the outer side's handle), the requests, and [`Exit`].
//!
//! The worker is two processes in one pair of namespaces. The *runner* has one thread for its
//! whole life: it starts the steps, because what is between `clone3` and `execve` may then use
//! memory freely, and because a parent-death signal follows the forking thread. The *filer* works on
//! files in many threads. Either one's death ends the other, and every pending request with an error.

mod cache_mount;
mod error;
mod filer;
mod handover;
mod id_map;
mod mounts;
mod protocol;
mod request;
mod runner;
mod seccomp;
mod stack;
mod step;
mod streams;
mod stubs;
mod sys;
mod user;
mod wire;
mod worker;

pub use cache_mount::{CacheSeed, MakeCacheRequest};
pub use error::{Error, Isolation};
pub use handover::{Handover, Passed};
pub use protocol::{CopyFromRequest, Exit, SealRequest, UnpackRequest};
pub use request::{
    ChangeSet, FileOwner, Limit, LimitedResource, MountAccess, MountSource, Network, RunFiles,
    RunRequest, SecretPart, SecretVariable, Security, StepMount,
};
pub use worker::{Canceller, Running, StepIo, Worker, WorkerOptions};

use std::process::ExitCode;

/// The name (`argv[0]`) under which this program is executed to be the worker.
const WORKER_NAME: &str = "rpub-worker";

/// A result of this room.
pub type Result<T> = std::result::Result<T, Error>;

/// Runs the worker and returns its exit code when this process was started to be one.
///
/// Must be the first thing `main` does, before any thread is started: the worker changes namespaces.
#[must_use]
pub fn worker_main_if_asked() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    (name == WORKER_NAME).then(runner::main)
}
