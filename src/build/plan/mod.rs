//! What a build will do, decided before anything is done. Pure.
//!
//! Two phases, because the configuration of a base image decides what later words expand to:
//! [`Outline::new`] evaluates the global arguments, selects the stages that the target needs and
//! says which images must be resolved; [`Plan::new`] then walks the instructions with the bases'
//! configurations and gives every step, fully expanded, and every stage's final configuration.

mod format;
mod outline;
mod ports;
mod stage;
mod walk;

use std::collections::BTreeMap;

use crate::dockerfile::{Dockerfile, Span};
use crate::event::StepId;
use crate::image::{Descriptor, ImageConfig, Platform, Reference};

use super::Error;
use super::assemble::HistoryItem;
use super::layer::Layer;

pub use outline::{BaseImage, Outline, StageBase};

/// What the user chose beside the Dockerfile.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--target`.
    pub target: Option<String>,
    /// What to build for.
    pub platform: Platform,
    /// What the build runs on.
    pub build_platform: Platform,
    /// `--label`, in order.
    pub labels: Vec<(String, String)>,
    /// `--network`.
    pub network: Network,
}

/// The network of `RUN` steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The host's.
    Host,
    /// Only a loopback device.
    None,
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
    /// The position in `stages` of the stage that becomes the image: always the last.
    pub target: usize,
    /// The resolved images that stages start from or copy from.
    pub bases: Vec<Base>,
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

/// One step: an instruction that makes a layer.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its number.
    pub id: StepId,
    /// How it is shown, as in `[build 2/5] RUN make`.
    pub name: String,
    /// Where it stands.
    pub span: Span,
    /// What it does.
    pub work: Work,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Work {
    /// `RUN`.
    Run(Run),
    /// `COPY` and `ADD`.
    Copy(Copy),
    /// `WORKDIR`: makes a directory.
    Directory(Directory),
}

/// A `RUN` step, ready to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Program and arguments.
    pub args: Vec<String>,
    /// The environment as `KEY=value`: that of the config and the arguments.
    pub env: Vec<String>,
    /// Proxy arguments that no `ARG` declares: given to the command, kept out of the key.
    pub proxy_env: Vec<String>,
    /// The directory it starts in.
    pub cwd: String,
    /// `USER`, empty for root.
    pub user: String,
    /// The network.
    pub network: Network,
}

/// A `COPY` or `ADD` step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// `ADD` or `COPY`.
    pub instruction: &'static str,
    /// Where the sources are.
    pub from: CopyFrom,
    /// The source paths and patterns, expanded.
    pub sources: Vec<String>,
    /// The absolute destination; a trailing slash means a directory.
    pub destination: String,
    /// `--chown`, expanded.
    pub chown: Option<String>,
    /// `--chmod`, expanded.
    pub chmod: Option<String>,
    /// Whether local archives are extracted.
    pub extract: bool,
}

/// Where a copy's sources are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFrom {
    /// In the build context.
    Context,
    /// In the stage at this position of [`Plan::stages`].
    Stage(usize),
    /// In the image at this position of [`Plan::bases`].
    Image(usize),
}

/// A `WORKDIR` step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The absolute path.
    pub path: String,
    /// `USER`, who owns what is made; empty for root.
    pub user: String,
}

impl Plan {
    /// Plans the build of `dockerfile` with the bases that `outline` asked for, in its order.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the place in the Dockerfile.
    pub fn new(
        dockerfile: &Dockerfile,
        options: &PlanOptions,
        outline: &Outline,
        bases: Vec<Base>,
    ) -> Result<Self, Error> {
        walk::plan(dockerfile, options, outline, bases)
    }

    /// Returns the positions of the stages whose layers become the image's, the lowest first.
    #[must_use]
    pub fn final_chain(&self) -> Vec<usize> {
        let mut chain = vec![self.target];
        let mut current = self.target;
        while let StartingPoint::Stage(below) = self.stages[current].base {
            chain.push(below);
            current = below;
        }
        chain.reverse();
        chain
    }

    /// Returns the base image that the final image starts from.
    #[must_use]
    pub fn final_base(&self) -> Option<&Base> {
        match self.stages[*self.final_chain().first()?].base {
            StartingPoint::Image(image) => self.bases.get(image),
            StartingPoint::Scratch | StartingPoint::Stage(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
