//! What a build is asked for, and what it answers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::build::{Allowed, Network};
use crate::image::{Descriptor, Platform, Reference};
use crate::operations::PullPolicy;
use crate::operations::publish::Traffic;

use super::location::ContextLocation;

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
    /// Whether the result is pushed to all names.
    pub push: bool,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildReport {
    /// The image's manifest.
    pub manifest: Descriptor,
    /// The image's config, whose digest is the image id.
    pub config: Descriptor,
    /// The names that it has now.
    pub names: Vec<Reference>,
    /// What was published; `None` without a push.
    pub traffic: Option<Traffic>,
}
