//! `RUN` steps.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use serde_json::json;

use crate::event::{Event, StepId, StepOutcome};
use crate::sandbox::{self, Exit, RunFiles, RunRequest, SealRequest, Worker};

use super::Build;
use crate::build::Error;
use crate::build::cache;
use crate::build::layer::Layer;
use crate::build::plan::{Network, Run, Stage, Step};

/// How much of a failed step's last output goes into the error.
const TAIL_BYTES: usize = 8 << 10;

impl Build<'_> {
    pub(super) fn run(
        &self,
        stage: &Stage,
        step: &Step,
        run: &Run,
        layers: &[Layer],
    ) -> Result<(Layer, StepOutcome), Error> {
        let definition = json!({
            "run": run.args,
            "env": run.env.list(),
            "cwd": run.cwd,
            "user": run.user,
            "network": match run.network { Network::Host => "host", Network::None => "none" },
        });
        let preimage = Self::preimage(definition, layers, &stage.platform, Vec::new());
        if let Some(layer) = self.cached(stage, &preimage)? {
            return Ok((layer, StepOutcome::Cached));
        }
        let snapshots = self.snapshots(layers)?;
        let _slot = self.slots.take();
        if self.engine.cancel.is_requested() {
            return Err(Error::Canceled);
        }
        let layer = self.run_and_seal(step, run, layers, snapshots)?;
        cache::record(self.engine.store, &preimage, &layer)?;
        Ok((layer, StepOutcome::Done))
    }

    fn run_and_seal(
        &self,
        step: &Step,
        run: &Run,
        layers: &[Layer],
        snapshots: Vec<std::path::PathBuf>,
    ) -> Result<Layer, Error> {
        let worker = self.worker()?;
        let store = self.engine.store;
        let step_directory = store.snapshot_temporary(worker.mapping())?;
        let request = RunRequest {
            layers: snapshots,
            indexes: self.index_paths(layers),
            snapshots_directory: store.snapshots_directory(worker.mapping()),
            step_directory: step_directory.clone(),
            args: run.args.clone(),
            env: run.env.list().into_iter().chain(run.proxy_env.iter().cloned()).collect(),
            cwd: run.cwd.clone(),
            user: run.user.clone(),
            hostname: run.hostname.clone(),
            network: match run.network {
                Network::Host => sandbox::Network::Host,
                Network::None => sandbox::Network::None,
            },
            files: run_files(&run.hostname),
            ..RunRequest::default()
        };
        let layer = self
            .execute(worker, step, request)
            .and_then(|()| self.seal_upper(worker, &step_directory));
        // What is left of the step's directory is of no use to anybody, whatever the outcome.
        worker.remove(vec![step_directory])?;
        layer
    }

    /// Runs the command and passes its output on as it comes.
    fn execute(&self, worker: &Worker, step: &Step, request: RunRequest) -> Result<(), Error> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|source| Error::Io { what: "make a pipe", source: source.into() })?;
        let (exit, tail) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| self.pass_output(step.id, reader));
            let exit = worker.run(request, writer.into());
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

    /// Turns the step's change set into a layer and a snapshot.
    fn seal_upper(&self, worker: &Worker, step_directory: &Path) -> Result<Layer, Error> {
        let store = self.engine.store;
        let request = SealRequest {
            upper: step_directory.join("upper"),
            compression: crate::layer::Compression::default(),
            latest_mtime: None,
            snapshots_directory: store.snapshots_directory(worker.mapping()),
            paths_directory: store.paths_directory(),
        };
        self.keep_sealed(|output| worker.seal(request, output))
    }
}

/// Returns the files that a step finds in `/etc` and that never become part of a layer.
fn run_files(hostname: &str) -> RunFiles {
    // Without the host's file the step has no name service, which only matters if it asks for one.
    let resolv_conf = fs_err::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let hosts =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    RunFiles { resolv_conf, hosts }
}
