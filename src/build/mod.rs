//! Builds: a plan made of a Dockerfile, and the engine that carries it out.
//!
//! [`Outline`] and [`Plan`] decide, without touching anything, what is to be done; [`Engine`] does it,
//! step by step, with a cache of earlier results; [`assemble()`] makes config and manifest.
//! Registries, terminals and the files of the command line do not belong here: base layers come
//! through [`Bases`], sealed layers go out through [`Observer`].
//!
//! What instructions do follows the Dockerfile reference and BuildKit's frontend 1.26.

mod assemble;
mod cache;
mod context;
mod engine;
mod error;
mod form;
mod layer;
mod owner;
mod plan;
mod provisions;
mod slots;

pub use assemble::{HistoryItem, Image, Parts, assemble};
pub use cache::{Preimage, Record, recorded_layer};
pub use context::Context;
pub use engine::{
    Bases, CacheEntry, Caches, Cancel, Engine, Explain, Fetched, Growth, NoCaches, Observer,
    Remotes, Shells, StageResult,
};
pub use error::Error;
pub use form::{
    Annotation, AnnotationPlace, Annotations, Compressed, Form, MediaTypes, NewLayers, date,
};
pub use layer::Layer;
pub use plan::{
    Access, Allowed, Base, BaseImage, ContextName, Copy, CopySource, Directory, Environment,
    MountedFile, NamedContext, Network, Origin, Outline, Plan, PlanOptions, Remote, Run, RunMount,
    Script, Security, Stage, StageBase, StartingPoint, Step, Unpack, Work, context_key,
    exposed_ports,
};
pub use provisions::{Provisions, Secrets};
