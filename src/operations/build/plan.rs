//! From sources to a plan: parse, select, resolve the bases, expand.

use crate::build::{self, Outline, Plan, PlanOptions};
use crate::dockerfile;
use crate::image::Platform;
use crate::operations::resolve::resolve_base;
use crate::operations::{Error, Session};

use super::checks;
use super::request::BuildRequest;
use super::sources::Sources;

/// Reads, parses and plans; resolves the bases side by side.
pub(super) async fn plan(
    session: &Session,
    request: &BuildRequest,
    sources: &Sources,
) -> Result<Plan, PlanError> {
    checks::report_frontend(session, sources, &request.build_args);
    let dockerfile = dockerfile::parse(&sources.text)?;
    let options = PlanOptions {
        build_args: request.build_args.clone(),
        target: request.target.clone(),
        platform: request.platform.clone(),
        build_platform: Platform::host(),
        labels: request.labels.clone(),
        network: request.network,
        hosts: request.hosts.clone(),
        allowed: request.allowed,
        no_cache: request.no_cache,
    };
    let outline = Outline::new(&dockerfile, &options)?;
    let bases = outline.images.iter().map(|image| async move {
        let base = resolve_base(session, image, request.pull).await;
        base.map_err(|error| {
            let error = error.at(sources.snippet(image.span));
            match &image.resembles {
                Some(stage) => error.hint(format!("did you mean the stage `{stage}`?")),
                None => error,
            }
        })
    });
    let bases = futures_util::future::try_join_all(bases).await?;
    let checked = checks::check(&dockerfile, &options, &outline, &bases, sources)?;
    checks::report(session, sources, &checked);
    let plan = Plan::new(&dockerfile, &options, &outline, bases)?;
    checks::refuse(&checked)?;
    Ok(plan)
}

/// What can go wrong before the first step.
#[derive(Debug)]
pub(super) enum PlanError {
    Dockerfile(dockerfile::Error),
    Build(build::Error),
    Operation(Error),
}

impl From<dockerfile::Error> for PlanError {
    fn from(error: dockerfile::Error) -> Self {
        Self::Dockerfile(error)
    }
}

impl From<build::Error> for PlanError {
    fn from(error: build::Error) -> Self {
        Self::Build(error)
    }
}

impl From<Error> for PlanError {
    fn from(error: Error) -> Self {
        Self::Operation(error)
    }
}
