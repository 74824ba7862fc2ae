//! The second phase: every instruction of every needed stage, with the bases' configurations.

use crate::dockerfile::{
    Add, ArgPair, Command, Copy as CopyInstruction, Dockerfile, Healthcheck as Check, Instruction,
    InstructionKind, Pair, Run as RunInstruction, RunNetwork, RunScript, RunSecurity, Source,
    Stage as DockerfileStage, Word,
};
use crate::event::StepId;
use crate::image::{Empty, Healthcheck};

use super::format::{healthcheck, plain_list, quote_list};
use super::outline::{Outline, StageBase, platform_arg};
use super::ports::{is_signal, ports};
use super::stage::{State, destination, join};
use super::{
    Base, ContextName, Copy, CopySource, Directory, Error, Network, Origin, Plan, PlanOptions, Run,
    Security, Stage, Step, Unpack, Work,
};

/// The host name in a step, as BuildKit has it.
const HOSTNAME: &str = "buildkitsandbox";

/// Walks all needed stages.
pub(super) fn plan(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    outline: &Outline,
    bases: Vec<Base>,
) -> Result<Plan, Error> {
    let outline_copy = outline.clone();
    let mut walk =
        Walk { dockerfile, options, outline: outline_copy, bases: &bases, contexts: Vec::new() };
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
    outline: Outline,
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
            InstructionKind::Run(run) => self.run(state, instruction, run),
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

    fn run(
        &self,
        state: &mut State,
        instruction: &Instruction,
        run: &RunInstruction,
    ) -> Result<(), Error> {
        if let Some(mount) = run.mounts.first() {
            return Err(Error::not_yet("`RUN --mount`", mount.span));
        }
        if let Some(device) = run.devices.first() {
            return Err(Error::not_yet("`RUN --device`", device.span));
        }
        if run.security == Some(RunSecurity::Insecure) {
            let span = instruction.flag("security").map_or(instruction.span, |flag| flag.span);
            return Err(Error::not_yet("`RUN --security=insecure`", span));
        }
        let network = match run.network {
            None | Some(RunNetwork::Default) => self.options.network,
            Some(RunNetwork::None) => Network::None,
            Some(RunNetwork::Host) => Network::Host,
        };
        if state.platform.architecture != self.options.build_platform.architecture {
            let (wanted, here) = (&state.platform, &self.options.build_platform);
            let message = format!("a `RUN` for {wanted} cannot run on this {here} machine");
            let hint = "build it on a machine of that platform, or start the stage with \
                        `FROM --platform=$BUILDPLATFORM`";
            return Err(Error::refused(message, instruction.keyword_span).with_hint(hint));
        }
        let args = match run.script() {
            RunScript::Shell(text) => {
                let mut args = state.shell();
                args.push(text.into_owned());
                args
            }
            RunScript::Exec(args) => args.to_vec(),
            RunScript::File { .. } => {
                let what = "a `RUN` here-document that starts with `#!`";
                return Err(Error::not_yet(what, instruction.keyword_span));
            }
        };
        if args.is_empty() {
            return Err(Error::refused("`RUN` needs a command", instruction.keyword_span));
        }
        let mut words = state.run_args();
        words.extend(args.iter().cloned());
        let created_by = format!("RUN {} # buildkit", words.join(" "));
        let work = Work::Run(Run {
            args,
            env: state.run_env(),
            proxy_env: state.proxy_env(&self.options.build_args),
            cwd: state.working_directory(),
            user: state.config.config.user.clone(),
            network,
            security: Security::Sandbox,
            mounts: Vec::new(),
            script: None,
            hostname: HOSTNAME.to_owned(),
            hosts: Vec::new(),
        });
        state.step(instruction.span, instruction.original.clone(), created_by, work);
        Ok(())
    }

    fn copy(
        &mut self,
        state: &mut State,
        number: usize,
        instruction: &Instruction,
        copy: &CopyInstruction,
    ) -> Result<(), Error> {
        if copy.parents || !copy.exclude.is_empty() {
            let name = if copy.parents { "parents" } else { "exclude" };
            let span = instruction.flag(name).map_or(instruction.span, |flag| flag.span);
            return Err(Error::not_yet(&format!("`COPY --{name}`"), span));
        }
        let from = match &copy.from {
            None => Origin::Context(self.context(&ContextName::Main)),
            Some(word) => {
                let found =
                    self.outline.copy_source(self.dockerfile, self.options, number, word)?;
                match found {
                    StageBase::Stage(other) => {
                        let stage = &self.dockerfile.stages[number];
                        Origin::Stage(self.position(other, stage)?)
                    }
                    StageBase::Image(image) => Origin::Image(image),
                    StageBase::Scratch => {
                        return Err(Error::refused("`scratch` has no files", word.span));
                    }
                }
            }
        };
        let what = Transfer {
            name: "COPY",
            from,
            sources: &copy.sources,
            destination: &copy.destination,
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
            unpack: Unpack::Never,
        };
        what.plan(state, instruction)
    }

    fn add(
        &mut self,
        state: &mut State,
        instruction: &Instruction,
        add: &Add,
    ) -> Result<(), Error> {
        for name in ["checksum", "keep-git-dir", "exclude"] {
            if let Some(flag) = instruction.flag(name) {
                return Err(Error::not_yet(&format!("`ADD --{name}`"), flag.span));
            }
        }
        let what = Transfer {
            name: "ADD",
            from: Origin::Context(self.context(&ContextName::Main)),
            sources: &add.sources,
            destination: &add.destination,
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
            unpack: match add.unpack {
                None => Unpack::Local,
                Some(true) => Unpack::Always,
                Some(false) => Unpack::Never,
            },
        };
        what.plan(state, instruction)
    }
}

/// What `COPY` and `ADD` have in common.
struct Transfer<'a> {
    name: &'static str,
    from: Origin,
    sources: &'a [Source],
    destination: &'a Word,
    chown: Option<&'a Word>,
    chmod: Option<&'a Word>,
    unpack: Unpack,
}

impl Transfer<'_> {
    fn plan(&self, state: &mut State, instruction: &Instruction) -> Result<(), Error> {
        let mut sources = Vec::new();
        for source in self.sources {
            match source {
                Source::Path(word) => {
                    let path = state.expand(word)?;
                    if self.name == "ADD" && is_remote(&path) {
                        let what = format!("`ADD` of the remote source {path}");
                        return Err(Error::not_yet(&what, word.span));
                    }
                    sources.push(path);
                }
                Source::Heredoc(heredoc) => {
                    let what = format!("a here-document as a source of `{}`", self.name);
                    return Err(Error::not_yet(&what, heredoc.span));
                }
            }
        }
        let target = state.expand(self.destination)?;
        let chown = self.chown.map(|word| state.expand(word)).transpose()?;
        let chmod = self.chmod.map(|word| state.expand(word)).transpose()?;
        let mut created_by = self.name.to_owned();
        for (flag, value) in [("chown", &chown), ("chmod", &chmod)] {
            if let Some(value) = value {
                created_by.extend([" --", flag, "=", value]);
            }
        }
        for word in sources.iter().chain([&target]) {
            created_by.push(' ');
            created_by.push_str(word);
        }
        created_by.push_str(" # buildkit");
        let work = Work::Copy(Copy {
            instruction: self.name,
            from: self.from,
            sources: sources.into_iter().map(CopySource::Path).collect(),
            destination: destination(&state.working_directory(), &target),
            chown,
            chmod,
            link: false,
            parents: false,
            exclude: Vec::new(),
            unpack: self.unpack,
        });
        state.step(instruction.span, instruction.original.clone(), created_by, work);
        Ok(())
    }
}

fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"]
        .iter()
        .any(|prefix| source.starts_with(prefix))
}

fn with_shell(state: &State, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(args) => args.clone(),
        Command::Shell(word) => {
            let mut args = state.shell();
            args.push(word.text.clone());
            args
        }
    }
}

fn cmd(state: &mut State, command: &Command) {
    let args = with_shell(state, command);
    state.note(format!("CMD {}", quote_list(&args)));
    state.config.config.cmd = Some(args);
    state.config.config.args_escaped = Some(true);
    state.cmd_is_own = true;
}

fn entrypoint(state: &mut State, command: &Command) {
    let args = with_shell(state, command);
    state.note(format!("ENTRYPOINT {}", quote_list(&args)));
    state.config.config.entrypoint = Some(args).filter(|args| !args.is_empty());
    if !state.cmd_is_own {
        state.config.config.cmd = None;
    }
}

/// Expands keys and values with the environment as it was before the instruction.
fn expand_pairs(state: &State, pairs: &[Pair]) -> Result<Vec<(String, String)>, Error> {
    pairs.iter().map(|pair| Ok((state.expand(&pair.key)?, state.expand(&pair.value)?))).collect()
}

fn show_pairs(name: &str, pairs: &[(String, String)]) -> String {
    pairs.iter().fold(name.to_owned(), |text, (key, value)| format!("{text} {key}={value}"))
}

fn env(state: &mut State, pairs: &[Pair]) -> Result<(), Error> {
    let pairs = expand_pairs(state, pairs)?;
    for (key, value) in &pairs {
        state.set_env(key, value);
        state.set_config_env(key, value);
    }
    state.note(show_pairs("ENV", &pairs));
    Ok(())
}

fn label(state: &mut State, pairs: &[Pair]) -> Result<(), Error> {
    let pairs = expand_pairs(state, pairs)?;
    state.note(show_pairs("LABEL", &pairs));
    state.config.config.labels.extend(pairs);
    Ok(())
}

fn expose(state: &mut State, words: &[Word]) -> Result<(), Error> {
    let mut named = Vec::new();
    for word in words {
        for text in state.expand_several(word)? {
            let ports = ports(&text).map_err(|message| Error::refused(message, word.span))?;
            named.extend(ports);
        }
    }
    named.sort();
    state.note(format!("EXPOSE {}", plain_list(&named)));
    state.config.config.exposed_ports.extend(named.into_iter().map(|port| (port, Empty {})));
    Ok(())
}

fn volume(state: &mut State, words: &[Word]) -> Result<(), Error> {
    let mut paths = Vec::new();
    for word in words {
        let path = state.expand(word)?;
        if path.is_empty() {
            return Err(Error::refused("VOLUME specified can not be an empty string", word.span));
        }
        paths.push(path);
    }
    state.note(format!("VOLUME {}", plain_list(&paths)));
    state.config.config.volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
    Ok(())
}

fn stop_signal(state: &mut State, word: &Word) -> Result<(), Error> {
    let signal = state.expand(word)?;
    if !is_signal(&signal) {
        return Err(Error::refused(format!("invalid signal: {signal}"), word.span));
    }
    state.note(format!("STOPSIGNAL {signal}"));
    state.config.config.stop_signal = Some(signal);
    Ok(())
}

fn health(state: &mut State, check: &Check) {
    let nanoseconds =
        |time: &std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let check = match check {
        Check::None => Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() },
        Check::Test { command, interval, timeout, start_period, start_interval, retries } => {
            let mut test = Vec::new();
            match command {
                Command::Shell(word) => test.extend(["CMD-SHELL".to_owned(), word.text.clone()]),
                Command::Exec(args) => {
                    test.push("CMD".to_owned());
                    test.extend(args.iter().cloned());
                }
            }
            Healthcheck {
                test,
                interval: nanoseconds(interval),
                timeout: nanoseconds(timeout),
                start_period: nanoseconds(start_period),
                start_interval: nanoseconds(start_interval),
                retries: i64::from(*retries),
            }
        }
    };
    state.note(format!("HEALTHCHECK {}", healthcheck(&check)));
    state.config.config.healthcheck = Some(check);
}

/// `WORKDIR` makes a layer, unless it means the root, which is always there.
fn workdir(state: &mut State, instruction: &Instruction, word: &Word) -> Result<(), Error> {
    let path = join(&state.working_directory(), &state.expand(word)?);
    state.config.config.working_dir.clone_from(&path);
    let created_by = format!("WORKDIR {path}");
    if path == "/" {
        state.note(created_by);
        return Ok(());
    }
    let user = state.config.config.user.clone();
    let work = Work::Directory(Directory { path, user });
    state.step(instruction.span, created_by.clone(), created_by, work);
    Ok(())
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
