//! Several plans as one.

use std::collections::HashMap;

use crate::event::StepId;

use super::{Base, ContextName, Origin, Plan, RunMount, Stage, StartingPoint, Work};

/// Joins plans; what several of them have in common is there once.
pub(super) fn merge(plans: Vec<Plan>) -> Plan {
    let mut merged =
        Plan { stages: Vec::new(), targets: Vec::new(), bases: Vec::new(), contexts: Vec::new() };
    let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
    for plan in plans {
        let places = Places {
            bases: plan.bases.into_iter().map(|base| base_place(&mut merged.bases, base)).collect(),
            contexts: plan
                .contexts
                .into_iter()
                .map(|name| context_place(&mut merged.contexts, name))
                .collect(),
            stages: Vec::with_capacity(plan.stages.len()),
        };
        let mut places = places;
        for mut stage in plan.stages {
            places.adjust(&mut stage);
            let known = by_name.entry(stage.name.clone()).or_default();
            let same = known.iter().copied().find(|at| is_same(&merged.stages[*at], &stage));
            let place = same.unwrap_or_else(|| {
                known.push(merged.stages.len());
                merged.stages.push(stage);
                merged.stages.len() - 1
            });
            places.stages.push(place);
        }
        merged.targets.extend(plan.targets.iter().map(|target| places.stages[*target]));
    }
    let steps = merged.stages.iter_mut().flat_map(|stage| &mut stage.steps);
    for (step, number) in steps.zip(1..) {
        step.id = StepId(number);
    }
    merged
}

/// Where the parts of one plan are in the merged one.
struct Places {
    bases: Vec<usize>,
    contexts: Vec<usize>,
    stages: Vec<usize>,
}

impl Places {
    fn adjust(&self, stage: &mut Stage) {
        stage.base = match stage.base {
            StartingPoint::Scratch => StartingPoint::Scratch,
            StartingPoint::Image(image) => StartingPoint::Image(self.bases[image]),
            StartingPoint::Stage(below) => StartingPoint::Stage(self.stages[below]),
        };
        for step in &mut stage.steps {
            match &mut step.work {
                Work::Copy(copy) => self.adjust_origin(&mut copy.from),
                Work::Run(run) => {
                    for mount in &mut run.mounts {
                        match mount {
                            RunMount::Bind { from, .. }
                            | RunMount::Cache { from: Some(from), .. } => self.adjust_origin(from),
                            RunMount::Cache { from: None, .. }
                            | RunMount::Tmpfs { .. }
                            | RunMount::Secret { .. }
                            | RunMount::Ssh { .. } => {}
                        }
                    }
                }
                Work::Directory(_) => {}
            }
        }
    }

    fn adjust_origin(&self, origin: &mut Origin) {
        *origin = match *origin {
            Origin::Context(context) => Origin::Context(self.contexts[context]),
            Origin::Stage(stage) => Origin::Stage(self.stages[stage]),
            Origin::Image(image) => Origin::Image(self.bases[image]),
        };
    }
}

fn base_place(bases: &mut Vec<Base>, base: Base) -> usize {
    let same = |other: &Base| {
        other.reference == base.reference && other.manifest.digest == base.manifest.digest
    };
    bases.iter().position(same).unwrap_or_else(|| {
        bases.push(base);
        bases.len() - 1
    })
}

fn context_place(contexts: &mut Vec<ContextName>, name: ContextName) -> usize {
    contexts.iter().position(|other| *other == name).unwrap_or_else(|| {
        contexts.push(name);
        contexts.len() - 1
    })
}

/// Returns whether two stages do the same and end with the same configuration.
fn is_same(a: &Stage, b: &Stage) -> bool {
    a.base == b.base
        && a.platform == b.platform
        && a.uses_cache == b.uses_cache
        && a.steps.len() == b.steps.len()
        && a.steps.iter().zip(&b.steps).all(|(a, b)| a.work == b.work)
        && a.config == b.config
        && a.history == b.history
}
