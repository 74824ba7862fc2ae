//! What a build is asked for, and what it answers.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::build::{Allowed, Annotations, Explain, Network, Shells, context_key};
use crate::image::{Descriptor, Digest, Platform, Reference};
use crate::operations::PullPolicy;
use crate::operations::publish::Traffic;

use crate::sandbox::Limit;

use super::agents::AgentSource;
use super::cache::{CacheFrom, CacheTo};
use super::location::ContextLocation;
use super::outputs::Output;
use super::secrets::SecretSource;

/// What to build, and what to do with the result.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The build context.
    pub context: ContextLocation,
    /// `--build-context`: names and places.
    pub named_contexts: Vec<(String, ContextLocation)>,
    /// Where the Dockerfile is.
    pub dockerfile: DockerfileSource,
    /// Names of the result.
    pub names: Vec<Reference>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--target`.
    pub target: Option<String>,
    /// `--platform`; empty for that of this machine, or whatever the base is for.
    pub platforms: Vec<Platform>,
    /// `--label`.
    pub labels: Vec<(String, String)>,
    /// Whether misses are explained.
    pub explain: Explain,
    /// `--cache-from`.
    pub cache_from: Vec<CacheFrom>,
    /// `--cache-to`.
    pub cache_to: Vec<CacheTo>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`: names of stages.
    pub no_cache_stages: Vec<String>,
    /// `--pull`.
    pub pull: PullPolicy,
    /// `--network`.
    pub network: Network,
    /// `--add-host`: names and addresses.
    pub hosts: Vec<(String, String)>,
    /// `--allow`.
    pub allowed: Allowed,
    /// `--secret`.
    pub secrets: Vec<SecretSource>,
    /// `--ssh`.
    pub agents: Vec<AgentSource>,
    /// `--shm-size`, in bytes.
    pub shm_bytes: Option<u64>,
    /// `--ulimit`.
    pub limits: Vec<Limit>,
    /// Who opens a shell where a step fails (`--shell-on-error`).
    pub shells: Option<Arc<dyn Shells>>,
    /// What becomes of the result.
    pub delivery: Delivery,
    /// `--reproducible`.
    pub reproducible: bool,
    /// `--lock-file`; without it, the one beside the Dockerfile counts.
    pub lock_file: Option<PathBuf>,
    /// `--locked`: what the lock file lacks is an error.
    pub locked: bool,
}

/// What becomes of a build's result.
#[derive(Debug, Clone, Default)]
pub struct Delivery {
    /// `-o`, in order.
    pub outputs: Vec<Output>,
    /// `--push`.
    pub push: bool,
    /// `--load`.
    pub load: bool,
    /// `--squash`.
    pub squash: bool,
    /// `--annotation`.
    pub annotations: Annotations,
    /// Where outputs to standard output go; `None` for a terminal, which takes none.
    pub stdout: Option<Arc<File>>,
}

impl BuildRequest {
    /// Returns the request to build `context` for which nothing else was chosen.
    #[must_use]
    pub fn new(context: ContextLocation) -> Self {
        Self {
            context,
            named_contexts: Vec::new(),
            dockerfile: DockerfileSource::Default,
            names: Vec::new(),
            build_args: BTreeMap::new(),
            target: None,
            platforms: Vec::new(),
            labels: Vec::new(),
            explain: Explain::Nothing,
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            no_cache: false,
            no_cache_stages: Vec::new(),
            pull: PullPolicy::Missing,
            network: Network::Host,
            hosts: Vec::new(),
            allowed: Allowed::default(),
            secrets: Vec::new(),
            agents: Vec::new(),
            shm_bytes: None,
            limits: Vec::new(),
            shells: None,
            delivery: Delivery::default(),
            reproducible: false,
            lock_file: None,
            locked: false,
        }
    }

    /// Returns the named context of a key; the last of a name counts.
    pub(super) fn named_context(&self, key: &str) -> Option<&ContextLocation> {
        let is_meant = |name: &str| context_key(name).is_ok_and(|other| other == key);
        let found = self.named_contexts.iter().rev().find(|(name, _)| is_meant(name));
        found.map(|(_, location)| location)
    }
}

/// Where a Dockerfile comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfileSource {
    /// `Dockerfile` in the context.
    Default,
    /// This file: of this machine, or of the context when that comes from elsewhere and the path is
    /// relative.
    File(PathBuf),
    /// What this URL gives.
    Url(String),
    /// These bytes, which came through standard input.
    Stdin(Vec<u8>),
}

/// What a build made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BuildReport {
    /// The image; `None` when only files were asked for. Of several, the last in store or registry.
    pub image: Option<ImageReport>,
    /// The names under which it was published.
    pub published: Vec<Reference>,
    /// What was published; `None` without a push.
    pub traffic: Option<Traffic>,
}

/// An image that a build made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReport {
    /// The manifest, or the index of several platforms.
    pub descriptor: Descriptor,
    /// The image of each platform, in the order asked for.
    pub images: Vec<BuiltImage>,
    /// Its names.
    pub names: Vec<Reference>,
    /// Whether the store has it.
    pub is_stored: bool,
}

/// The image of one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// What it is for.
    pub platform: Platform,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its config, whose digest is the image id.
    pub config: Descriptor,
}

impl ImageReport {
    /// Returns the image id: the config's digest, or the index's.
    #[must_use]
    pub fn id(&self) -> &Digest {
        match self.images.as_slice() {
            [image] => &image.config.digest,
            _ => &self.descriptor.digest,
        }
    }
}
