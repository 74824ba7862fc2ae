//! A command of a step: started, listened to, and replaced by a shell when it failed.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use crate::build::Error;
use crate::build::engine::Build;
use crate::build::plan::{Stage, Step};
use crate::event::{Event, StepId};
use crate::sandbox::{ChangeSet, Exit, Handover, Passed, RunRequest, StepIo, Worker};

use super::mounts::Mounts;

/// How much of a failed step's last output goes into the error.
const TAIL_BYTES: usize = 8 << 10;

/// The shell when the stage names none.
const SHELL: &str = "/bin/sh";

/// Lets the user work in the file system of a step that failed (`--shell-on-error`).
pub trait Shells: Send + Sync + std::fmt::Debug {
    /// Connects the user with `terminal`, the master side of a terminal, until that ends. `reason`
    /// says why the step failed. Blocks.
    fn attach(&self, terminal: OwnedFd, reason: &str);
}

impl Build<'_> {
    /// Runs the command and passes its output on as it comes.
    pub(super) fn execute(
        &self,
        worker: &Worker,
        step: &Step,
        request: RunRequest,
        mounts: &Mounts,
    ) -> Result<(), Error> {
        let (reader, writer) = pipe()?;
        let (exit, tail) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| self.pass_output(step.id, reader));
            let exit = run_with(worker, request, writer, mounts, &|_| {});
            (exit, reader.join().unwrap_or_default())
        });
        let reason = match exit? {
            Exit::Code(0) => return Ok(()),
            Exit::Code(code) => format!("the command did not complete: exit code {code}"),
            Exit::Signal(signal) => format!("the command was killed by signal {signal}"),
        };
        let output = String::from_utf8_lossy(&tail).into_owned();
        Err(Error::StepFailed { reason, span: step.span, output })
    }

    fn pass_output(&self, step: StepId, reader: OwnedFd) -> Vec<u8> {
        let mut reader = std::fs::File::from(reader);
        let mut buffer = vec![0; 64 << 10];
        let mut tail = Vec::new();
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            let bytes = &buffer[..count];
            tail.extend_from_slice(bytes);
            let surplus = tail.len().saturating_sub(TAIL_BYTES);
            tail.drain(..surplus);
            self.engine.sink.emit(Event::StepOutput { step, bytes: bytes.to_vec() });
        }
        tail
    }

    /// Opens a shell where a command has failed, if the user wants that: once a build, after all
    /// other steps were stopped.
    pub(super) fn offer_shell(
        &self,
        worker: &Worker,
        stage: &Stage,
        failed: RunRequest,
        mounts: &Mounts,
        error: &Error,
    ) {
        let (Some(shells), Error::StepFailed { reason, .. }) = (self.engine.shells, error) else {
            return;
        };
        if self.engine.cancel.is_requested() || self.has_shell.swap(true, Ordering::SeqCst) {
            return;
        }
        self.engine.cancel.cancel();
        let shell = stage.config.config.shell.as_ref().and_then(|shell| shell.first());
        let mut request = RunRequest {
            args: vec![shell.map_or(SHELL, String::as_str).to_owned()],
            change_set: ChangeSet::Kept,
            has_terminal: true,
            ..failed
        };
        if !request.env.iter().any(|entry| entry.starts_with("TERM=")) {
            request.env.push("TERM=xterm".to_owned());
        }
        let opened = pipe().and_then(|(_reader, writer)| {
            run_with(worker, request, writer, mounts, &|terminal| shells.attach(terminal, reason))
        });
        if let Err(error) = opened {
            let text = format!("the shell after the failed step could not run: {error}");
            self.engine.sink.emit(Event::Warning { text });
        }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|source| Error::Io { what: "make a pipe", source: source.into() })
}

/// Runs a command with its secrets, answers at its agents' sockets while it runs, and gives its
/// terminal, if it has one, to `attach`.
fn run_with(
    worker: &Worker,
    request: RunRequest,
    output: OwnedFd,
    mounts: &Mounts,
    attach: &(dyn Fn(OwnedFd) + Sync),
) -> Result<Exit, Error> {
    let secrets = mounts.secrets()?;
    if mounts.agents.is_empty() && !request.has_terminal {
        return Ok(worker.run(request, StepIo { output, secrets, handover: None })?);
    }
    let (handover, steps_end) = Handover::pair()?;
    let (stop, running) = pipe()?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok(Some(passed)) = handover.next() {
                match passed {
                    Passed::Agent { mount, listener } => {
                        if let Ok(stop) = stop.try_clone() {
                            scope.spawn(move || mounts.serve(mount, &listener, &stop));
                        }
                    }
                    Passed::Terminal(terminal) => attach(terminal),
                }
            }
        });
        let exit = worker.run(request, StepIo { output, secrets, handover: Some(steps_end) });
        drop(running);
        Ok(exit?)
    })
}
