//! `mirror`: brings a declared state about, image by image.
//!
//! [`input`] reads the file, [`survey`] lists what registries have and makes the jobs, [`run`] does
//! them side by side through one [`Carrier`](super::Carrier), [`plan`] says what they would cost.
//! Nothing is kept that a registry could tell: an image whose name is the same on both sides is done,
//! because names come last. [`state`] remembers what registries cannot tell: tags that never change,
//! and what an index became of which some platforms were taken.

mod input;
mod plan;
mod removal;
mod run;
mod state;
mod survey;

pub use input::MirrorInput;
pub use plan::{MirrorPlan, MirrorStep, QuotaCost, Reading, plan_mirror};
pub use removal::ExtraTags;
pub use run::{MirrorItem, MirrorOutcome, MirrorReport, Quota, Recheck, mirror};
