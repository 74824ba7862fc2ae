//! Stages: when they begin, whom they wait for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{Build, Stack, StageResult};
use crate::build::Error;
use crate::build::form::NewLayers;
use crate::build::layer::Layer;
use crate::build::plan::{Plan, Stage, StartingPoint};

/// How a stage ended.
#[derive(Clone)]
enum Finished {
    Layers(Vec<Layer>),
    Failed,
}

/// What is needed, what is finished.
pub(super) struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    finished: Vec<Option<Finished>>,
    needed: Vec<bool>,
    /// The targets are finished, or one of the stages has failed: nothing new begins.
    over: bool,
}

impl Schedule {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut needed = vec![false; plan.stages.len()];
        for target in &plan.targets {
            needed[*target] = true;
        }
        let state = State { finished: vec![None; plan.stages.len()], needed, over: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Build<'_> {
    pub(super) fn run_stages(&self) -> Result<(), Error> {
        if let [stage] = self.plan.stages.as_slice() {
            let result = self.run_stage(0, stage);
            return self.note_stage(0, result);
        }
        let results: Vec<Result<(), Error>> = std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .plan
                .stages
                .iter()
                .enumerate()
                .map(|(position, stage)| {
                    scope.spawn(move || {
                        if self.begins(position) {
                            self.note_stage(position, self.run_stage(position, stage))
                        } else {
                            self.pass_over(position, stage);
                            Ok(())
                        }
                    })
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<(), Error>>| {
                thread.join().unwrap_or(Err(Error::Canceled))
            };
            threads.into_iter().map(join).collect()
        });
        let (mut canceled, mut first) = (false, None);
        for error in results.into_iter().filter_map(Result::err) {
            match error {
                Error::Canceled => canceled = true,
                error => first = first.or(Some(error)),
            }
        }
        match first {
            Some(error) => Err(error),
            None if canceled => Err(Error::Canceled),
            None => Ok(()),
        }
    }

    /// Waits until the stage is needed; `false` when the build ended without it.
    fn begins(&self, position: usize) -> bool {
        let mut state = self.schedule.lock();
        loop {
            if state.needed[position] {
                return true;
            }
            if state.over {
                return false;
            }
            state = self.schedule.wait(state);
        }
    }

    /// Lets the stage begin.
    pub(super) fn need(&self, position: usize) {
        let mut state = self.schedule.lock();
        if !std::mem::replace(&mut state.needed[position], true) {
            self.schedule.changed.notify_all();
        }
    }

    /// Records how a stage ended and wakes those that wait for it.
    fn note_stage(&self, position: usize, result: Result<Vec<Layer>, Error>) -> Result<(), Error> {
        let (finished, result) = match result {
            Ok(layers) => (Finished::Layers(layers), Ok(())),
            Err(error) => {
                // Once is enough: a shell may run by now in which the user looks at the first failure.
                if !self.engine.cancel.is_requested() {
                    self.engine.cancel.cancel();
                }
                (Finished::Failed, Err(error))
            }
        };
        let mut state = self.schedule.lock();
        state.finished[position] = Some(finished);
        let is_finished = |target: &usize| state.finished[*target].is_some();
        let over = result.is_err() || self.plan.targets.iter().all(is_finished);
        state.over |= over;
        self.schedule.changed.notify_all();
        result
    }

    /// Waits until the stage at `position` is done and returns its layers.
    pub(super) fn wait_for(&self, position: usize) -> Result<Vec<Layer>, Error> {
        self.need(position);
        let mut state = self.schedule.lock();
        loop {
            match &state.finished[position] {
                Some(Finished::Layers(layers)) => return Ok(layers.clone()),
                Some(Finished::Failed) => return Err(Error::Canceled),
                None if state.over => return Err(Error::Canceled),
                None => state = self.schedule.wait(state),
            }
        }
    }

    /// Returns the layers of a stage that is done.
    pub(super) fn layers_of(&self, position: usize) -> Option<Vec<Layer>> {
        match &self.schedule.lock().finished[position] {
            Some(Finished::Layers(layers)) => Some(layers.clone()),
            Some(Finished::Failed) | None => None,
        }
    }

    fn run_stage(&self, position: usize, stage: &Stage) -> Result<Vec<Layer>, Error> {
        // The layers of a squashed image come into being only when all of it is there.
        let is_final = self.final_stages.contains(&position)
            && self.engine.form.new_layers == NewLayers::Separate;
        let found = self.find_elsewhere(position)?;
        let (layers, done) = match found {
            Some(found) => {
                if is_final {
                    found.made().iter().try_for_each(|layer| self.tell_sealed(layer))?;
                }
                (found.layers, found.steps)
            }
            None => (self.starting_layers(stage)?, 0),
        };
        let mut layers = Stack::from(layers);
        for step in &stage.steps[..done] {
            self.tell_cached(step);
        }
        self.need_sources(position, done)?;
        for (number, step) in stage.steps.iter().enumerate().skip(done) {
            if self.engine.cancel.is_requested() {
                return Err(Error::Canceled);
            }
            let layer = self.run_step(position, number, step, &layers)?;
            if is_final {
                self.tell_sealed(&layer)?;
            }
            layers.push(layer);
        }
        if self.engine.observer.wants_results() {
            self.tell_result(position, stage, &layers)?;
        }
        Ok(layers.into_layers())
    }

    /// Tells the observer of a layer, in the form that the final image has it in.
    fn tell_sealed(&self, layer: &Layer) -> Result<(), Error> {
        let layer = self.engine.shape_new(self.plan, layer, self.engine.form)?;
        self.engine.observer.sealed(&layer);
        Ok(())
    }

    /// Tells what a stage came to, unless what its steps read is gone by now.
    fn tell_result(&self, position: usize, stage: &Stage, layers: &[Layer]) -> Result<(), Error> {
        let mut keys = Vec::with_capacity(stage.steps.len());
        for number in 0..stage.steps.len() {
            match self.keys_after(position, number)? {
                Some(step) => keys.push(step.chain.clone()),
                None => return Ok(()),
            }
        }
        let base = self.plan.base_of(position).map_or(0, |base| base.layers.len());
        let made = layers[base..].to_vec();
        let below = made.len() - keys.len();
        let is_final = self.final_stages.contains(&position);
        let result = StageResult { position, is_final, keys, made, below };
        self.engine.observer.stage_finished(result);
        Ok(())
    }

    /// Returns the layers that the stage starts from.
    fn starting_layers(&self, stage: &Stage) -> Result<Vec<Layer>, Error> {
        match stage.base {
            StartingPoint::Scratch => Ok(Vec::new()),
            StartingPoint::Image(image) => Ok(self.plan.bases[image].layers.clone()),
            StartingPoint::Stage(below) => self.wait_for(below),
        }
    }

    /// Tells that nothing of a stage was needed: what reads it is in the cache.
    fn pass_over(&self, position: usize, stage: &Stage) {
        if self.engine.cancel.is_requested() {
            return;
        }
        tracing::debug!(position, name = %stage.name, "nothing of the stage is needed");
        stage.steps.iter().for_each(|step| self.tell_cached(step));
    }
}
