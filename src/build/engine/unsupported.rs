//! Parts of plans that the engine does not carry out yet.

use crate::build::Error;
use crate::build::plan::{Plan, Run, RunMount, Security, Work};

/// Refuses a plan that asks for what the engine does not do, before anything is done.
pub(super) fn check(plan: &Plan) -> Result<(), Error> {
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        let what = match &step.work {
            Work::Run(run) => in_run(run),
            Work::Copy(_) | Work::Directory(_) => None,
        };
        if let Some(what) = what {
            return Err(Error::not_yet(what, step.span));
        }
    }
    Ok(())
}

fn in_run(run: &Run) -> Option<&'static str> {
    let mount = run.mounts.first().map(|mount| match mount {
        RunMount::Bind { .. } => "`RUN --mount=type=bind`",
        RunMount::Cache { .. } => "`RUN --mount=type=cache`",
        RunMount::Tmpfs { .. } => "`RUN --mount=type=tmpfs`",
        RunMount::Secret { .. } => "`RUN --mount=type=secret`",
        RunMount::Ssh { .. } => "`RUN --mount=type=ssh`",
    });
    if mount.is_some() {
        return mount;
    }
    if run.script.is_some() {
        return Some("a `RUN` here-document that starts with `#!`");
    }
    if run.security == Security::Insecure {
        return Some("`RUN --security=insecure`");
    }
    if run.hosts.is_empty() { None } else { Some("`--add-host`") }
}
