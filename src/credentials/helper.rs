//! Credential helpers: `docker-credential-<name>` (docker-credential-helpers, README).
//!
//! A helper is another's program: it may print anything, of any length, and never end. What it says
//! is read up to a limit, and in [`Locations::helper_timeout`](super::Locations::helper_timeout) it
//! is killed.

use std::io::{self, Read, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Credential, Error, Result, Secret};

/// Most that is read of an answer with a secret. Tokens of clouds have some thousand bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Most that is read of a list.
const MAX_LIST_BYTES: usize = 1 << 20;
/// Most of a helper's message that is shown.
const MAX_MESSAGE_CHARS: usize = 200;
/// How often a helper that closed its output is looked at for its end.
const POLL: Duration = Duration::from_millis(5);

/// A helper program.
#[derive(Debug, Clone)]
pub(super) struct Helper {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Store<'a> {
    #[serde(rename = "ServerURL")]
    server_url: &'a str,
    username: &'a str,
    secret: &'a str,
}

/// One question to a helper.
#[derive(Clone, Copy)]
struct Question<'a> {
    action: &'static str,
    /// What errors say it was about.
    key: &'a str,
    limit: usize,
}

/// What a helper said.
struct Said {
    is_success: bool,
    output: Zeroizing<Vec<u8>>,
    /// Its standard error.
    complaint: Zeroizing<Vec<u8>>,
}

impl Helper {
    /// Returns the helper `docker-credential-<name>`, found on the search path.
    pub(super) fn new(name: &str, timeout: Duration) -> Self {
        Self { program: format!("docker-credential-{name}"), arguments: Vec::new(), timeout }
    }

    /// Returns a helper that is a shell script, run by the shell so that no test executes a file
    /// that another thread's fork may still hold open for writing.
    #[cfg(test)]
    pub(super) fn script(path: &std::path::Path, timeout: Duration) -> Self {
        let arguments = vec![path.display().to_string()];
        Self { program: "sh".to_owned(), arguments, timeout }
    }

    /// Asks for the credential of `key`; `None` when the helper has none.
    pub(super) fn find(&self, key: &str) -> Result<Option<Credential>> {
        let question = Question { action: "get", key, limit: MAX_ANSWER_BYTES };
        let said = self.run(question, key.as_bytes())?;
        if !said.is_success {
            return if said.is_not_found() { Ok(None) } else { Err(self.failed(question, &said)) };
        }
        // The bytes may hold a secret, so they are not shown.
        let answer: Answer = serde_json::from_slice(&said.output)
            .map_err(|_| self.wrong(question, "its answer is not the JSON of a credential"))?;
        Ok((!answer.secret.is_empty()).then(|| {
            let secret = Secret::new(answer.secret.clone());
            if answer.username.is_empty() {
                Credential::IdentityToken(secret)
            } else {
                Credential::of(&answer.username, secret)
            }
        }))
    }

    /// Gives the credential of `key` to the helper.
    pub(super) fn store(&self, key: &str, username: &str, secret: &Secret) -> Result<()> {
        let question = Question { action: "store", key, limit: MAX_ANSWER_BYTES };
        let message = Store { server_url: key, username, secret: secret.expose() };
        // Every byte of the secret may be escaped to six: a buffer that grows leaves copies behind.
        let size = 6 * (key.len() + username.len() + secret.expose().len()) + 64;
        let mut input = Zeroizing::new(Vec::with_capacity(size));
        serde_json::to_writer(&mut *input, &message).expect("strings serialise to JSON");
        let said = self.run(question, &input)?;
        if said.is_success { Ok(()) } else { Err(self.failed(question, &said)) }
    }

    /// Makes the helper forget `key`; returns whether it knew it.
    pub(super) fn erase(&self, key: &str) -> Result<bool> {
        // Helpers do not agree on whether erasing the unknown is an error, so it is asked first.
        if self.find(key)?.is_none() {
            return Ok(false);
        }
        let question = Question { action: "erase", key, limit: MAX_ANSWER_BYTES };
        let said = self.run(question, key.as_bytes())?;
        match said.is_success {
            true => Ok(true),
            false if said.is_not_found() => Ok(false),
            false => Err(self.failed(question, &said)),
        }
    }

    /// Returns the keys that the helper knows.
    pub(super) fn list(&self) -> Result<Vec<String>> {
        let question = Question { action: "list", key: "", limit: MAX_LIST_BYTES };
        let said = self.run(question, b"")?;
        if !said.is_success {
            return Err(self.failed(question, &said));
        }
        let users: Option<Map<String, Value>> = serde_json::from_slice(&said.output)
            .map_err(|_| self.wrong(question, "its answer is not a JSON object"))?;
        Ok(users.unwrap_or_default().into_iter().map(|(key, _)| key).collect())
    }

    fn failed(&self, question: Question<'_>, said: &Said) -> Error {
        let lines = [&said.output, &said.complaint].map(|bytes| first_line(bytes));
        let line = lines.into_iter().find(|line| !line.is_empty());
        self.wrong(question, line.as_deref().unwrap_or("it does not say why"))
    }

    fn wrong(&self, question: Question<'_>, message: &str) -> Error {
        Error::Helper {
            program: self.program.clone(),
            action: question.action,
            key: question.key.to_owned(),
            message: message.to_owned(),
        }
    }

    fn late(&self, question: Question<'_>) -> Error {
        let (program, key) = (self.program.clone(), question.key.to_owned());
        Error::HelperTimeout { program, key, timeout: self.timeout }
    }

    fn start_error(&self, source: io::Error) -> Error {
        Error::HelperStart { program: self.program.clone(), source }
    }

    fn run(&self, question: Question<'_>, input: &[u8]) -> Result<Said> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .arg(question.action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| self.start_error(source))?;
        let outcome = self.converse(&mut child, question, input);
        if outcome.is_err() {
            // Already ended is fine; the wait below reaps it either way.
            let _ = child.kill();
            let _ = child.wait();
        }
        outcome
    }

    fn converse(&self, child: &mut Child, question: Question<'_>, input: &[u8]) -> Result<Said> {
        let deadline = Instant::now() + self.timeout;
        let complaint = child.stderr.take().map(|pipe| collect(pipe, MAX_ANSWER_BYTES));
        let output = child.stdout.take().map(|pipe| collect(pipe, question.limit));
        // The input is smaller than a pipe's buffer, or the helper reads it, or time runs out for
        // the thread's answer below. A helper that does not read breaks the pipe, and its own
        // output then says why.
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    return Err(self.start_error(error));
                }
                _ => {}
            }
        }
        let left = || deadline.saturating_duration_since(Instant::now());
        let output = match output.map(|output| output.recv_timeout(left())) {
            Some(Ok(read)) => read.map_err(|source| self.start_error(source))?,
            Some(Err(_)) => return Err(self.late(question)),
            None => Zeroizing::default(),
        };
        if output.len() > question.limit {
            let message = format!("its answer has more than {} bytes", question.limit);
            return Err(self.wrong(question, &message));
        }
        let is_success = loop {
            if let Some(status) = child.try_wait().map_err(|source| self.start_error(source))? {
                break status.success();
            }
            if Instant::now() >= deadline {
                return Err(self.late(question));
            }
            thread::sleep(POLL);
        };
        // Whoever the helper left behind may hold this pipe: what is there by now is enough.
        let complaint = complaint.and_then(|it| it.recv_timeout(POLL).ok()?.ok());
        Ok(Said { is_success, output, complaint: complaint.unwrap_or_default() })
    }
}

/// Reads a pipe, and one byte more than `limit` of it at most.
///
/// A grandchild may hold the pipe open after the helper was killed, so the thread is never joined;
/// it ends with the pipe.
fn collect(
    pipe: impl Read + Send + 'static,
    limit: usize,
) -> Receiver<io::Result<Zeroizing<Vec<u8>>>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // As large as it may get: a buffer that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
        let read = pipe.take(limit as u64 + 1).read_to_end(&mut bytes);
        // The receiver is gone when time ran out.
        let _ = sender.send(read.map(|_| bytes));
    });
    receiver
}

impl Said {
    /// Returns whether the helper's message, which is on its standard output, means "no such entry"
    /// (docker-credential-helpers, `credentials/error.go`). Some add words of their own, so it is
    /// searched for.
    fn is_not_found(&self) -> bool {
        String::from_utf8_lossy(&self.output).contains("credentials not found")
    }
}

/// Returns the first line of a message, fit to be shown; nothing of what may be a credential.
fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.trim_start().lines().next().unwrap_or_default();
    if text.contains('{') {
        return "it failed after it had answered".to_owned();
    }
    line.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect()
}
