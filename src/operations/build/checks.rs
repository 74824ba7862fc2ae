//! Build checks: what is known of the bases goes in, warnings come out.

use std::collections::{BTreeMap, BTreeSet};

use crate::build::{Base, Outline, PlanOptions, StageBase};
use crate::dockerfile::{
    self, BaseFacts, Checked, Dockerfile, Frontend, OtherPlatform, Surroundings, Warning,
};
use crate::event::Finding;
use crate::image::Reference;
use crate::operations::{Error, Kind, Session};

use super::sources::Sources;

/// Checks the stages that a build needs.
pub(super) fn check(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    outline: &Outline<'_>,
    sources: &Sources,
) -> Result<Checked, dockerfile::Error> {
    let known = Known::of(sources, outline);
    let predefined = options.predefined(dockerfile);
    dockerfile.check(&known.surroundings(options, &predefined, sources))
}

/// What is known of the stages that are looked at.
#[derive(Debug, Default)]
pub(super) struct Known {
    stages: BTreeSet<usize>,
    bases: BTreeMap<usize, BaseFacts>,
    other_platforms: Vec<OtherPlatform>,
}

impl Known {
    /// Returns what the stages of `outline` start from.
    pub(super) fn of(sources: &Sources, outline: &Outline<'_>) -> Self {
        let mut known = Self::default();
        known.add(sources, outline);
        known
    }

    /// Adds the stages of another target.
    pub(super) fn add(&mut self, sources: &Sources, outline: &Outline<'_>) {
        let bases = outline.bases();
        for (number, start) in outline.stages() {
            self.stages.insert(number);
            if let StageBase::Image(image) = start {
                self.bases.extend(bases.get(image).map(|base| (number, facts(base))));
            }
        }
        for (image, base) in outline.images().iter().zip(bases) {
            let (expected, actual) = (&image.platform, base.config.platform());
            let is_other = expected.os != actual.os || expected.architecture != actual.architecture;
            let other = OtherPlatform {
                image: match &sources.text[image.span.start..image.span.end] {
                    written if written.contains(['$', ' ']) => image.reference.familiar(),
                    written => written.to_owned(),
                },
                expected: expected.to_string(),
                actual: actual.to_string(),
                span: image.span,
            };
            if is_other && !self.other_platforms.contains(&other) {
                self.other_platforms.push(other);
            }
        }
    }

    /// Returns what the checks need.
    pub(super) fn surroundings<'a>(
        &'a self,
        options: &'a PlanOptions,
        predefined: &'a [(String, String)],
        sources: &'a Sources,
    ) -> Surroundings<'a> {
        Surroundings {
            build_args: &options.build_args,
            predefined,
            bases: &self.bases,
            stages: Some(&self.stages),
            other_platforms: &self.other_platforms,
            ignored: &sources.ignored,
            is_reference: &|text| text.parse::<Reference>().is_ok(),
        }
    }
}

fn facts(base: &Base) -> BaseFacts {
    let config = &base.config.config;
    let split = |entry: &String| {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        (name.to_owned(), value.to_owned())
    };
    BaseFacts {
        env: config.env.iter().map(split).collect(),
        has_shell: config.shell.as_ref().is_some_and(|shell| !shell.is_empty()),
        on_build: config.on_build.clone(),
    }
}

/// Says that a frontend is asked for that rpub does not have.
pub(super) fn report_frontend(
    session: &Session,
    sources: &Sources,
    build_args: &BTreeMap<String, String>,
) {
    let Some(frontend) = Frontend::of(&sources.text, build_args).filter(|it| !it.is_known()) else {
        return;
    };
    let place = match frontend.span {
        Some(span) => format!("{}:{}", sources.name, span.position(&sources.text).line),
        None => "BUILDKIT_SYNTAX".to_owned(),
    };
    session.warn(format!(
        "rpub does not have the frontend `{}` ({place}); it reads the file as docker/dockerfile \
         does",
        frontend.name
    ));
}

/// Shows the warnings.
pub(super) fn report(session: &Session, sources: &Sources, checked: &Checked) {
    let source: std::sync::Arc<str> = sources.text.as_str().into();
    for Warning { rule, message, span, location } in &checked.warnings {
        session.found(Finding {
            text: message.clone(),
            rule: rule.name().to_owned(),
            hint: rule.description().to_owned(),
            file: sources.name.clone(),
            line: location.position(&sources.text).line,
            source: source.clone(),
            span: span.start..span.end,
        });
    }
}

/// Fails when `# check=error=true` makes errors of warnings.
pub(super) fn refuse(checked: &Checked) -> Result<(), Error> {
    let Some(message) = checked.refusal() else { return Ok(()) };
    let hint = "mend what the warnings above say, or skip a rule with `# check=skip=RULE`";
    Err(Error::new(Kind::Build, message).hint(hint))
}
