//! `RUN`.

use crate::build::plan::stage::State;
use crate::build::plan::{Error, Network, Run, RunMount, Script, Security, Work};
use crate::dockerfile::{Instruction, Run as RunInstruction, RunNetwork, RunScript, RunSecurity};
use crate::image::Platform;

use super::Walk;

/// The host name in a step, as BuildKit has it.
const HOSTNAME: &str = "buildkitsandbox";

/// The build argument that changes it.
const HOSTNAME_ARG: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// Where BuildKit puts a here-document that is a program.
const SCRIPTS: &str = "/dev/pipes";

impl Walk<'_> {
    pub(super) fn run(
        &mut self,
        state: &mut State,
        number: usize,
        instruction: &Instruction,
        run: &RunInstruction,
    ) -> Result<(), Error> {
        if let Some(device) = run.devices.first() {
            let message = "`RUN --device` is not supported: steps get no devices of the host";
            return Err(Error::refused(message, device.span));
        }
        self.check_platform(state, instruction)?;
        let (args, script) = command(state, instruction, run)?;
        let created_by = state.run_history(&args);
        let hostname = self.options.build_args.get(HOSTNAME_ARG).filter(|name| !name.is_empty());
        let work = Work::Run(Run {
            args,
            env: state.environment(),
            proxy_env: state.proxy_env(&self.options.build_args),
            cwd: state.working_directory(),
            user: state.config.config.user.clone(),
            network: self.network(instruction, run)?,
            security: self.security(instruction, run)?,
            mounts: self.mounts(state, number, &run.mounts)?,
            script,
            hostname: hostname.map_or(HOSTNAME, String::as_str).to_owned(),
            hosts: self.options.hosts.clone(),
        });
        let title = title(state, instruction, run, &work);
        state.step(instruction.span, title, created_by, work);
        Ok(())
    }

    /// Refuses a step that this machine cannot execute.
    fn check_platform(&self, state: &State, instruction: &Instruction) -> Result<(), Error> {
        let (wanted, here) = (&state.platform, &self.options.build_platform);
        if executes(here, &self.options.emulated, wanted) {
            return Ok(());
        }
        let message = format!("a `RUN` for {wanted} cannot run on this {here} machine");
        let hint = "install emulators (Debian, Ubuntu: `apt install qemu-user-static \
                    binfmt-support`), or start the stage with `FROM --platform=$BUILDPLATFORM` and \
                    compile for $TARGETPLATFORM there";
        Err(Error::refused(message, instruction.keyword_span).with_hint(hint))
    }

    fn network(&self, instruction: &Instruction, run: &RunInstruction) -> Result<Network, Error> {
        match run.network {
            None | Some(RunNetwork::Default) => Ok(self.options.network),
            Some(RunNetwork::None) => Ok(Network::None),
            Some(RunNetwork::Host) if self.options.allowed.network_host => Ok(Network::Host),
            Some(RunNetwork::Host) => Err(not_allowed(instruction, "network", "network.host")),
        }
    }

    fn security(&self, instruction: &Instruction, run: &RunInstruction) -> Result<Security, Error> {
        match run.security {
            None | Some(RunSecurity::Sandbox) => Ok(Security::Sandbox),
            Some(RunSecurity::Insecure) if self.options.allowed.security_insecure => {
                Ok(Security::Insecure)
            }
            Some(RunSecurity::Insecure) => {
                Err(not_allowed(instruction, "security", "security.insecure"))
            }
        }
    }
}

/// Returns whether a machine executes programs of a platform: its own, those that its CPU knows as
/// well, those of the emulators.
fn executes(here: &Platform, emulated: &[Platform], wanted: &Platform) -> bool {
    let is_own = here.os == wanted.os
        && matches!(
            (here.architecture.as_str(), wanted.architecture.as_str()),
            ("amd64", "386") | ("arm64", "arm")
        );
    let same =
        |other: &Platform| other.os == wanted.os && other.architecture == wanted.architecture;
    is_own || same(here) || emulated.iter().any(same)
}

/// Returns the refusal of what only `--allow` permits, in BuildKit's words.
fn not_allowed(instruction: &Instruction, flag: &str, entitlement: &str) -> Error {
    let span = instruction.flag(flag).map_or(instruction.keyword_span, |flag| flag.span);
    Error::refused(format!("{entitlement} is not allowed"), span)
        .with_hint(format!("pass `--allow {entitlement}` if you trust this Dockerfile with it"))
}

/// Returns how the step is shown: variables with their values, secrets as `****`, of a here-document
/// the first line.
fn title(state: &State, instruction: &Instruction, run: &RunInstruction, work: &Work) -> String {
    let mounts = match work {
        Work::Run(Run { mounts, .. }) => mounts.as_slice(),
        Work::Copy(_) | Work::Directory(_) => &[],
    };
    let is_secret = |name: &str| {
        let is_it = |mount: &RunMount| matches!(mount, RunMount::Secret { env: Some(env), .. } if env == name);
        mounts.iter().any(is_it)
    };
    let lookup =
        |name: &str| if is_secret(name) { Some("****".to_owned()) } else { state.variable(name) };
    let mut title = state.title(instruction, &lookup);
    if let [heredoc] = run.heredocs.as_slice() {
        let mut lines = heredoc.content.trim().lines();
        let first = lines.next().unwrap_or_default();
        let more = if lines.next().is_some() { "..." } else { "" };
        title.extend([" (", first, more, ")"]);
    }
    title
}

/// Returns the program with its arguments, and the here-document that is a file of its own.
fn command(
    state: &State,
    instruction: &Instruction,
    run: &RunInstruction,
) -> Result<(Vec<String>, Option<Script>), Error> {
    let with_shell = |text: String| {
        let mut args = state.shell();
        args.push(text);
        args
    };
    let (args, script) = match run.script() {
        RunScript::Shell(text) => (with_shell(text.into_owned()), None),
        RunScript::Exec(args) => (args.to_vec(), None),
        RunScript::File { name, content } => {
            if name.contains('/') || matches!(name, "." | "..") {
                let message = format!("`{name}` is no name for a file");
                let span = run.heredocs.first().map_or(instruction.span, |heredoc| heredoc.span);
                return Err(Error::refused(message, span));
            }
            let path = format!("{SCRIPTS}/{name}");
            let script = Script { path: path.clone(), content: content.into_owned() };
            (with_shell(path), Some(script))
        }
    };
    if args.is_empty() {
        return Err(Error::refused("`RUN` needs a command", instruction.keyword_span));
    }
    Ok((args, script))
}
