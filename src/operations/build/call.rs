//! Questions about a Dockerfile that are answered instead of building it.

use std::collections::BTreeSet;

use crate::build::{Outline, Plan, PlanOptions};
use crate::dockerfile::{self, Dockerfile, Parameters, Span, Warning};
use crate::operations::{Error, Kind, Session};

use super::checks::{self, Known};
use super::offline::refuse_missing;
use super::plan::{PlanError, Resolver, options};
use super::request::BuildRequest;
use super::sources::Sources;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// What the checks have to say.
    Check,
    /// What the target can be given.
    Outline,
    /// Which stages can be built.
    Targets,
}

/// The answer, with the Dockerfile that it is about.
#[derive(Debug)]
pub struct Answer {
    /// The Dockerfile's name as the user knows it.
    pub file: String,
    /// Its text.
    pub text: String,
    /// What was asked.
    pub about: About,
}

/// What was asked.
#[derive(Debug)]
pub enum About {
    /// What the checks have to say.
    Check {
        /// The warnings in the order of the file.
        warnings: Vec<Warning>,
        /// Why it cannot be built.
        failure: Option<Error>,
    },
    /// What the target can be given.
    Outline(Parameters),
    /// The stages, in the order of the file.
    Targets(Vec<Target>),
}

/// A stage that can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: Option<String>,
    /// What the comments above it say.
    pub description: Option<String>,
    /// Whether it is built when no stage is named.
    pub is_default: bool,
    /// What it starts from, as written.
    pub base: String,
    /// Its `--platform`, as written.
    pub platform: Option<String>,
    /// Its `FROM`.
    pub location: Span,
}

/// Answers a question about the Dockerfile of `sources`.
pub(super) async fn answer(
    session: &Session,
    request: &BuildRequest,
    sources: &Sources,
    question: Question,
) -> Result<Answer, Error> {
    checks::report_frontend(session, sources, &request.build_args);
    let asked = Asked { session, request, sources };
    let about = match question {
        Question::Check => asked.check().await,
        Question::Outline => asked.outline().await.map(About::Outline),
        Question::Targets => asked.parse().map(|file| About::Targets(targets(&file))),
    };
    let about = about.map_err(|error| sources.explain(error))?;
    Ok(Answer { file: sources.name.clone(), text: sources.text.clone(), about })
}

struct Asked<'a> {
    session: &'a Session,
    request: &'a BuildRequest,
    sources: &'a Sources,
}

impl Asked<'_> {
    fn parse(&self) -> Result<Dockerfile, PlanError> {
        Ok(dockerfile::parse(&self.sources.text)?)
    }

    /// Checks the target, or all stages when none is named. What would fail the build is part of
    /// the answer.
    async fn check(&self) -> Result<About, PlanError> {
        let failed = |error: PlanError| Some(self.sources.explain(error));
        let file = match self.parse() {
            Ok(file) => file,
            Err(error) => return Ok(About::Check { warnings: Vec::new(), failure: failed(error) }),
        };
        let mut options = self.options().await?;
        // Nothing runs: it does not matter what this machine can run.
        options.emulated.push(options.platform.clone());
        let platforms = file.stages.iter().filter_map(|stage| stage.platform.as_ref());
        options.emulated.extend(platforms.filter_map(|word| word.text.parse().ok()));
        let mut known = Known::default();
        let looked = self.look_at_all(&file, &options, &mut known).await;
        let predefined = options.predefined(&file);
        let checked = file.check(&known.surroundings(&options, &predefined, self.sources));
        let (warnings, failure) = match (checked, looked) {
            (Ok(checked), Ok(())) => {
                let failure = checks::refuse(&checked).err();
                (checked.warnings, failure)
            }
            (Ok(checked), Err(error)) => (checked.warnings, failed(error)),
            (Err(error), _) => (Vec::new(), failed(error.into())),
        };
        Ok(About::Check { warnings, failure })
    }

    async fn options(&self) -> Result<PlanOptions, PlanError> {
        let options = options(self.request).await?.into_iter().next();
        let none = || Error::new(Kind::Internal, "there is no platform to build for");
        options.ok_or_else(none).map_err(PlanError::Operation)
    }

    /// Plans what is built: the target, or without one every stage that no other needs.
    async fn look_at_all(
        &self,
        file: &Dockerfile,
        options: &PlanOptions,
        known: &mut Known,
    ) -> Result<(), PlanError> {
        if options.target.is_some() {
            return self.look_at(file, options, known).await.map(drop);
        }
        let mut seen = BTreeSet::new();
        for number in (0..file.stages.len()).rev() {
            if seen.contains(&number) {
                continue;
            }
            let target = Some(number.to_string());
            let options = PlanOptions { target, ..options.clone() };
            seen.extend(self.look_at(file, &options, known).await?);
        }
        Ok(())
    }

    /// Plans one target; returns the stages that it needs.
    async fn look_at(
        &self,
        file: &Dockerfile,
        options: &PlanOptions,
        known: &mut Known,
    ) -> Result<Vec<usize>, PlanError> {
        let mut outlines = [Outline::new(file, options)?];
        let mut resolver = Resolver::new(self.session, self.request, self.sources);
        resolver.resolve(&mut outlines).await?;
        refuse_missing(&resolver.missing, self.request, &self.sources.name)?;
        let [outline] = outlines;
        known.add(self.sources, &outline);
        let stages = outline.stages().map(|(number, _)| number).collect();
        Plan::new(outline)?;
        Ok(stages)
    }

    async fn outline(&self) -> Result<Parameters, PlanError> {
        let file = self.parse()?;
        let options = self.options().await?;
        let mut known = Known::default();
        let stages = self.look_at(&file, &options, &mut known).await?;
        let last = file.stages.len().saturating_sub(1);
        let target = match &options.target {
            Some(name) => dockerfile::find_stage(&file.stages, name).unwrap_or(last),
            None => stages.last().copied().unwrap_or(last),
        };
        let predefined = options.predefined(&file);
        Ok(file.parameters(&known.surroundings(&options, &predefined, self.sources), target))
    }
}

fn targets(file: &Dockerfile) -> Vec<Target> {
    let last = file.stages.len().saturating_sub(1);
    let target = |(number, stage): (usize, &dockerfile::Stage)| Target {
        name: stage.name.as_ref().map(ToString::to_string),
        description: stage.description.clone(),
        is_default: number == last,
        base: stage.base.text.clone(),
        platform: stage.platform.as_ref().map(|platform| platform.text.clone()),
        location: stage.span,
    };
    file.stages.iter().enumerate().map(target).collect()
}
