//! Running `git`: with an environment of our own, a time limit, and a way to stop it.

use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use fs_err as fs;
use rustix::process::{Pid, Signal};

use super::address::Address;
use crate::remote::{Error, Fetcher, GitSettings, Kind, Result};

/// How often a running `git` is asked whether it is still wanted.
const POLL: Duration = Duration::from_millis(100);
/// The most that is read of its output.
const MAX_OUTPUT_BYTES: u64 = 16 << 20;
/// How much of its errors is kept: the last lines say why.
const MAX_ERROR_BYTES: usize = 8 << 10;
/// How many of those lines are shown.
const ERROR_LINES: usize = 6;
/// How often a connection that fails is tried.
const TRIES: u32 = 3;
/// What may be a way to another repository.
const PROTOCOLS: &str = "http:https:git:ssh";

/// `git`, ready to run for one repository.
pub(super) struct Program<'a> {
    address: &'a Address,
    settings: &'a GitSettings,
    is_canceled: &'a (dyn Fn() -> bool + Sync),
    variables: Vec<(String, String)>,
    home: PathBuf,
    is_offline: bool,
}

impl<'a> Fetcher<'a> {
    /// Prepares `git`; `home` is a directory of ours.
    pub(super) fn program(&self, address: &'a Address, home: &Path) -> Result<Program<'a>> {
        let mut config: Vec<(String, String)> =
            CONFIG.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        if let Some(file) = authorities(&self.git.ca_files, home)? {
            config.push(("http.sslCAInfo".to_owned(), file.display().to_string()));
        }
        if let Some((key, header)) = address.authorization(self)? {
            config.push((key, header.expose().to_owned()));
        }
        let mut variables = vec![("GIT_CONFIG_COUNT".to_owned(), config.len().to_string())];
        for (at, (key, value)) in config.into_iter().enumerate() {
            variables.push((format!("GIT_CONFIG_KEY_{at}"), key));
            variables.push((format!("GIT_CONFIG_VALUE_{at}"), value));
        }
        variables.push(("GIT_SSH_COMMAND".to_owned(), ssh_command(self.git, home)));
        Ok(Program {
            address,
            settings: self.git,
            is_canceled: self.is_canceled,
            variables,
            home: home.to_owned(),
            is_offline: self.is_offline,
        })
    }
}

/// What git would else take from files, or do by itself.
const CONFIG: [(&str, &str); 15] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.autocrlf", "false"),
    ("core.fileMode", "true"),
    ("credential.helper", ""),
    ("advice.detachedHead", "false"),
    ("init.defaultBranch", "master"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("submodule.recurse", "false"),
    // A connection that gives less than this for that long is dead.
    ("http.lowSpeedLimit", "100"),
    ("http.lowSpeedTime", "90"),
    // Ours, even when its owner is another user of the same machine.
    ("safe.directory", "*"),
];

/// Variables that turn off what is not asked for.
const VARIABLES: [(&str, &str); 11] = [
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", ""),
    ("SSH_ASKPASS", ""),
    ("GIT_SSH_VARIANT", "ssh"),
    ("GIT_PROTOCOL_FROM_USER", "0"),
    ("HOME", "/dev/null"),
    ("XDG_CONFIG_HOME", "/dev/null"),
    ("LC_ALL", "C"),
];

impl Program<'_> {
    pub(super) fn remote(&self) -> &str {
        &self.address.remote
    }

    pub(super) fn shown(&self) -> &str {
        &self.address.shown
    }

    /// Runs git, which asks the other side; a connection that fails is tried again.
    pub(super) fn ask(&self, args: &[&str], limit: Duration) -> Result<Vec<u8>> {
        let home = self.home.clone();
        self.transfer(&home, args, limit)
    }

    /// Like [`ask`](Self::ask), in `directory`.
    pub(super) fn transfer(
        &self,
        directory: &Path,
        args: &[&str],
        limit: Duration,
    ) -> Result<Vec<u8>> {
        if self.is_offline {
            return Err(Error::Offline { what: self.shown().to_owned() });
        }
        let mut attempt = 1;
        loop {
            match self.run(directory, args, PROTOCOLS, limit) {
                Err(Error::Git { kind: Kind::Network, .. }) if attempt < TRIES => {
                    self.pause(Duration::from_millis(500) * attempt)?;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// Runs git on what is here; no other side is asked, except `file` repositories.
    pub(super) fn local(
        &self,
        directory: &Path,
        args: &[&str],
        limit: Duration,
    ) -> Result<Vec<u8>> {
        self.run(directory, args, "file", limit)
    }

    fn pause(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if (self.is_canceled)() {
                return Err(Error::Canceled);
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn run(
        &self,
        directory: &Path,
        args: &[&str],
        protocols: &str,
        limit: Duration,
    ) -> Result<Vec<u8>> {
        let mut command = Command::new("git");
        command.args(args).current_dir(directory).env_clear();
        if let Some(path) = &self.settings.search_path {
            command.env("PATH", path);
        }
        command.envs(self.settings.environment.iter().map(|(name, value)| (name, value)));
        command.envs(VARIABLES).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env("GIT_ALLOW_PROTOCOL", protocols);
        command.env("GIT_CEILING_DIRECTORIES", directory.parent().unwrap_or(directory));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: git starts helpers, which must end with it.
        command.process_group(0);
        let child = command.spawn().map_err(Error::NoGit)?;
        let action = args.first().copied().unwrap_or_default();
        let (status, output, error) = self.wait(child, action, limit)?;
        if status.success() {
            return Ok(output);
        }
        let (message, kind) = explain(&error);
        let (action, remote) = (action.to_owned(), self.shown().to_owned());
        Err(Error::Git { action, remote, message, kind })
    }

    fn wait(
        &self,
        mut child: Child,
        action: &str,
        limit: Duration,
    ) -> Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
        let deadline = Instant::now() + limit;
        let output = collect(child.stdout.take(), Vec::extend_from_slice);
        let error = collect(child.stderr.take(), |all, piece| {
            all.extend_from_slice(piece);
            let surplus = all.len().saturating_sub(MAX_ERROR_BYTES);
            all.drain(..surplus);
        });
        let collected = self.receive(&output, deadline).and_then(|output| {
            let error = self.receive(&error, deadline)?;
            Ok((output, error))
        });
        let (output, error) = match collected {
            Ok(collected) => collected,
            Err(stop) => {
                kill(&mut child);
                return Err(match stop {
                    Stop::Canceled => Error::Canceled,
                    Stop::Late => Error::GitTimeout {
                        action: action.to_owned(),
                        remote: self.shown().to_owned(),
                        seconds: limit.as_secs(),
                    },
                });
            }
        };
        Ok((child.wait()?, output, error))
    }

    fn receive(&self, pipe: &Receiver<Vec<u8>>, deadline: Instant) -> Result<Vec<u8>, Stop> {
        loop {
            match pipe.recv_timeout(POLL) {
                Ok(bytes) => return Ok(bytes),
                Err(RecvTimeoutError::Disconnected) => return Ok(Vec::new()),
                Err(RecvTimeoutError::Timeout) if (self.is_canceled)() => {
                    return Err(Stop::Canceled);
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    return Err(Stop::Late);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Why a running `git` is stopped.
enum Stop {
    Canceled,
    Late,
}

/// Reads a pipe to its end on a thread of its own.
fn collect(
    pipe: Option<impl Read + Send + 'static>,
    add: impl Fn(&mut Vec<u8>, &[u8]) + Send + 'static,
) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    let Some(pipe) = pipe else { return receiver };
    std::thread::spawn(move || {
        let mut pipe = pipe.take(MAX_OUTPUT_BYTES);
        let (mut all, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            add(&mut all, &buffer[..count]);
        }
        // Nobody waits any more when git was stopped.
        let _ = sender.send(all);
    });
    receiver
}

/// Kills `child` with its helpers.
fn kill(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group
        && let Err(error) = rustix::process::kill_process_group(group, Signal::KILL)
    {
        tracing::debug!(%error, "git was gone before it was stopped");
    }
    let _ = child.wait();
}

/// Returns the last lines of what git wrote to standard error, and what kind of failure they mean.
fn explain(error: &[u8]) -> (String, Kind) {
    let text = String::from_utf8_lossy(error);
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>())
        .filter(|line| !line.trim().is_empty())
        .collect();
    let message = lines[lines.len().saturating_sub(ERROR_LINES)..].join("; ");
    let has = |texts: &[&str]| texts.iter().any(|part| message.contains(part));
    let kind = if has(&[
        "could not read Username",
        "Authentication failed",
        "Permission denied",
        "returned error: 401",
        "returned error: 403",
        "Host key verification failed",
    ]) {
        Kind::Denied
    } else if has(&["repository not exported", "' not found", "not found:", "Repository not found"])
    {
        Kind::NotFound
    } else if has(&[
        "Could not resolve host",
        "unable to connect",
        "Connection refused",
        "Connection timed out",
        "Connection reset",
        "early EOF",
        "hung up unexpectedly",
        "RPC failed",
        "unexpected disconnect",
        "Failed to connect",
        "returned error: 5",
        "returned error: 429",
        "Operation too slow",
    ]) {
        Kind::Network
    } else {
        Kind::User
    };
    (message, kind)
}

/// Returns how ssh is run: without the user's configuration, which may run programs; with no key but
/// those of the agent that the build was given. A host that is met for the first time is
/// remembered, and must be the same ever after.
fn ssh_command(settings: &GitSettings, home: &Path) -> String {
    let known = home.parent().unwrap_or(home).join("known_hosts");
    let agent = settings.agent.as_ref().map_or("none".into(), |path| path.display().to_string());
    let options = [
        "BatchMode=yes".to_owned(),
        "ConnectTimeout=30".to_owned(),
        "StrictHostKeyChecking=accept-new".to_owned(),
        "IdentityFile=none".to_owned(),
        format!("IdentityAgent=\"{agent}\""),
        format!("UserKnownHostsFile=\"{}\" ~/.ssh/known_hosts", known.display()),
    ];
    let options: Vec<String> = options.iter().map(|text| format!("-o {}", quote(text))).collect();
    format!("ssh -F /dev/null {}", options.join(" "))
}

/// Quotes a word for the shell that git gives the command to.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Puts all authorities into one file, which is all that git takes.
fn authorities(files: &[PathBuf], home: &Path) -> io::Result<Option<PathBuf>> {
    let path = match files {
        [] => return Ok(None),
        [file] => return Ok(Some(std::path::absolute(file)?)),
        _ => home.join("authorities.pem"),
    };
    let mut all = Vec::new();
    for file in files {
        all.extend(fs::read(file)?);
        all.push(b'\n');
    }
    fs::write(&path, all)?;
    Ok(Some(path))
}
