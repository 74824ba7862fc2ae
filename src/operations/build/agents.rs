//! `--ssh`: the user's agent, or a private one with the keys that the user names.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use rustix::process::{Pid, Signal, kill_process};
use zeroize::Zeroizing;

use crate::operations::{Error, Kind};

/// The largest key file: RSA keys of 16384 bits have 13 KiB.
const MAX_KEY_BYTES: u64 = 100 << 10;

/// Says its own process's id when it listens, and ends when standard input does.
const WAITER: &str = "echo \"$SSH_AGENT_PID\"; exec cat";

/// An agent that the user gives to the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSource {
    /// What the Dockerfile calls it.
    pub id: String,
    /// The agent's socket, or key files.
    pub paths: Vec<PathBuf>,
}

/// The agents of a build, by id. Dropping it ends those that were started.
#[derive(Debug, Default)]
pub(super) struct Agents(BTreeMap<String, Agent>);

#[derive(Debug)]
enum Agent {
    /// The user's.
    Given(PathBuf),
    /// One with keys of its own.
    Private(PrivateAgent),
}

impl Agents {
    /// Finds the sockets, and starts an agent for each list of keys. Blocks.
    pub(super) fn start(sources: &[AgentSource]) -> Result<Self, Error> {
        let mut agents = Self::default();
        for AgentSource { id, paths } in sources {
            let are_sockets = paths.iter().map(|path| is_socket(id, path));
            let sockets = are_sockets.collect::<Result<Vec<bool>, Error>>()?;
            let agent = match (paths.as_slice(), sockets.contains(&true)) {
                ([socket], true) => Agent::Given(socket.clone()),
                (_, true) => {
                    let message = format!("invalid `--ssh {id}=...`: only single socket allowed");
                    return Err(Error::new(Kind::Settings, message)
                        .hint("name one socket, or any number of key files"));
                }
                (keys, false) => Agent::Private(PrivateAgent::start(id, keys)?),
            };
            if agents.0.insert(id.clone(), agent).is_some() {
                let message = format!("invalid `--ssh {id}`: duplicate id");
                return Err(Error::new(Kind::Settings, message));
            }
        }
        Ok(agents)
    }

    /// Returns where the agents listen, by id.
    pub(super) fn sockets(&self) -> BTreeMap<String, PathBuf> {
        let socket = |agent: &Agent| match agent {
            Agent::Given(socket) => socket.clone(),
            Agent::Private(agent) => agent.socket(),
        };
        self.0.iter().map(|(id, agent)| (id.clone(), socket(agent))).collect()
    }
}

fn is_socket(id: &str, path: &Path) -> Result<bool, Error> {
    let metadata = fs_err::metadata(path).map_err(|error| {
        let message = format!("failed to find the agent or key of `--ssh {id}`");
        Error::new(Kind::User, message).because(error)
    })?;
    Ok(metadata.file_type().is_socket())
}

/// The machine's `ssh-agent` with keys that only this build uses.
///
/// It ends with its waiter, which ends with this process even if that is killed: within seconds,
/// as the agent looks after the waiter itself.
#[derive(Debug)]
struct PrivateAgent {
    directory: tempfile::TempDir,
    waiter: Child,
    process: Option<Pid>,
}

impl PrivateAgent {
    fn start(id: &str, keys: &[PathBuf]) -> Result<Self, Error> {
        let keys = keys.iter().map(|path| read_key(path)).collect::<Result<Vec<_>, Error>>()?;
        let failed = || format!("failed to start an agent for `--ssh {id}`");
        let internal = |error| Error::new(Kind::Internal, failed()).because(error);
        let directory = tempfile::Builder::new().prefix("rpub-ssh-").tempdir().map_err(internal)?;
        let mut command = Command::new("ssh-agent");
        command.arg("-a").arg(directory.path().join("agent")).args(["sh", "-c", WAITER]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let waiter = command.spawn().map_err(|error| missing(failed(), "ssh-agent", error))?;
        let mut agent = Self { directory, waiter, process: None };
        let mut line = String::new();
        if let Some(stdout) = agent.waiter.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(internal)?;
        }
        agent.process = line.trim().parse().ok().and_then(Pid::from_raw);
        if agent.process.is_none() {
            let message = format!("{}: `ssh-agent` did not start", failed());
            return Err(Error::new(Kind::User, message));
        }
        for (path, key) in &keys {
            agent.add(path, key)?;
        }
        Ok(agent)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("agent")
    }

    /// Adds a key through a pipe: `ssh-add` refuses files that others may read, BuildKit does not.
    fn add(&self, path: &Path, key: &[u8]) -> Result<(), Error> {
        let failed = || format!("failed to use the ssh key `{}`", path.display());
        let internal = |error| Error::new(Kind::Internal, failed()).because(error);
        let mut command = Command::new("ssh-add");
        command.args(["-q", "-"]);
        command.env("SSH_AUTH_SOCK", self.socket()).env("SSH_ASKPASS_REQUIRE", "never");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| missing(failed(), "ssh-add", error))?;
        if let Some(mut stdin) = child.stdin.take() {
            // What `ssh-add` does not read, it complains about below.
            let _ = stdin.write_all(key);
        }
        let output = child.wait_with_output().map_err(internal)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::new(Kind::User, format!("{}: {}", failed(), said.trim()))
            .hint("give an unencrypted private key, or an agent: `--ssh default`"))
    }
}

impl Drop for PrivateAgent {
    fn drop(&mut self) {
        if let Some(process) = self.process {
            let _ = kill_process(process, Signal::TERM);
        }
        drop(self.waiter.stdin.take());
        let _ = self.waiter.wait();
    }
}

fn missing(failed: String, program: &str, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Error::new(Kind::User, format!("{failed}: `{program}` is not installed"))
            .hint("install the package `openssh-client`, or give an agent: `--ssh default`");
    }
    Error::new(Kind::User, failed).because(error)
}

fn read_key(path: &Path) -> Result<(PathBuf, Zeroizing<Vec<u8>>), Error> {
    let failed = || format!("failed to read the ssh key `{}`", path.display());
    let file = fs_err::File::open(path);
    let file = file.map_err(|error| Error::new(Kind::User, failed()).because(error))?;
    let room = usize::try_from(MAX_KEY_BYTES).unwrap_or(usize::MAX).saturating_add(64);
    let mut key = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_KEY_BYTES + 1)
        .read_to_end(&mut key)
        .map_err(|error| Error::new(Kind::User, failed()).because(error))?;
    if key.len() as u64 > MAX_KEY_BYTES {
        let message = format!("{}: it is larger than {MAX_KEY_BYTES} bytes", failed());
        return Err(Error::new(Kind::User, message));
    }
    if is_encrypted(&key) {
        let message = format!("the ssh key `{}` is protected by a passphrase", path.display());
        return Err(Error::new(Kind::User, message)
            .hint("add it to your agent with `ssh-add`, and pass `--ssh default`"));
    }
    Ok((path.to_owned(), key))
}

/// Returns whether a private key needs a passphrase, in PEM (RFC 1421, PKCS #8) or OpenSSH's format
/// (openssh-portable, PROTOCOL.key).
fn is_encrypted(key: &[u8]) -> bool {
    const OPENSSH: &[u8] = b"openssh-key-v1\0";
    let Ok(text) = std::str::from_utf8(key) else { return false };
    let is_marked = |line: &str| {
        line.starts_with("-----BEGIN ENCRYPTED")
            || (line.starts_with("Proc-Type:") && line.contains("ENCRYPTED"))
    };
    if text.lines().any(is_marked) {
        return true;
    }
    let body: Zeroizing<String> =
        Zeroizing::new(text.lines().filter(|line| !line.starts_with("-----")).collect());
    let decoded = base64::engine::general_purpose::STANDARD.decode(body.as_bytes());
    let Ok(decoded) = decoded.map(Zeroizing::new) else { return false };
    // The name of the cipher follows, with its length.
    let cipher = decoded.strip_prefix(OPENSSH).and_then(|rest| rest.split_at_checked(4));
    let Some((length, rest)) = cipher else { return false };
    let length = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
    rest.get(..length).is_some_and(|cipher| cipher != b"none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn openssh(cipher: &str) -> String {
        let mut bytes = b"openssh-key-v1\0".to_vec();
        bytes.extend(u32::try_from(cipher.len()).unwrap().to_be_bytes());
        bytes.extend(cipher.as_bytes());
        bytes.extend([0; 60]);
        let body = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let (a, b) = body.split_at(70);
        format!(
            "-----BEGIN OPENSSH PRIVATE KEY-----\n{a}\n{b}\n-----END OPENSSH PRIVATE KEY-----\n"
        )
    }

    #[test]
    fn encrypted_keys_are_known() {
        assert!(is_encrypted(openssh("aes256-ctr").as_bytes()));
        assert!(!is_encrypted(openssh("none").as_bytes()));
        assert!(is_encrypted(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII=\n"));
        assert!(is_encrypted(b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMII=\n"));
        assert!(!is_encrypted(b"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n"));
        for odd in [&b""[..], b"\xff", b"openssh-key-v1", b"b3BlbnNzaC1rZXktdjEA"] {
            assert!(!is_encrypted(odd), "{odd:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let source = AgentSource { id: "x".to_owned(), paths: vec!["/absent".into()] };
        let error = Agents::start(&[source]).unwrap_err();
        assert_eq!(error.to_string(), "failed to find the agent or key of `--ssh x`");
    }
}
