//! Running a program and judging what came out of it.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::leaks;
use super::process::Process;

/// A command that takes longer is stuck. The longest real one is a tutorial with `apt-get install`.
const LIMIT: Duration = Duration::from_secs(240);

/// A program to be run in a test's world.
#[must_use = "the command does nothing until it is run"]
pub(crate) struct TestCommand {
    command: Command,
    root: PathBuf,
    filters: Vec<(String, String)>,
    input: Vec<u8>,
    is_searched: bool,
    is_logging: bool,
}

impl TestCommand {
    pub(super) fn new(command: Command, root: PathBuf, filters: Vec<(String, String)>) -> Self {
        let (input, is_searched, is_logging) = (Vec::new(), false, false);
        Self { command, root, filters, input, is_searched, is_logging }
    }

    /// Has all that it says, at the highest verbosity of its log, searched for secrets.
    pub(super) fn searched(mut self) -> Self {
        self.command.env("RPUB_LOG", "trace");
        (self.is_searched, self.is_logging) = (true, true);
        self
    }

    /// Adds one argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub(crate) fn args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        self.command.args(args);
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        // Who asks for the log wants to see it.
        self.is_logging &= name != "RPUB_LOG";
        self
    }

    /// Runs it somewhere else than in the root.
    pub(crate) fn current_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Gives it something to read.
    pub(crate) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Checks that nothing that was said holds a secret.
    fn search(&self, stdout: &str, stderr: &str) {
        let words: Vec<_> = self.command.get_args().collect();
        // Who asks for a token gets one.
        let gives_token = words.windows(2).any(|pair| pair == ["auth", "token"]);
        let said = if gives_token { [stderr, ""] } else { [stderr, stdout] };
        for text in said {
            let line = text.lines().find(|line| leaks::found_in(line).is_some());
            assert!(line.is_none(), "a secret is said by {}: {line:?}", self.describe());
        }
    }

    /// Returns it as words for a shell.
    pub(crate) fn describe(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ")
    }

    /// Starts it.
    pub(crate) fn spawn(mut self) -> Running {
        let has_input = !self.input.is_empty();
        self.command.stdin(if has_input { Stdio::piped() } else { Stdio::null() });
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let child = self.command.spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{:?}: {error}", self.command));
        if let Some(mut stdin) = child.stdin.take() {
            let input = std::mem::take(&mut self.input);
            std::thread::spawn(move || stdin.write_all(&input));
        }
        let stdout = Collected::new(child.stdout.take().unwrap());
        let stderr = Collected::new(child.stderr.take().unwrap());
        Running { process: Process::new(child), stdout, stderr, started, command: self }
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Output {
        self.spawn().finish()
    }

    /// Runs it and expects exit code 0.
    pub(crate) fn success(self) -> Checked {
        self.code(0)
    }

    /// Runs it and expects this exit code.
    pub(crate) fn code(self, code: i32) -> Checked {
        let output = self.run();
        output.expect_code(code);
        Checked(output)
    }
}

/// A program that runs. Dropping it kills it.
#[must_use = "dropping a running program kills it"]
pub(crate) struct Running {
    process: Process,
    stdout: Collected,
    stderr: Collected,
    started: Instant,
    command: TestCommand,
}

impl Running {
    /// Returns the child itself.
    pub(super) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        let id = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(id, Signal::INT).unwrap();
    }

    /// Waits until standard error holds a text; false when it has not by then.
    pub(crate) fn wait_for_error(&mut self, text: &str, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let holds = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(text);
        self.stderr.read_until(deadline, holds) && holds(&self.stderr.bytes)
    }

    /// Waits until it has ended or `time` has passed; returns whether it has ended.
    pub(crate) fn wait_until(&mut self, time: Duration) -> bool {
        let deadline = self.started + time;
        loop {
            if self.process.child().try_wait().unwrap().is_some() {
                return true;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            std::thread::sleep(left.min(Duration::from_micros(500)));
        }
    }

    /// Waits until something is so while it runs.
    pub(crate) fn wait_until_so(&mut self, is_so: impl Fn() -> bool) {
        while !is_so() {
            let is_over = self.wait_until(self.started.elapsed() + Duration::from_millis(5));
            assert!(!is_over || is_so(), "the program is over already");
        }
    }

    /// Waits until it has ended; returns the most memory, in bytes, that it was seen to have used.
    pub(crate) fn peak_memory(&mut self) -> u64 {
        self.peak("VmHWM:")
    }

    /// Waits until it has ended; returns the most memory, in bytes, that it was seen to have filled
    /// itself: without the pages of the program's file, which in a build without optimisation are most.
    pub(crate) fn peak_own_memory(&mut self) -> u64 {
        self.peak("RssAnon:")
    }

    fn peak(&mut self, key: &str) -> u64 {
        let mut peak = 0;
        while self.started.elapsed() < LIMIT
            && !self.wait_until(self.started.elapsed() + Duration::from_millis(5))
        {
            // Nothing when it has ended in between.
            peak = self.memory_by(key).max(peak);
        }
        peak
    }

    /// Returns the most memory, in bytes, that it has used so far; nothing when it has ended.
    pub(crate) fn memory(&self) -> u64 {
        self.memory_by("VmHWM:")
    }

    fn memory_by(&self, key: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = fs_err::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kibibytes.unwrap_or(0) << 10
    }

    /// Waits for its end. Its output must end too: a process left behind that holds it is a fault.
    pub(crate) fn finish(mut self) -> Output {
        let deadline = self.started + LIMIT;
        let in_time = self.stdout.read_until(deadline, |_| false)
            && self.stderr.read_until(deadline, |_| false);
        if !in_time {
            self.process.kill();
        }
        let status = self.process.wait().unwrap();
        let (stdout, stderr) = (self.stdout.text(), self.stderr.text());
        if self.command.is_searched {
            self.command.search(&stdout, &stderr);
        }
        let hides_log = self.command.is_logging;
        let output = Output {
            status,
            stdout,
            stderr: if hides_log { leaks::without_log(&stderr) } else { stderr },
            elapsed: self.started.elapsed(),
            command: format!("{:?}", self.command.command),
            root: self.command.root,
            filters: self.command.filters,
        };
        assert!(in_time, "still running, or its output held open, after {LIMIT:?}\n{output}");
        output
    }
}

/// What a pipe has brought so far; a thread reads it.
struct Collected {
    pipe: Receiver<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Collected {
    fn new(mut pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { pipe: receiver, bytes: Vec::new() }
    }

    /// Reads on until `enough` says so; returns whether that, or the pipe's end, came in time.
    fn read_until(&mut self, deadline: Instant, enough: impl Fn(&[u8]) -> bool) -> bool {
        while !enough(&self.bytes) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.pipe.recv_timeout(left) {
                Ok(bytes) => self.bytes.extend_from_slice(&bytes),
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
        true
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// What a program left behind.
#[derive(Debug)]
#[must_use = "check the status"]
pub(crate) struct Output {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it wrote to its standard output.
    pub(crate) stdout: String,
    /// What it wrote to its standard error.
    pub(crate) stderr: String,
    /// How long it ran.
    pub(crate) elapsed: Duration,
    command: String,
    root: PathBuf,
    filters: Vec<(String, String)>,
}

/// An output whose exit code was the expected one.
#[derive(Debug)]
pub(crate) struct Checked(Output);

impl std::ops::Deref for Checked {
    type Target = Output;

    fn deref(&self) -> &Output {
        &self.0
    }
}

impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Output {
    /// Checks the exit code.
    pub(crate) fn expect_code(&self, code: i32) {
        assert!(self.status.code() == Some(code), "expected exit code {code}\n{self}");
    }

    /// Checks that standard error holds a text.
    pub(crate) fn expect_error(&self, text: &str) {
        assert!(self.stderr.contains(text), "expected `{text}` on standard error\n{self}");
    }

    /// Checks that standard output holds a text.
    pub(crate) fn expect_output(&self, text: &str) {
        assert!(self.stdout.contains(text), "expected `{text}` on standard output\n{self}");
    }

    /// Returns standard output without the space around it.
    pub(crate) fn line(&self) -> &str {
        self.stdout.trim()
    }

    /// Returns standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{self}"))
    }

    /// Returns the events that `--progress=rawjson` wrote, one a line, in order.
    pub(crate) fn events(&self) -> Vec<Value> {
        let lines = self.stderr.lines().filter(|line| line.starts_with('{'));
        let events: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!events.is_empty(), "no events\n{self}");
        events
    }

    /// Returns exit code, standard output and standard error as one text for a snapshot, with what
    /// differs between runs replaced.
    pub(crate) fn snapshot(&self) -> String {
        let code = self.status.code().map_or("signal".to_owned(), |code| code.to_string());
        let mut text = format!(
            "exit code: {code}\n----- stdout\n{}\n----- stderr\n{}",
            self.stdout.trim_end(),
            self.stderr.trim_end()
        );
        for (pattern, replacement) in &self.filters {
            let pattern = regex::Regex::new(pattern).unwrap();
            text = pattern.replace_all(&text, replacement.as_str()).into_owned();
        }
        text
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("signal {signal:?}"),
        };
        writeln!(f, "command: {}\nstatus: {status} after {:?}", self.command, self.elapsed)?;
        writeln!(f, "root: {}\n{}", self.root.display(), tree(&self.root))?;
        writeln!(f, "----- stdout\n{}\n----- stderr\n{}", self.stdout, self.stderr)
    }
}

/// Draws the first levels of a directory.
fn tree(root: &Path) -> String {
    let mut text = String::new();
    draw(root, 1, &mut text);
    text
}

fn draw(directory: &Path, depth: usize, text: &mut String) {
    let Ok(entries) = fs_err::read_dir(directory) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths.iter().take(30) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let _ = writeln!(text, "{:indent$}{name}", "", indent = depth * 2);
        if path.is_dir() && !path.is_symlink() && depth < 3 {
            draw(path, depth + 1, text);
        }
    }
    if paths.len() > 30 {
        let _ = writeln!(text, "{:indent$}...", "", indent = depth * 2);
    }
}
