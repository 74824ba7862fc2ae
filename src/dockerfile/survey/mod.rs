//! Walks a file's stages with the values that a build would have, without building: what checks and
//! the listing of a target's parameters need.
//!
//! The walk keeps variables and little else. It never fails: what does not expand is the planner's
//! to refuse.

mod globals;
mod parameters;
mod stage;

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::lint::Linter;
use crate::dockerfile::source::Span;
use crate::ignore::Patterns;

pub(crate) use globals::Globals;
pub use parameters::{Argument, Mounted, Parameters};
use stage::{Facts, Walk};

/// What a build has beside its Dockerfile.
pub struct Surroundings<'a> {
    /// The build arguments that the user gave.
    pub build_args: &'a BTreeMap<String, String>,
    /// The predefined arguments of the global scope, such as `TARGETPLATFORM`.
    pub predefined: &'a [(String, String)],
    /// What the base images bring, by the number of the stage that starts from them. A stage that
    /// is missing here starts from nothing.
    pub bases: &'a BTreeMap<usize, BaseFacts>,
    /// The stages whose instructions are looked at; all when there is none.
    pub stages: Option<&'a BTreeSet<usize>>,
    /// The base images that are for another platform than was asked for.
    pub other_platforms: &'a [OtherPlatform],
    /// The ignore file of the build context.
    pub ignored: &'a Patterns,
    /// Whether a text is an image reference.
    pub is_reference: &'a dyn Fn(&str) -> bool,
}

/// What a base image brings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BaseFacts {
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Whether it sets a shell.
    pub has_shell: bool,
    /// Its triggers.
    pub on_build: Vec<String>,
}

/// A base image that is for another platform than was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherPlatform {
    /// Its name as written.
    pub image: String,
    /// What was asked for.
    pub expected: String,
    /// What it is for.
    pub actual: String,
    /// Where the Dockerfile names it.
    pub span: Span,
}

/// Walks the stages that are looked at, in the order of the file.
pub(crate) fn walk(
    file: &Dockerfile,
    surroundings: &Surroundings<'_>,
    linter: &mut Linter,
) -> Vec<Facts> {
    let globals = Globals::of(file, surroundings.predefined, surroundings.build_args);
    let mut stages: Vec<Facts> = Vec::new();
    for number in 0..file.stages.len() {
        let mut walk = Walk::new(file, surroundings, &globals, number, &stages);
        let is_wanted = surroundings.stages.is_none_or(|wanted| wanted.contains(&number));
        let facts = if is_wanted { walk.run(linter) } else { Facts::default() };
        stages.push(facts);
    }
    stages
}
