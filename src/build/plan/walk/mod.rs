//! The second phase: every instruction of every needed stage, with the bases' configurations.

mod config;
mod copy;
mod mounts;
mod naming;
mod run;

use std::collections::HashMap;

use crate::dockerfile::{ArgPair, Instruction, InstructionKind, Onbuild, Span};

use super::format::plain_list;
use super::outline::{Needed, Outline, StageBase};
use super::stage::State;
use super::{ContextName, Error, Origin, Plan, PlanOptions};
use config::{cmd, entrypoint, env, expose, health, label, stop_signal, volume, workdir};

/// The build arguments that are settings of the builder and never reach the environment of a step
/// (BuildKit, `nonEnvArgs`).
const SETTINGS: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Walks all needed stages.
pub(super) fn plan(outline: Outline<'_>) -> Result<Plan, Error> {
    let options = outline.options;
    let positions = outline.needed.keys().enumerate().map(|(at, number)| (*number, at));
    let mut walk =
        Walk { options, positions: positions.collect(), outline: &outline, contexts: Vec::new() };
    let mut states: Vec<State> = Vec::with_capacity(outline.needed.len());
    for (&number, needed) in &outline.needed {
        let mut state = walk.start(number, needed, &states)?;
        walk.stage(&mut state, number, needed)?;
        if number == outline.target {
            state.finish(options);
        }
        states.push(state);
    }
    let target = walk.positions[&outline.target];
    let contexts = walk.contexts;
    let stages = naming::name_stages(&outline, states);
    Ok(Plan { stages, targets: vec![target], bases: outline.bases, contexts })
}

struct Walk<'a> {
    options: &'a PlanOptions,
    outline: &'a Outline<'a>,
    /// Where the stages of the file stand among the needed ones, by their numbers.
    positions: HashMap<usize, usize>,
    contexts: Vec<ContextName>,
}

impl Walk<'_> {
    fn start(&mut self, number: usize, needed: &Needed, states: &[State]) -> Result<State, Error> {
        let escape = self.outline.dockerfile.escape;
        let stage = &self.outline.dockerfile.stages[number];
        match needed.start {
            // As in BuildKit, `--platform` of `FROM scratch` has no effect, but must be well.
            StageBase::Scratch => {
                self.outline.stage_platform(number)?;
                Ok(State::scratch(&self.options.platform, escape))
            }
            StageBase::Context(context) => {
                let platform = self.outline.stage_platform(number)?;
                let mut state = State::scratch(&platform, escape);
                let name = self.outline.contexts[context].clone();
                let from = Origin::Context(self.context(&ContextName::Named(name.clone())));
                state.take_all(from, &name, stage.base.span);
                Ok(state)
            }
            StageBase::Stage(below) => {
                let position = self.position(below, stage.span)?;
                Ok(State::from_stage(&states[position], position))
            }
            StageBase::Image(image) => {
                let base = self.outline.bases.get(image).ok_or_else(|| {
                    Error::refused("the base image was not resolved", stage.base.span)
                })?;
                Ok(State::from_image(&base.config, image, escape))
            }
        }
    }

    /// Walks what the base of a stage wants to be done first, and then its own instructions.
    fn stage(&mut self, state: &mut State, number: usize, needed: &Needed) -> Result<(), Error> {
        let stage = &self.outline.dockerfile.stages[number];
        state.is_in_trigger = true;
        for trigger in &needed.triggers {
            self.instruction(state, number, &trigger.instruction)
                .map_err(|error| trigger.explain(error, stage))?;
        }
        state.is_in_trigger = false;
        if needed.is_replaced {
            return Ok(());
        }
        let mut instructions = stage.instructions.iter();
        instructions.try_for_each(|instruction| self.instruction(state, number, instruction))
    }

    /// Returns where the stage with this number of the file stands among the needed ones.
    fn position(&self, number: usize, span: Span) -> Result<usize, Error> {
        let position = self.positions.get(&number).copied();
        position.ok_or_else(|| Error::refused(format!("stage {number} was not selected"), span))
    }

    fn instruction(
        &mut self,
        state: &mut State,
        number: usize,
        instruction: &Instruction,
    ) -> Result<(), Error> {
        match &instruction.kind {
            InstructionKind::Add(add) => self.add(state, instruction, add),
            InstructionKind::Arg(pairs) => self.arg(state, pairs),
            InstructionKind::Cmd(command) => {
                cmd(state, command);
                Ok(())
            }
            InstructionKind::Copy(copy) => self.copy(state, number, instruction, copy),
            InstructionKind::Entrypoint(command) => {
                entrypoint(state, command);
                Ok(())
            }
            InstructionKind::Env(pairs) => env(state, pairs),
            InstructionKind::Expose(words) => expose(state, words),
            InstructionKind::Healthcheck(check) => {
                health(state, check);
                Ok(())
            }
            InstructionKind::Label(pairs) => label(state, pairs),
            InstructionKind::Maintainer(word) => {
                state.config.author = Some(word.text.clone());
                state.note(format!("MAINTAINER {}", word.text));
                Ok(())
            }
            InstructionKind::Onbuild(Onbuild { trigger, .. }) => {
                // As in BuildKit, without an entry in the history.
                state.config.config.on_build.push(trigger.clone());
                Ok(())
            }
            InstructionKind::Run(run) => self.run(state, number, instruction, run),
            InstructionKind::Shell(shell) => {
                state.note(format!("SHELL {}", plain_list(shell)));
                state.config.config.shell = Some(shell.clone());
                Ok(())
            }
            InstructionKind::Stopsignal(word) => stop_signal(state, word),
            InstructionKind::User(word) => {
                let user = state.expand(word)?;
                state.note(format!("USER {user}"));
                state.config.config.user = user;
                Ok(())
            }
            InstructionKind::Volume(words) => volume(state, words),
            InstructionKind::Workdir(word) => workdir(state, instruction, word),
        }
    }

    /// Returns the position of a context, which is noted as needed.
    fn context(&mut self, name: &ContextName) -> usize {
        self.contexts.iter().position(|other| other == name).unwrap_or_else(|| {
            self.contexts.push(name.clone());
            self.contexts.len() - 1
        })
    }

    /// Returns where the files are that `--from` means in stage `number`; `None` for `scratch`.
    fn origin(&mut self, number: usize, text: &str, span: Span) -> Result<Option<Origin>, Error> {
        let found = self.outline.source(number, text).ok_or_else(|| {
            Error::refused(format!("`{text}` was not looked up before planning"), span)
        })?;
        Ok(match found {
            StageBase::Scratch => None,
            StageBase::Image(image) => Some(Origin::Image(image)),
            StageBase::Stage(other) => Some(Origin::Stage(self.position(other, span)?)),
            StageBase::Context(context) => {
                let name = self.outline.contexts[context].clone();
                Some(Origin::Context(self.context(&ContextName::Named(name))))
            }
        })
    }

    /// `ARG`: pairs are evaluated one after another, each seeing the ones before.
    fn arg(&self, state: &mut State, pairs: &[ArgPair]) -> Result<(), Error> {
        let mut shown = String::from("ARG");
        for pair in pairs {
            let name = pair.name.text.as_str();
            let value = match (self.options.build_args.get(name), &pair.default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(word)) => Some(state.expand(word)?),
                (None, None) => self.outline.globals.get(name).cloned(),
            };
            shown.extend([" ", name]);
            if let Some(value) = &value {
                shown.extend(["=", value]);
                if !SETTINGS.contains(&name) {
                    state.set_env(name, value);
                }
            }
            state.declare(name, value.as_deref());
        }
        state.note(shown);
        Ok(())
    }
}
