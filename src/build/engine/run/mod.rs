//! `RUN` steps.

mod agents;
mod caches;
mod execution;
mod mounts;

use std::path::{Path, PathBuf};

use crate::event::StepOutcome;
use crate::image::Digest;
use crate::sandbox::{self, RunFiles, RunRequest, SealRequest, Worker};

use super::missing::explain;
use super::{Build, Stack};
use crate::build::Error;
use crate::build::cache;
use crate::build::layer::Layer;
use crate::build::plan::{Network, Origin, Run, RunMount, Security, Stage, Step};
use mounts::Mounts;

pub use execution::Shells;

impl Build<'_> {
    pub(super) fn run(
        &self,
        stage: &Stage,
        step: &Step,
        run: &Run,
        layers: &Stack,
    ) -> Result<(Layer, StepOutcome), Error> {
        self.run_or_reuse(stage, step, run, layers).map_err(|error| match error {
            Error::Sandbox(
                sandbox::Error::MountSourceNotFound { path }
                | sandbox::Error::CopySourceNotFound { pattern: path },
            ) => Error::refused(format!("\"{path}\": not found"), step.span),
            error => explain(self.bound_context(run), step, error),
        })
    }

    /// Its definition key was looked up before; this is the key by the content of what is mounted.
    fn run_or_reuse(
        &self,
        stage: &Stage,
        step: &Step,
        run: &Run,
        layers: &Stack,
    ) -> Result<(Layer, StepOutcome), Error> {
        let definition = cache::work_of(&step.work);
        let key = Self::preimage(definition, layers, &stage.platform, self.contents(run)?);
        if let Some(layer) = self.cached(stage, &key)? {
            return Ok((layer, StepOutcome::Cached));
        }
        let snapshots = self.snapshots(layers)?;
        // Before the slot: who waits for a cache keeps nobody from working.
        let (mounts, _leases) = self.mounts(step, run)?;
        let _slot = self.slots.take();
        if self.engine.cancel.is_requested() {
            return Err(Error::Canceled);
        }
        let request = self.run_request(run, layers, snapshots, &mounts)?;
        let layer = self.run_and_seal(stage, step, request, &mounts)?;
        cache::record(self.engine.store, &key, &layer)?;
        Ok((layer, StepOutcome::Done))
    }

    /// Returns the digests of what the step's mounts bring in, in their order.
    fn contents(&self, run: &Run) -> Result<Vec<Digest>, Error> {
        let contents = run.mounts.iter().filter_map(|mount| match mount {
            RunMount::Bind { from, source, .. } => Some(self.content_of(*from, source)),
            RunMount::Cache { from: Some(from), source, .. } => {
                Some(self.seed_digest(*from, source))
            }
            _ => None,
        });
        contents.collect()
    }

    fn bound_context(&self, run: &Run) -> Option<&crate::build::Context> {
        run.mounts.iter().find_map(|mount| match mount {
            RunMount::Bind { from: Origin::Context(position), .. }
            | RunMount::Cache { from: Some(Origin::Context(position)), .. } => {
                self.engine.contexts.get(*position)
            }
            _ => None,
        })
    }

    fn run_request(
        &self,
        run: &Run,
        layers: &Stack,
        snapshots: Vec<PathBuf>,
        mounts: &Mounts,
    ) -> Result<RunRequest, Error> {
        let store = self.engine.store;
        let mapping = self.worker()?.mapping();
        let mut env: Vec<String> =
            run.env.list().into_iter().chain(run.proxy_env.iter().cloned()).collect();
        if let Some(socket) = &mounts.agent_target
            && !env.iter().any(|entry| entry.starts_with("SSH_AUTH_SOCK="))
        {
            env.push(format!("SSH_AUTH_SOCK={socket}"));
        }
        Ok(RunRequest {
            layers: snapshots,
            indexes: self.index_paths(layers),
            snapshots_directory: store.snapshots_directory(mapping),
            step_directory: store.snapshot_temporary(mapping)?,
            args: run.args.clone(),
            env,
            secret_env: mounts.secret_env.clone(),
            cwd: run.cwd.clone(),
            user: run.user.clone(),
            hostname: run.hostname.clone(),
            network: match run.network {
                Network::Host => sandbox::Network::Host,
                Network::None => sandbox::Network::None,
            },
            security: match run.security {
                Security::Sandbox => sandbox::Security::Sandbox,
                Security::Insecure => sandbox::Security::Insecure,
            },
            files: run_files(run),
            mounts: mounts.list.clone(),
            shm_bytes: self.engine.provisions.shm_bytes,
            limits: self.engine.provisions.limits.clone(),
            ..RunRequest::default()
        })
    }

    fn run_and_seal(
        &self,
        stage: &Stage,
        step: &Step,
        request: RunRequest,
        mounts: &Mounts,
    ) -> Result<Layer, Error> {
        let worker = self.worker()?;
        let step_directory = request.step_directory.clone();
        let layer = self
            .execute(worker, step, request.clone(), mounts)
            .inspect_err(|error| self.offer_shell(worker, stage, request, mounts, error))
            .and_then(|()| self.seal_upper(worker, &step_directory));
        // What is left of the step's directory is of no use to anybody, whatever the outcome.
        worker.remove(vec![step_directory])?;
        layer
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
fn run_files(run: &Run) -> RunFiles {
    // Without the host's file the step has no name service, which only matters if it asks for one.
    let resolv_conf = fs_err::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut hosts = format!(
        "127.0.0.1\tlocalhost {}\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        run.hostname
    );
    for (name, address) in &run.hosts {
        hosts.extend([address, "\t", name, "\n"]);
    }
    RunFiles { resolv_conf, hosts }
}
