//! Credential helpers: `docker-credential-<name>` (docker-credential-helpers, README).

use std::io::{self, Read, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::{Credential, Error, Result, Secret, file};

/// Most that is read of a helper's answer.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// How often a helper that closed its output is looked at for its end.
const POLL: Duration = Duration::from_millis(5);

/// A helper program.
#[derive(Debug, Clone)]
pub(super) struct Helper {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
}

#[derive(Deserialize, Zeroize)]
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
        let (success, mut output) = self.run("get", key.as_bytes())?;
        if !success {
            return if is_not_found(&output) { Ok(None) } else { Err(self.failed("get", &output)) };
        }
        let parsed: Result<Answer, _> = serde_json::from_slice(&output);
        output.zeroize();
        let Ok(mut answer) = parsed else {
            // The bytes may hold a secret, so they are not shown.
            return Err(self.failed("get", b"its answer is not JSON"));
        };
        let found = (!answer.secret.is_empty()).then(|| {
            if answer.username.is_empty() {
                Credential::IdentityToken(Secret::new(answer.secret.clone()))
            } else {
                file::basic(&answer.username, &answer.secret)
            }
        });
        answer.zeroize();
        Ok(found)
    }

    /// Gives the credential of `key` to the helper.
    pub(super) fn store(&self, key: &str, username: &str, secret: &Secret) -> Result<()> {
        let message = Store { server_url: key, username, secret: secret.expose() };
        let mut input = serde_json::to_vec(&message).expect("strings serialise to JSON");
        let outcome = self.run("store", &input);
        input.zeroize();
        let (success, output) = outcome?;
        if success { Ok(()) } else { Err(self.failed("store", &output)) }
    }

    /// Makes the helper forget `key`; returns whether it knew it.
    pub(super) fn erase(&self, key: &str) -> Result<bool> {
        let (success, output) = self.run("erase", key.as_bytes())?;
        match success {
            true => Ok(true),
            false if is_not_found(&output) => Ok(false),
            false => Err(self.failed("erase", &output)),
        }
    }

    fn failed(&self, action: &'static str, output: &[u8]) -> Error {
        let text = String::from_utf8_lossy(output);
        let message = text.lines().next().unwrap_or_default().chars().take(200).collect();
        Error::Helper { program: self.program.clone(), action, message }
    }

    fn start_error(&self, source: io::Error) -> Error {
        Error::HelperStart { program: self.program.clone(), source }
    }

    /// Runs the helper and returns whether it succeeded, with its standard output, which is also
    /// where helpers write their errors.
    fn run(&self, action: &'static str, input: &[u8]) -> Result<(bool, Vec<u8>)> {
        let deadline = Instant::now() + self.timeout;
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| self.start_error(source))?;
        let outcome = self.converse(&mut child, input, deadline);
        if outcome.is_err() {
            // Already ended is fine; the wait below reaps it either way.
            let _ = child.kill();
            let _ = child.wait();
        }
        outcome
    }

    fn converse(
        &self,
        child: &mut Child,
        input: &[u8],
        deadline: Instant,
    ) -> Result<(bool, Vec<u8>)> {
        let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (sender, receiver) = mpsc::channel();
        // A grandchild may hold the pipe open after the helper was killed, so the reader is
        // never joined; it ends with the pipe.
        thread::spawn(move || {
            let mut output = Vec::new();
            let read = stdout
                .map_or(Ok(0), |stdout| stdout.take(MAX_ANSWER_BYTES).read_to_end(&mut output));
            // The receiver is gone when time ran out.
            let _ = sender.send(read.map(|_| output));
        });
        // The input is far smaller than a pipe's buffer, so this does not block. A helper that
        // does not read it breaks the pipe, and its own output then says why.
        if let Some(mut stdin) = stdin.take() {
            match stdin.write_all(input) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    return Err(self.start_error(error));
                }
                _ => {}
            }
        }
        let late = || Error::HelperTimeout { program: self.program.clone(), timeout: self.timeout };
        let output = receiver
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .map_err(|_| late())?
            .map_err(|source| self.start_error(source))?;
        loop {
            if let Some(status) = child.try_wait().map_err(|source| self.start_error(source))? {
                return Ok((status.success(), output));
            }
            if Instant::now() >= deadline {
                return Err(late());
            }
            thread::sleep(POLL);
        }
    }
}

/// Returns whether a helper's message means "no such entry" (docker-credential-helpers,
/// `credentials/error.go`). Some add words of their own, so it is searched for.
fn is_not_found(output: &[u8]) -> bool {
    String::from_utf8_lossy(output).contains("credentials not found")
}
