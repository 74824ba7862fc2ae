//! What a target can be given: arguments, secrets, ssh agents.

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::lint::Linter;
use crate::dockerfile::source::Span;
use crate::dockerfile::survey::stage::Facts;
use crate::dockerfile::survey::{Globals, Surroundings, walk};

/// What the build of a target can be given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parameters {
    /// The target's name.
    pub name: Option<String>,
    /// What the comments above it say.
    pub description: Option<String>,
    /// The arguments that it uses, in the order of the file.
    pub arguments: Vec<Argument>,
    /// The secrets that its steps mount.
    pub secrets: Vec<Mounted>,
    /// The ssh agents that its steps mount.
    pub ssh: Vec<Mounted>,
}

/// A build argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its value in this build; empty when it has none.
    pub value: String,
    /// What the comments above it say.
    pub description: Option<String>,
    /// The whole `ARG`.
    pub location: Span,
}

/// A secret or ssh agent that a step mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Its id.
    pub name: String,
    /// Whether the step fails without it.
    pub is_required: bool,
    /// The whole `RUN`.
    pub location: Span,
}

impl Dockerfile {
    /// Returns what the build of the stage with this number can be given.
    #[must_use]
    pub fn parameters(&self, surroundings: &Surroundings<'_>, target: usize) -> Parameters {
        let globals = Globals::of(self, surroundings.predefined, surroundings.build_args);
        let stages = walk(self, surroundings, &mut Linter::deaf());
        let mut parameters = Parameters::default();
        if let Some(stage) = self.stages.get(target) {
            parameters.name = stage.name.as_ref().map(ToString::to_string);
            parameters.description.clone_from(&stage.description);
        }
        let mut arguments = BTreeMap::new();
        let mut open = vec![target];
        let mut seen = BTreeSet::new();
        while let Some(number) = open.pop() {
            let Some(facts) = stages.get(number).filter(|_| seen.insert(number)) else { continue };
            used(facts, &globals, &mut arguments);
            merge(&mut parameters.secrets, &facts.secrets);
            merge(&mut parameters.ssh, &facts.ssh);
            // The one it starts from comes before those it takes files from.
            open.extend(facts.needs.iter());
        }
        parameters.arguments = arguments.into_values().collect();
        parameters.arguments.sort_by_key(|argument| argument.location);
        parameters.secrets.sort_by_key(|mounted| mounted.location);
        parameters.ssh.sort_by_key(|mounted| mounted.location);
        parameters
    }
}

/// Adds the arguments that a stage uses, and the global ones that these depend on.
fn used(facts: &Facts, globals: &Globals, arguments: &mut BTreeMap<String, Argument>) {
    let mut open: Vec<&String> = facts.used.iter().collect();
    let mut seen: BTreeSet<&String> = BTreeSet::new();
    while let Some(name) = open.pop() {
        if !seen.insert(name) {
            continue;
        }
        let global = globals.declared.get(name);
        open.extend(global.iter().flat_map(|global| &global.uses));
        let argument = facts.arguments.get(name).or(global.map(|global| &global.argument));
        if let Some(argument) = argument {
            arguments.entry(name.clone()).or_insert_with(|| argument.clone());
        }
    }
}

/// Adds what is not there yet; required by one is required.
fn merge(into: &mut Vec<Mounted>, from: &[Mounted]) {
    for mounted in from {
        match into.iter_mut().find(|known| known.name == mounted.name) {
            Some(known) => known.is_required |= mounted.is_required,
            None => into.push(mounted.clone()),
        }
    }
}
