//! Steps: looked up, or done and recorded, each once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::build::Error;
use crate::build::cache::{BaseName, Place, StepRecord};
use crate::build::layer::Layer;
use crate::build::plan::{Plan, Stage, StartingPoint, Step, Work};
use crate::event::{Event, StepOutcome};
use crate::image::{ChainId, Digest};

use super::{Build, Stack};

/// What this run has made or is making, by definition: equal steps, of two platforms or two stages,
/// are done once.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<Digest, Flight>>);

type Flight = Arc<Mutex<Option<(Option<ChainId>, Layer)>>>;

impl Flights {
    fn join(&self, key: Digest) -> Flight {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(flights.entry(key).or_default())
    }
}

impl Build<'_> {
    /// Does one step, or takes its recorded result, and tells how it went.
    pub(super) fn run_step(
        &self,
        position: usize,
        number: usize,
        step: &Step,
        layers: &Stack,
    ) -> Result<Layer, Error> {
        let started = Instant::now();
        let name = step.name.clone();
        self.engine.sink.emit(Event::StepStarted { step: step.id, name });
        let result = self.once(position, number, step, layers);
        let (outcome, result) = match result {
            Ok((layer, outcome)) => (outcome, Ok(layer)),
            Err(error) if self.engine.cancel.is_requested() && !error.is_step_failure() => {
                (StepOutcome::Canceled, Err(Error::Canceled))
            }
            Err(error) => (StepOutcome::Failed, Err(at_step(step, error))),
        };
        let elapsed = started.elapsed();
        self.engine.sink.emit(Event::StepFinished { step: step.id, outcome, elapsed });
        result
    }

    /// Tells of a step whose result was found without looking at it.
    pub(super) fn tell_cached(&self, step: &Step) {
        let name = step.name.clone();
        self.engine.sink.emit(Event::StepStarted { step: step.id, name });
        let (outcome, elapsed) = (StepOutcome::Cached, Duration::ZERO);
        self.engine.sink.emit(Event::StepFinished { step: step.id, outcome, elapsed });
    }

    /// Looks the step up or does it, unless an equal one of this run was or is being done.
    fn once(
        &self,
        position: usize,
        number: usize,
        step: &Step,
        layers: &Stack,
    ) -> Result<(Layer, StepOutcome), Error> {
        if self.plan.stages.len() == 1 {
            return self.look_up_or_do(position, number, step, layers);
        }
        let key = self.flight_key(position, number, step, layers);
        let flight = self.flights.join(key);
        let mut made = Mutex::lock(&flight).unwrap_or_else(PoisonError::into_inner);
        let parent = layers.chain();
        if let Some((below, layer)) = made.as_ref()
            && (*below == parent || crate::build::cache::is_linked(&step.work))
        {
            return Ok((layer.clone(), StepOutcome::Cached));
        }
        let (layer, outcome) = self.look_up_or_do(position, number, step, layers)?;
        *made = Some((parent, layer.clone()));
        Ok((layer, outcome))
    }

    fn look_up_or_do(
        &self,
        position: usize,
        number: usize,
        step: &Step,
        layers: &Stack,
    ) -> Result<(Layer, StepOutcome), Error> {
        let stage = &self.plan.stages[position];
        if let Some(layer) = self.by_definition(position, number, layers)? {
            return Ok((layer, StepOutcome::Cached));
        }
        let lost = self.lost_layer(position, number)?;
        let done = match &step.work {
            Work::Run(run) => self.run(stage, step, run, layers),
            Work::Copy(copy) => self.copy(stage, step, copy, layers),
            Work::Directory(directory) => self.directory(stage, directory, layers),
        };
        if !matches!(done, Ok((_, StepOutcome::Cached))) {
            self.explain_miss(position, number, layers, lost.as_ref());
        }
        let (layer, outcome) = done?;
        self.record_step(position, number, layers, &layer)?;
        Ok((layer, outcome))
    }

    /// Records what the step made under its definition key.
    fn record_step(
        &self,
        position: usize,
        number: usize,
        layers: &Stack,
        layer: &Layer,
    ) -> Result<(), Error> {
        let keys = match self.keys_after(position, number) {
            Ok(Some(keys)) => keys,
            Ok(None) => return Ok(()),
            Err(error) => {
                // What the step read is gone: its result stands, but cannot be found again.
                tracing::debug!(%error, "a step is not recorded");
                return Ok(());
            }
        };
        let place = self.place(position, number);
        let (definition, parent) = (keys.definition.clone(), layers.chain());
        StepRecord::new(definition, parent, layer.clone(), place).write(self.engine.store)
    }

    /// Returns where a step stands.
    pub(super) fn place(&self, position: usize, number: usize) -> Place {
        let stage = &self.plan.stages[position];
        let (below, base) = match number.checked_sub(1) {
            Some(below) => (Some(stage.steps[below].name.clone()), None),
            None => below(self.plan, stage),
        };
        Place {
            project: self.engine.project.clone(),
            stage: stage.name.clone(),
            number,
            name: stage.steps[number].name.clone(),
            below,
            base,
        }
    }
}

/// Returns the step and the base that a stage's first step stands on.
fn below(plan: &Plan, stage: &Stage) -> (Option<String>, Option<BaseName>) {
    match stage.base {
        StartingPoint::Scratch => (None, None),
        StartingPoint::Image(image) => {
            let base = &plan.bases[image];
            let reference = base.reference.familiar();
            (None, Some(BaseName { reference, manifest: base.manifest.digest.clone() }))
        }
        StartingPoint::Stage(position) => match plan.stages[position].steps.last() {
            Some(step) => (Some(step.name.clone()), None),
            None => below(plan, &plan.stages[position]),
        },
    }
}

/// Adds the place in the Dockerfile to an error that does not know it, and the instruction when it
/// does not stand there.
fn at_step(step: &Step, error: Error) -> Error {
    let quoted = |message: String| match &step.trigger {
        Some(trigger) => format!("in `{trigger}` of the base: {message}"),
        None => message,
    };
    match error {
        Error::Refused { message, span, hint } => {
            Error::Refused { message: quoted(message), span: Some(span.unwrap_or(step.span)), hint }
        }
        Error::StepFailed { reason, span, output } => {
            Error::StepFailed { reason: quoted(reason), span, output }
        }
        Error::Canceled => Error::Canceled,
        error => Error::Step { step: step.name.clone(), span: step.span, source: Box::new(error) },
    }
}
