//! The second phase: every instruction of every needed stage, with the bases' configurations.

mod config;
mod copy;
mod mounts;
mod run;

use crate::dockerfile::{
    ArgPair, Dockerfile, Instruction, InstructionKind, Span, Stage as DockerfileStage,
};
use crate::event::StepId;

use super::format::plain_list;
use super::outline::{Outline, StageBase, platform_arg};
use super::stage::State;
use super::{Base, ContextName, Error, Origin, Plan, PlanOptions, Stage, Step};
use config::{cmd, entrypoint, env, expose, health, label, stop_signal, volume, workdir};

/// Walks all needed stages.
pub(super) fn plan(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    outline: &Outline,
    bases: Vec<Base>,
) -> Result<Plan, Error> {
    let mut walk = Walk { dockerfile, options, outline, bases: &bases, contexts: Vec::new() };
    let mut states: Vec<State> = Vec::new();
    for (position, (&number, &start)) in outline.stages.iter().zip(&outline.starts).enumerate() {
        let mut state = walk.start(number, start, &states)?;
        for instruction in &dockerfile.stages[number].instructions {
            walk.instruction(&mut state, number, instruction)?;
        }
        if position + 1 == outline.stages.len() {
            for (key, value) in &options.labels {
                state.config.config.labels.insert(key.clone(), value.clone());
            }
        }
        states.push(state);
    }
    let contexts = walk.contexts;
    let stages = number_steps(dockerfile, outline, states, options.no_cache);
    let targets = vec![stages.len() - 1];
    Ok(Plan { stages, targets, bases, contexts })
}

struct Walk<'a> {
    dockerfile: &'a Dockerfile,
    options: &'a PlanOptions,
    outline: &'a Outline,
    bases: &'a [Base],
    contexts: Vec<ContextName>,
}

impl Walk<'_> {
    fn start(&self, number: usize, start: StageBase, states: &[State]) -> Result<State, Error> {
        let escape = self.dockerfile.escape;
        let stage = &self.dockerfile.stages[number];
        match start {
            StageBase::Scratch => {
                let platform =
                    self.outline.stage_platform(self.dockerfile, self.options, number)?;
                Ok(State::scratch(&platform, escape))
            }
            StageBase::Stage(below) => {
                let position = self.position(below, stage)?;
                Ok(State::from_stage(&states[position], position))
            }
            StageBase::Image(image) => {
                let config = &self.bases[image].config;
                if let Some(trigger) = config.config.on_build.first() {
                    let what = format!("the base image's trigger `ONBUILD {trigger}`");
                    return Err(Error::not_yet(&what, stage.base.span));
                }
                Ok(State::from_image(config, image, escape))
            }
        }
    }

    /// Returns where the stage with this number of the file stands among the needed ones.
    fn position(&self, number: usize, stage: &DockerfileStage) -> Result<usize, Error> {
        self.outline
            .stages
            .iter()
            .position(|other| *other == number)
            .ok_or_else(|| Error::refused(format!("stage {number} was not selected"), stage.span))
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
            InstructionKind::Onbuild(_) => {
                Err(Error::not_yet("`ONBUILD`", instruction.keyword_span))
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
    fn origin(&self, number: usize, text: &str, span: Span) -> Result<Option<Origin>, Error> {
        let found = self.outline.source(number, text).ok_or_else(|| {
            Error::refused(format!("`{text}` was not looked up before planning"), span)
        })?;
        Ok(match found {
            StageBase::Scratch => None,
            StageBase::Image(image) => Some(Origin::Image(image)),
            StageBase::Stage(other) => {
                let stage = &self.dockerfile.stages[number];
                Some(Origin::Stage(self.position(other, stage)?))
            }
        })
    }

    /// `ARG`: pairs are evaluated one after another, each seeing the ones before.
    fn arg(&self, state: &mut State, pairs: &[ArgPair]) -> Result<(), Error> {
        let mut shown = Vec::new();
        for pair in pairs {
            let name = pair.name.text.as_str();
            let given = self.options.build_args.get(name).cloned();
            let default = pair.default.as_ref().map(|word| state.expand(word)).transpose()?;
            let own = given.or(default);
            let inherited = || {
                let global = self.outline.global_args.get(name).cloned();
                global.or_else(|| platform_arg(name, self.options))
            };
            let value = own.clone().or_else(inherited);
            if let Some(value) = &value {
                state.set_env(name, value);
            }
            state.args.insert(name.to_owned(), value);
            shown.push(match own {
                Some(value) => format!("{name}={value}"),
                None => name.to_owned(),
            });
        }
        state.note(format!("ARG {}", shown.join(" ")));
        Ok(())
    }
}

/// Gives steps their numbers and names: `[build 2/5] RUN make`, where `FROM` is the first of each
/// stage, and the stage's name is left out when there is only one.
fn number_steps(
    dockerfile: &Dockerfile,
    outline: &Outline,
    states: Vec<State>,
    no_cache: bool,
) -> Vec<Stage> {
    let is_alone = dockerfile.stages.len() == 1;
    let mut next = 0;
    let mut stages = Vec::new();
    for (state, &number) in states.into_iter().zip(&outline.stages) {
        let stage = &dockerfile.stages[number];
        let name = match &stage.name {
            Some(name) => name.to_string(),
            None => format!("stage-{number}"),
        };
        let prefix =
            if is_alone && stage.name.is_none() { String::new() } else { format!("{name} ") };
        let total = state.steps.len() + 1;
        let steps = state.steps.into_iter().enumerate().map(|(index, (span, shown, work))| {
            next += 1;
            let name = format!("[{prefix}{}/{total}] {shown}", index + 2);
            Step { id: StepId(next), name, span, work }
        });
        let steps = steps.collect();
        stages.push(Stage {
            name,
            base: state.base,
            steps,
            config: state.config,
            history: state.history,
            platform: state.platform,
            uses_cache: !no_cache,
        });
    }
    stages
}
