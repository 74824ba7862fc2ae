//! `RUN`.

use crate::build::plan::stage::State;
use crate::build::plan::{Error, Network, Run, Script, Security, Work};
use crate::dockerfile::{Instruction, Run as RunInstruction, RunNetwork, RunScript, RunSecurity};

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
        let mut words = state.run_args();
        words.extend(args.iter().cloned());
        let created_by = format!("RUN {} # buildkit", words.join(" "));
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
        state.step(instruction.span, instruction.original.clone(), created_by, work);
        Ok(())
    }

    fn check_platform(&self, state: &State, instruction: &Instruction) -> Result<(), Error> {
        if state.platform.architecture == self.options.build_platform.architecture {
            return Ok(());
        }
        let (wanted, here) = (&state.platform, &self.options.build_platform);
        let message = format!("a `RUN` for {wanted} cannot run on this {here} machine");
        let hint = "build it on a machine of that platform, or start the stage with \
                    `FROM --platform=$BUILDPLATFORM`";
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

/// Returns the refusal of what only `--allow` permits, in BuildKit's words.
fn not_allowed(instruction: &Instruction, flag: &str, entitlement: &str) -> Error {
    let span = instruction.flag(flag).map_or(instruction.keyword_span, |flag| flag.span);
    Error::refused(format!("{entitlement} is not allowed"), span)
        .with_hint(format!("pass `--allow {entitlement}` if you trust this Dockerfile with it"))
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
