//! The mounts of a step, from what the plan says to what the worker mounts.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::agents;
use crate::build::Error;
use crate::build::engine::Build;
use crate::build::layer::Layer;
use crate::build::plan::{Access, MountedFile, Origin, Run, RunMount, Step};
use crate::build::provisions::Secrets;
use crate::sandbox::{FileOwner, MountAccess, MountSource, SecretPart, SecretVariable, StepMount};
use crate::store::CacheLease;

/// The directory of here-documents that are programs.
const SCRIPTS: &str = "/dev/pipes";

/// What a step mounts.
#[derive(Default)]
pub(super) struct Mounts {
    /// In the order in which they are mounted.
    pub(super) list: Vec<StepMount>,
    pub(super) secret_env: Vec<SecretVariable>,
    /// The agent that answers at the socket of the mount with this number.
    pub(super) agents: HashMap<usize, PathBuf>,
    /// `SSH_AUTH_SOCK`, unless the environment has it.
    pub(super) agent_target: Option<String>,
    secrets: SecretBytes,
}

/// The use of a step's caches.
pub(super) type Leases = Vec<Arc<CacheLease>>;

/// Files of a stack of snapshots.
pub(super) struct Tree {
    pub(super) layers: Vec<PathBuf>,
    pub(super) indexes: Vec<PathBuf>,
    pub(super) path: String,
}

impl Build<'_> {
    /// Gets ready what `run` mounts; waits for caches that others use. Their leases must live as
    /// long as the step runs.
    pub(super) fn mounts(&self, step: &Step, run: &Run) -> Result<(Mounts, Leases), Error> {
        let provisions = &self.engine.provisions;
        let mut caches = HashMap::new();
        let mut ready = Mounts::default();
        let mut leases = Vec::new();
        for (position, lease) in self.lease_caches(step, &run.mounts)? {
            caches.insert(position, lease.directory().to_owned());
            leases.push(lease);
        }
        let mut agents = HashMap::new();
        for (position, mount) in run.mounts.iter().enumerate() {
            match mount {
                RunMount::Bind { target, from, source, access } => {
                    let Tree { layers, indexes, path } = self.tree(*from, source)?;
                    let access = access_of(*access);
                    ready.add(target, MountSource::Tree { layers, indexes, path, access });
                }
                RunMount::Cache { target, access, .. } => {
                    let Some(path) = caches.remove(&position) else { continue };
                    ready.add(target, MountSource::Directory { path, access: access_of(*access) });
                }
                RunMount::Tmpfs { target, size_bytes } => {
                    ready.add(target, MountSource::Tmpfs { size_bytes: *size_bytes });
                }
                RunMount::Secret { id, file, env, .. } => {
                    ready.secret(&provisions.secrets, id, file.as_ref(), env.as_deref());
                }
                RunMount::Ssh { id, socket, .. } => {
                    ready.agent_target.get_or_insert_with(|| socket.target.clone());
                    if let Some(agent) = provisions.agents.get(id) {
                        agents.insert(socket.target.clone(), agent.clone());
                        ready.add(&socket.target, MountSource::Agent { owner: owner_of(socket) });
                    }
                }
            }
        }
        if let Some(script) = &run.script {
            let name = script.path.rsplit('/').next().unwrap_or_default().to_owned();
            let files = vec![(name, script.content.clone())];
            ready.add(SCRIPTS, MountSource::Scripts { files });
        }
        // As BuildKit does it: a mount below another one comes after it.
        ready.list.sort_by(|a, b| a.target.cmp(&b.target));
        for (number, mount) in ready.list.iter().enumerate() {
            if let (MountSource::Agent { .. }, Some(agent)) =
                (&mount.source, agents.get(&mount.target))
            {
                ready.agents.insert(number, agent.clone());
            }
        }
        Ok((ready, leases))
    }

    /// Returns the snapshots that hold `source` of `from`.
    pub(super) fn tree(&self, from: Origin, source: &str) -> Result<Tree, Error> {
        if let Origin::Context(position) = from {
            let files = self.context_files(position, source)?;
            let path = format!("/{}", files.path.display());
            return Ok(Tree { layers: vec![files.snapshot], indexes: vec![files.index], path });
        }
        let layers = self.source_layers(from)?;
        let snapshots = self.snapshots(&layers)?;
        let indexes = self.index_paths(&layers);
        Ok(Tree { layers: snapshots, indexes, path: source.to_owned() })
    }

    /// Returns the layers of a stage or image; waits for the stage.
    pub(super) fn source_layers(&self, from: Origin) -> Result<Vec<Layer>, Error> {
        match from {
            Origin::Context(_) => Ok(Vec::new()),
            Origin::Stage(position) => self.wait_for(position),
            Origin::Image(image) => Ok(self.plan.bases[image].layers.clone()),
        }
    }
}

impl Mounts {
    fn add(&mut self, target: &str, source: MountSource) {
        self.list.push(StepMount { target: target.to_owned(), source });
    }

    fn secret(
        &mut self,
        secrets: &Secrets,
        id: &str,
        file: Option<&MountedFile>,
        env: Option<&str>,
    ) {
        // One that is required and missing was refused before; any other is silently absent.
        let Some(value) = secrets.expose(id) else { return };
        let part = self.secrets.add(value);
        if let Some(file) = file {
            self.add(&file.target, MountSource::Secret { part, owner: owner_of(file) });
        }
        if let Some(name) = env {
            self.secret_env.push(SecretVariable { name: name.to_owned(), part });
        }
    }

    /// Returns a sealed descriptor with the secrets, if there are any.
    pub(super) fn secrets(&self) -> Result<Option<OwnedFd>, Error> {
        let has_secrets = !self.secret_env.is_empty()
            || self.list.iter().any(|mount| matches!(mount.source, MountSource::Secret { .. }));
        if !has_secrets {
            return Ok(None);
        }
        let sealed = self.secrets.sealed();
        sealed.map(Some).map_err(|source| Error::Io { what: "keep secrets in memory", source })
    }

    /// Answers at the socket of a mount until it is told to stop.
    pub(super) fn serve(
        &self,
        mount: usize,
        listener: &std::os::unix::net::UnixListener,
        stop: &OwnedFd,
    ) {
        if let Some(agent) = self.agents.get(&mount) {
            agents::serve(listener, agent, stop);
        }
    }
}

/// The values of a step's secrets, one after another.
#[derive(Default)]
struct SecretBytes(zeroize::Zeroizing<Vec<u8>>);

impl SecretBytes {
    fn add(&mut self, value: &[u8]) -> SecretPart {
        let offset = self.0.len();
        // Grown by hand: a growing vector leaves its old bytes behind.
        let mut whole = zeroize::Zeroizing::new(Vec::with_capacity(offset + value.len()));
        whole.extend_from_slice(&self.0);
        whole.extend_from_slice(value);
        self.0 = whole;
        SecretPart { offset: offset as u64, length: value.len() }
    }

    fn sealed(&self) -> std::io::Result<OwnedFd> {
        let memory = memfd_create("secrets", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = std::fs::File::from(memory);
        file.write_all(&self.0)?;
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        fcntl_add_seals(&file, seals)?;
        Ok(file.into())
    }
}

fn access_of(access: Access) -> MountAccess {
    match access {
        Access::ReadOnly => MountAccess::ReadOnly,
        Access::ReadWrite => MountAccess::ReadWrite,
    }
}

fn owner_of(file: &MountedFile) -> FileOwner {
    let MountedFile { mode, uid, gid, .. } = file;
    FileOwner { mode: *mode, uid: *uid, gid: *gid }
}
