//! The outer process's handle on the worker.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use rustix::process::Pid;

use super::cache_mount::MakeCacheRequest;
use super::error::Isolation;
use super::id_map::{IdMap, obstacle};
use super::protocol::{
    Answer, CopyFromRequest, Exit, Reply, SealRequest, StackRequest, Start, ToFiler, ToRunner,
    UnpackRequest, Work,
};
use super::request::{MountSource, RunRequest};
use super::wire::{receive_message, send_message};
use super::{Error, Result, WORKER_NAME};
use crate::image::Digest;
use crate::layer::SealedLayer;

/// The last lines of the worker's standard error that an error shows.
const KEPT_LINES: usize = 20;

/// How long a worker that was told to end may take before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// How to start a worker.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The program to execute; `/proc/self/exe` unless a test says otherwise.
    pub program: PathBuf,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self { program: PathBuf::from("/proc/self/exe") }
    }
}

/// A running worker. Methods block; any number of threads may call them at once.
///
/// Dropping it kills the worker and everything it started, and waits for the end.
pub struct Worker {
    shared: Arc<Shared>,
    mapping: String,
    process: u32,
    supervisor: Option<JoinHandle<()>>,
    /// Stacks that were prepared before: the steps of one stage share most of theirs.
    stacks: Mutex<HashMap<StackRequest, Vec<PathBuf>>>,
}

/// The descriptors of a step.
#[derive(Debug)]
pub struct StepIo {
    /// Where its output and errors go.
    pub output: OwnedFd,
    /// The values of its secrets, one after another; there when the request has secrets.
    pub secrets: Option<OwnedFd>,
    /// The step's end of a [`super::Handover`]; there when the request has agents or a terminal.
    pub handover: Option<OwnedFd>,
}

impl From<OwnedFd> for StepIo {
    fn from(output: OwnedFd) -> Self {
        Self { output, secrets: None, handover: None }
    }
}

/// A step that runs.
#[derive(Debug)]
pub struct Running {
    reply: Receiver<Result<Answer>>,
    canceller: Canceller,
}

/// Cancels a step from any thread.
#[derive(Debug, Clone)]
pub struct Canceller {
    shared: Arc<Shared>,
    id: u64,
}

/// What the handle and the threads that listen share.
struct Shared {
    runner: Mutex<OwnedFd>,
    filer: Mutex<OwnedFd>,
    next_id: AtomicU64,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    requests: HashMap<u64, Sender<Result<Answer>>>,
    /// What the worker said last, once it is dead.
    dead: Option<String>,
}

impl Worker {
    /// Starts the worker and waits until it is in its namespaces (2 to 4 ms).
    pub fn start(options: &WorkerOptions) -> Result<Self> {
        let map = IdMap::detect()?;
        let mapping = map.name().to_owned();
        let (runner, runners_end) = socket_pair()?;
        let (filer, filers_end) = socket_pair()?;
        let listening = [runner.try_clone(), filer.try_clone()];
        let [runner_in, filer_in] = listening.map(|socket| socket.map_err(Error::Protocol));
        let (runner_in, filer_in) = (runner_in?, filer_in?);
        let shared = Arc::new(Shared {
            runner: Mutex::new(runner),
            filer: Mutex::new(filer),
            next_id: AtomicU64::new(1),
            pending: Mutex::default(),
        });
        let supervisor = Supervisor { shared: Arc::clone(&shared), runner: runner_in };
        let (started, outcome) = channel();
        let options = options.clone();
        // The thread that starts the worker lives as long as it: the worker asks to be killed when
        // the thread that made it ends.
        let supervisor = spawn("worker supervisor", move || {
            supervisor.supervise(&options, &map, runners_end, filers_end, &started);
        })?;
        let process = outcome.recv().map_err(|_| Error::WorkerDied { stderr: String::new() })??;
        let replies = Arc::clone(&shared);
        spawn("worker replies", move || replies.dispatch(filer_in.as_fd()))?;
        let stacks = Mutex::default();
        Ok(Self { shared, mapping, process, supervisor: Some(supervisor), stacks })
    }

    /// Returns the word that names the id mapping, for the store's snapshot paths.
    #[must_use]
    pub fn mapping(&self) -> &str {
        &self.mapping
    }

    /// Returns the worker's process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process
    }

    /// Unpacks a layer: decompresses, verifies the diffID, writes the snapshot and its path index.
    ///
    /// Returns sentences about what could not be restored exactly, such as an attribute that the
    /// file system does not take; the first few of a layer.
    pub fn unpack(&self, request: UnpackRequest, source: OwnedFd) -> Result<Vec<String>> {
        match self.ask(Work::Unpack(request), Some(source))? {
            Answer::Unpacked(warnings) => Ok(warnings),
            _ => Err(unexpected()),
        }
    }

    /// Runs a command and waits for its end. Afterwards `step_directory/upper` is its change set.
    pub fn run(&self, request: RunRequest, io: StepIo) -> Result<Exit> {
        let running = self.begin_run(request, &io)?;
        // The output ends when the command's last process has closed it: we hold it no longer.
        drop(io);
        running.wait()
    }

    /// Starts a command without waiting, so that it can be cancelled.
    ///
    /// Who reads the other end of `io.output` sees its end only when the caller has closed it, too.
    pub fn begin_run(&self, mut request: RunRequest, io: &StepIo) -> Result<Running> {
        let directory = request.snapshots_directory.clone();
        let stack = |layers: &mut Vec<PathBuf>, indexes: &mut Vec<PathBuf>| -> Result<()> {
            let (layers_before, indexes) = (std::mem::take(layers), std::mem::take(indexes));
            let snapshots_directory = directory.clone();
            *layers =
                self.stack(StackRequest { layers: layers_before, indexes, snapshots_directory })?;
            Ok(())
        };
        stack(&mut request.layers, &mut request.indexes)?;
        for mount in &mut request.mounts {
            if let MountSource::Tree { layers, indexes, .. } = &mut mount.source {
                stack(layers, indexes)?;
            }
        }
        if request.has_secrets() != io.secrets.is_some()
            || request.passes_out() != io.handover.is_some()
        {
            return Err(unexpected());
        }
        let (id, reply) = self.shared.expect_reply();
        let message = ToRunner::Run { id, request: Box::new(request) };
        let optional = io.secrets.iter().chain(&io.handover);
        let descriptors: Vec<_> =
            [&io.output].into_iter().chain(optional).map(AsFd::as_fd).collect();
        send(&self.shared.runner, &message, &descriptors);
        Ok(Running { reply, canceller: Canceller { shared: Arc::clone(&self.shared), id } })
    }

    /// Turns a change set into a layer, written to `output`, and a snapshot.
    pub fn seal(&self, request: SealRequest, output: OwnedFd) -> Result<SealedLayer> {
        match self.ask(Work::Seal(request), Some(output))? {
            Answer::Sealed(layer) => Ok(layer),
            _ => Err(unexpected()),
        }
    }

    /// Returns the content key of what a `COPY --from` would copy.
    pub fn copy_digest(&self, request: CopyFromRequest) -> Result<Digest> {
        match self.ask(Work::CopyDigest(Box::new(request)), None)? {
            Answer::Digest(digest) => Ok(digest),
            _ => Err(unexpected()),
        }
    }

    /// Makes a layer of files of another root file system, written to `output`.
    pub fn copy_from(&self, request: CopyFromRequest, output: OwnedFd) -> Result<SealedLayer> {
        match self.ask(Work::CopyFrom(Box::new(request)), Some(output))? {
            Answer::Sealed(layer) => Ok(layer),
            _ => Err(unexpected()),
        }
    }

    /// Deletes trees that only the namespace's root may delete. Absent ones are no error.
    pub fn remove(&self, paths: Vec<PathBuf>) -> Result<()> {
        self.ask(Work::Remove(paths), None).map(drop)
    }

    /// Makes the directory of a cache mount.
    pub fn make_cache(&self, request: MakeCacheRequest) -> Result<()> {
        self.ask(Work::MakeCache(Box::new(request)), None).map(drop)
    }

    /// Returns how many bytes each tree takes on disk. Absent ones take none.
    pub fn measure(&self, paths: Vec<PathBuf>) -> Result<Vec<u64>> {
        match self.ask(Work::Measure(paths), None)? {
            Answer::Sizes(sizes) => Ok(sizes),
            _ => Err(unexpected()),
        }
    }

    /// Kills every running step; their requests end with [`Error::Canceled`].
    pub fn cancel_all(&self) {
        let ids: Vec<u64> = lock(&self.shared.pending).requests.keys().copied().collect();
        for id in ids {
            send(&self.shared.runner, &ToRunner::Cancel { id }, &[]);
        }
    }

    fn stack(&self, request: StackRequest) -> Result<Vec<PathBuf>> {
        if let Some(stack) = lock(&self.stacks).get(&request) {
            return Ok(stack.clone());
        }
        let Answer::Stack(stack) = self.ask(Work::Stack(request.clone()), None)? else {
            return Err(unexpected());
        };
        lock(&self.stacks).insert(request, stack.clone());
        Ok(stack)
    }

    fn ask(&self, work: Work, descriptor: Option<OwnedFd>) -> Result<Answer> {
        let (id, reply) = self.shared.expect_reply();
        let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
        send(&self.shared.filer, &ToFiler { id, work }, &descriptors);
        drop(descriptor);
        receive(&reply)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("Worker");
        debug
            .field("mapping", &self.mapping)
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The runner takes the end of its socket as the order to end everything.
        for socket in [&self.shared.runner, &self.shared.filer] {
            let _ = shutdown(&*lock(socket), Shutdown::Both);
        }
        if let Some(supervisor) = self.supervisor.take() {
            let _ = supervisor.join();
        }
    }
}

impl Running {
    /// Waits for the end of the command.
    pub fn wait(self) -> Result<Exit> {
        match receive(&self.reply)? {
            Answer::Exit(exit) => Ok(exit),
            _ => Err(unexpected()),
        }
    }

    /// Returns a handle that can cancel the step.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }
}

impl Canceller {
    /// Kills the step with everything it started. Does nothing when it has ended.
    pub fn cancel(&self) {
        send(&self.shared.runner, &ToRunner::Cancel { id: self.id }, &[]);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    fn expect_reply(&self) -> (u64, Receiver<Result<Answer>>) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = channel();
        let mut pending = lock(&self.pending);
        if let Some(stderr) = &pending.dead {
            let _ = sender.send(Err(Error::WorkerDied { stderr: stderr.clone() }));
        } else {
            pending.requests.insert(id, sender);
        }
        (id, receiver)
    }

    /// Hands replies to those who wait until the socket ends.
    fn dispatch(&self, socket: BorrowedFd<'_>) {
        loop {
            match receive_message::<Reply>(socket) {
                Ok(Some((reply, _))) => {
                    let waiting = lock(&self.pending).requests.remove(&reply.id);
                    if let Some(waiting) = waiting {
                        let _ = waiting.send(reply.result.map_err(Error::from));
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "receiving from the worker failed");
                    return;
                }
            }
        }
    }

    fn fail_all(&self, stderr: &str) {
        let mut pending = lock(&self.pending);
        pending.dead = Some(stderr.to_owned());
        for (_, waiting) in pending.requests.drain() {
            let _ = waiting.send(Err(Error::WorkerDied { stderr: stderr.to_owned() }));
        }
    }
}

/// The thread that starts the worker, listens to the runner, and reports its end.
struct Supervisor {
    shared: Arc<Shared>,
    runner: OwnedFd,
}

impl Supervisor {
    fn supervise(
        self,
        options: &WorkerOptions,
        map: &IdMap,
        runners_end: OwnedFd,
        filers_end: OwnedFd,
        started: &Sender<Result<u32>>,
    ) {
        let mut child = match start_program(options, runners_end) {
            Ok(child) => child,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let collector = child
            .stderr
            .take()
            .and_then(|pipe| spawn("worker stderr", move || last_lines(pipe)).ok());
        let outcome = self.shake_hands(&child, map, &filers_end);
        drop(filers_end);
        match outcome {
            Ok(()) => {
                let _ = started.send(Ok(child.id()));
                self.shared.dispatch(self.runner.as_fd());
                end(&mut child);
                let stderr = collected(collector);
                self.shared.fail_all(&stderr);
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                let stderr = collected(collector);
                let error = match error {
                    Error::WorkerDied { .. } => Error::WorkerDied { stderr },
                    error => error,
                };
                let _ = started.send(Err(error));
            }
        }
    }

    /// Takes the worker through its start: it enters its namespaces, gets its maps, and is ready.
    fn shake_hands(&self, child: &Child, map: &IdMap, filers_end: &OwnedFd) -> Result<()> {
        self.expect(&Start::Entered)?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        map.write(pid.ok_or_else(unexpected)?)?;
        send_message(self.runner.as_fd(), &Start::Mapped, &[filers_end.as_fd()])
            .map_err(Error::Protocol)?;
        self.expect(&Start::Ready)
    }

    fn expect(&self, wanted: &Start) -> Result<()> {
        let message = receive_message::<Start>(self.runner.as_fd()).map_err(Error::Protocol)?;
        match message {
            Some((Start::Refused { what, reason }, _)) => {
                let reason = format!("failed to {what}: {reason}");
                let obstacle = obstacle();
                Err(Error::Isolation(Isolation::NamespacesRefused { reason, obstacle }))
            }
            Some((got, _)) if std::mem::discriminant(&got) == std::mem::discriminant(wanted) => {
                Ok(())
            }
            Some(_) => Err(unexpected()),
            None => Err(Error::WorkerDied { stderr: String::new() }),
        }
    }
}

/// Executes the program as a worker. Its environment is empty: no credential can be in there.
fn start_program(options: &WorkerOptions, socket: OwnedFd) -> Result<Child> {
    let mut command = Command::new(&options.program);
    command.arg0(WORKER_NAME).env_clear().current_dir("/");
    command.stdin(socket).stdout(Stdio::null()).stderr(Stdio::piped());
    let program = options.program.clone();
    command.spawn().map_err(|source| Error::Start { program, source })
}

/// Waits for the worker's end, which was ordered or has happened, and kills it when it takes long.
fn end(child: &mut Child) {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(100);
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn last_lines(pipe: ChildStderr) -> String {
    let mut lines = VecDeque::with_capacity(KEPT_LINES);
    for line in BufReader::new(pipe).split(b'\n').map_while(std::io::Result::ok) {
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(String::from_utf8_lossy(&line).into_owned());
    }
    Vec::from(lines).join("\n")
}

fn collected(collector: Option<JoinHandle<String>>) -> String {
    collector.and_then(|thread| thread.join().ok()).unwrap_or_default()
}

/// Sends a message. A failure means that the worker is gone, which every pending request learns from
/// the thread that watches it.
fn send<T: serde::Serialize>(socket: &Mutex<OwnedFd>, message: &T, descriptors: &[BorrowedFd<'_>]) {
    if let Err(error) = send_message(lock(socket).as_fd(), message, descriptors) {
        tracing::debug!(%error, "sending to the worker failed");
    }
}

fn receive(reply: &Receiver<Result<Answer>>) -> Result<Answer> {
    reply.recv().unwrap_or_else(|_| Err(Error::WorkerDied { stderr: String::new() }))
}

fn unexpected() -> Error {
    Error::Protocol(std::io::ErrorKind::InvalidData.into())
}

pub(super) fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|error| Error::Protocol(error.into()))
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(Error::Protocol)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the mutexes guard is valid after every single operation.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
