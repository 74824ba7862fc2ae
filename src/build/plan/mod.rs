//! What a build will do, decided before anything is done. Pure.
//!
//! Two phases, because the configuration of a base image decides what later words expand to:
//! [`Outline`] evaluates the global arguments, selects the stages that the target needs and says
//! which images must be resolved; [`Plan::new`] then walks the instructions with the bases'
//! configurations and gives every step, fully expanded, and every stage's final configuration.
//! A build for several platforms has an outline and a plan for each; [`Plan::merge`] joins them.

mod arguments;
mod contexts;
mod environment;
mod format;
mod globals;
mod merge;
mod names;
mod onbuild;
mod outline;
mod ports;
mod stage;
mod step;
mod walk;

use std::collections::BTreeMap;

use crate::image::{Descriptor, ImageConfig, Platform, Reference};

use super::Error;
use super::assemble::HistoryItem;
use super::layer::Layer;

pub use contexts::{NamedContext, context_key};
pub use environment::Environment;
pub use outline::{BaseImage, Outline, StageBase};
pub use ports::ports as exposed_ports;
pub use step::{
    Access, Copy, CopySource, Directory, MountedFile, Origin, Remote, Run, RunMount, Script,
    Security, Step, Unpack, Work,
};

/// What the user chose beside the Dockerfile.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--target`.
    pub target: Option<String>,
    /// What to build for.
    pub platform: Platform,
    /// Whether somebody asked for that platform. Otherwise the image is for what its base is for.
    pub platform_is_given: bool,
    /// Whether steps say which platform they are for: when the build is for several.
    pub names_platform: bool,
    /// What the build runs on.
    pub build_platform: Platform,
    /// What emulators of this machine execute beside it.
    pub emulated: Vec<Platform>,
    /// The named contexts by their [`context_key`].
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--label`, in order.
    pub labels: Vec<(String, String)>,
    /// `--network`.
    pub network: Network,
    /// `--add-host`: names and addresses, in order.
    pub hosts: Vec<(String, String)>,
    /// `--allow`.
    pub allowed: Allowed,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`: names of stages.
    pub no_cache_stages: Vec<String>,
}

impl PlanOptions {
    /// Returns the options of a build for `platform` for which nothing else was chosen.
    #[must_use]
    pub fn new(platform: Platform, build_platform: Platform) -> Self {
        Self {
            build_args: BTreeMap::new(),
            target: None,
            platform,
            platform_is_given: false,
            names_platform: false,
            build_platform,
            emulated: Vec::new(),
            contexts: BTreeMap::new(),
            labels: Vec::new(),
            network: Network::Host,
            hosts: Vec::new(),
            allowed: Allowed::default(),
            no_cache: false,
            no_cache_stages: Vec::new(),
        }
    }
}

/// The network of `RUN` steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The host's.
    Host,
    /// Only a loopback device.
    None,
}

/// What steps may ask for beyond the usual (`--allow`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowed {
    /// `network.host`: `RUN --network=host`.
    pub network_host: bool,
    /// `security.insecure`: `RUN --security=insecure`.
    pub security_insecure: bool,
}

/// A resolved base image.
#[derive(Debug, Clone)]
pub struct Base {
    /// Its name.
    pub reference: Reference,
    /// Its manifest for the platform.
    pub manifest: Descriptor,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers, bottom first, with the diffIDs of its configuration.
    pub layers: Vec<Layer>,
}

/// A whole build.
#[derive(Debug, Clone)]
pub struct Plan {
    /// All stages that the target needs, in the order of the file; a stage only needs earlier ones.
    pub stages: Vec<Stage>,
    /// The positions in `stages` of those that become images, one a platform, in the order asked for.
    pub targets: Vec<usize>,
    /// The resolved images that stages start from or copy from.
    pub bases: Vec<Base>,
    /// The build contexts that steps take files from, each once. The engine is given their
    /// directories in the same order.
    pub contexts: Vec<ContextName>,
}

/// Which build context.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContextName {
    /// The one that the command names.
    Main,
    /// That of `--build-context NAME=...`.
    Named(String),
}

/// One stage.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its name, or its number when it has none.
    pub name: String,
    /// What it starts from.
    pub base: StartingPoint,
    /// Its steps in order.
    pub steps: Vec<Step>,
    /// Its final configuration: with the starting point's history, without its own.
    pub config: ImageConfig,
    /// Its own history, in order; those of the stages it starts from are in front.
    pub history: Vec<HistoryItem>,
    /// What it is built for.
    pub platform: Platform,
    /// Whether recorded results are used: not with `--no-cache`, nor where `--no-cache-filter` names
    /// the stage.
    pub uses_cache: bool,
}

/// What a stage starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartingPoint {
    /// Nothing.
    Scratch,
    /// The image at this position of [`Plan::bases`].
    Image(usize),
    /// The stage at this position of [`Plan::stages`].
    Stage(usize),
}

impl Plan {
    /// Plans the build that `outline` selected, all of whose images are resolved.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the place in the Dockerfile.
    pub fn new(outline: Outline<'_>) -> Result<Self, Error> {
        walk::plan(outline)
    }

    /// Joins the plans of one Dockerfile for several platforms: the targets in the order of the
    /// plans, and what is the same in several of them once.
    #[must_use]
    pub fn merge(plans: Vec<Self>) -> Self {
        merge::merge(plans)
    }

    /// Returns the positions of the stages whose layers become those of the stage at `target`, the
    /// lowest first.
    #[must_use]
    pub fn chain(&self, target: usize) -> Vec<usize> {
        let mut chain = vec![target];
        let mut current = target;
        while let StartingPoint::Stage(below) = self.stages[current].base {
            chain.push(below);
            current = below;
        }
        chain.reverse();
        chain
    }

    /// Returns the base image that the image of the stage at `target` starts from.
    #[must_use]
    pub fn base_of(&self, target: usize) -> Option<&Base> {
        match self.stages[*self.chain(target).first()?].base {
            StartingPoint::Image(image) => self.bases.get(image),
            StartingPoint::Scratch | StartingPoint::Stage(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
