//! The worker's first process: it enters the namespaces, starts steps, and never has a thread.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    PidfdFlags, Signal, WaitId, WaitIdOptions, getppid, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal, setsid, waitid,
};
use rustix::thread::set_thread_groups;

use super::protocol::{Answer, Attempt, Exit, Failure, Reply, Start, ToRunner};
use super::request::{Network, RunRequest};
use super::step::{self, Descriptors, Report};
use super::wire::{receive_message, send_message};
use super::{filer, seccomp, sys};

/// Namespaces of every step. The step's mounts, processes and names are its own.
const STEP_NAMESPACES: i32 =
    libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// Is the worker until the outer process is gone.
///
/// The start: this process enters its namespaces and says [`Start::Entered`]; the outer process
/// writes the id maps and answers [`Start::Mapped`] with the filer's socket; this process forks the
/// filer and says [`Start::Ready`]. From then on it takes [`ToRunner`] messages. The end of the
/// socket is the order to kill everything and to end.
pub(super) fn main() -> ExitCode {
    let socket = sys::take_stdin();
    match prepare(socket).and_then(|(socket, filer)| Runner::new(socket, filer).serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::FAILURE
        }
    }
}

fn complain(failure: &Failure) {
    if let Failure::Failed { what, reason } = failure {
        let _ = writeln!(std::io::stderr(), "failed to {what}: {reason}");
    }
}

/// Enters the namespaces and starts the filer. Returns the runner's socket and the filer.
fn prepare(stdin: OwnedFd) -> Result<(OwnedFd, OwnedFd), Failure> {
    let socket =
        rustix::io::fcntl_dupfd_cloexec(&stdin, 3).attempting(|| "take the socket".to_owned())?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())
        .attempting(|| "open `/dev/null`".to_owned())?;
    rustix::stdio::dup2_stdin(&null).attempting(|| "replace standard input".to_owned())?;
    // Descriptor 0 is `/dev/null` now and stays open.
    std::mem::forget(stdin);
    drop(null);
    let number = std::os::fd::AsRawFd::as_raw_fd(&socket).cast_unsigned();
    sys::close_all_but(vec![number]).attempting(|| "close inherited descriptors".to_owned())?;
    // What the worker makes has the modes it says, whatever the user's umask.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Keys meant for the terminal's foreground group must not reach the worker.
    let _ = setsid();
    enter(&socket)
        .inspect_err(|failure| {
            if let Failure::Failed { what, reason } = failure {
                let refused = Start::Refused { what: what.clone(), reason: reason.clone() };
                let _ = send_message(socket.as_fd(), &refused, &[]);
            }
        })
        .and_then(|filers_socket| {
            let filer = start_filer(&socket, &filers_socket)?;
            send_message(socket.as_fd(), &Start::Ready, &[])
                .attempting(|| "report the start".to_owned())?;
            Ok((socket, filer))
        })
}

/// Makes the namespaces and becomes their root. Returns the filer's socket.
fn enter(socket: &OwnedFd) -> Result<OwnedFd, Failure> {
    sys::unshare_namespaces(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)
        .attempting(|| "enter a user namespace".to_owned())?;
    send_message(socket.as_fd(), &Start::Entered, &[])
        .attempting(|| "report the namespaces".to_owned())?;
    let message =
        receive_message::<Start>(socket.as_fd()).attempting(|| "receive the id maps".to_owned())?;
    let Some((Start::Mapped, descriptors)) = message else {
        return Err(Failure::Canceled);
    };
    set_thread_groups(&[]).attempting(|| "drop the user's groups".to_owned())?;
    // After the change of credentials, which clears it.
    set_parent_process_death_signal(Some(Signal::KILL))
        .attempting(|| "ask to die with the parent".to_owned())?;
    // Nothing that is mounted here shows outside, and nothing mounted outside holds us up.
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).attempting(|| "make mounts private".to_owned())?;
    let mut descriptors = descriptors.into_iter();
    descriptors.next().ok_or(Failure::Canceled)
}

fn start_filer(socket: &OwnedFd, filers_socket: &OwnedFd) -> Result<OwnedFd, Failure> {
    let runner = rustix::process::getpid();
    let Some(pid) = sys::fork().attempting(|| "start the filer".to_owned())? else {
        let ready = set_parent_process_death_signal(Some(Signal::KILL)).is_ok()
            && getppid() == Some(runner)
            && sys::replace_with_null(socket.as_fd()).is_ok();
        let code = if ready { filer::main(filers_socket) } else { 1 };
        sys::exit_now(code)
    };
    pidfd_open(pid, PidfdFlags::empty()).attempting(|| "watch the filer".to_owned())
}

/// Sorts the descriptors that came with a request, in the order of [`super::StepIo`].
fn descriptors_of(request: &RunRequest, received: Vec<OwnedFd>) -> Result<Descriptors, Failure> {
    let mut received = received.into_iter();
    let mut next = || {
        received.next().ok_or_else(|| Failure::Failed {
            what: "take a step".to_owned(),
            reason: "a descriptor is missing".to_owned(),
        })
    };
    Ok(Descriptors {
        output: next()?,
        secrets: request.has_secrets().then(&mut next).transpose()?,
        handing: request.passes_out().then(&mut next).transpose()?,
    })
}

/// A step that runs.
struct Step {
    request: Box<RunRequest>,
    /// Its pid 1.
    init: OwnedFd,
    /// Where pid 1 reports, until it has.
    report: Option<std::fs::File>,
    received: Vec<u8>,
    is_canceled: bool,
    is_answered: bool,
}

struct Runner {
    socket: OwnedFd,
    filer: OwnedFd,
    steps: HashMap<u64, Step>,
    filter: Vec<libc::sock_filter>,
}

/// What became readable.
enum Ready {
    Socket,
    Filer,
    Report(u64),
    Init(u64),
}

impl Runner {
    fn new(socket: OwnedFd, filer: OwnedFd) -> Self {
        Self { socket, filer, steps: HashMap::new(), filter: seccomp::filter() }
    }

    fn serve(mut self) -> Result<(), Failure> {
        let outcome = self.serve_until_end();
        // Nothing of ours outlives us: every init is killed and waited for, which ends its pid
        // namespace and its mounts.
        let all = self.steps.values().map(|step| &step.init).chain([&self.filer]);
        for process in all {
            let _ = pidfd_send_signal(process, Signal::KILL);
            let _ = waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED);
        }
        outcome
    }

    fn serve_until_end(&mut self) -> Result<(), Failure> {
        loop {
            for ready in self.wait()? {
                match ready {
                    Ready::Socket => {
                        let message = receive_message(self.socket.as_fd())
                            .attempting(|| "receive a request".to_owned())?;
                        let Some((message, descriptors)) = message else { return Ok(()) };
                        self.take(message, descriptors)?;
                    }
                    Ready::Filer => return Err(self.filer_died()),
                    Ready::Report(id) => self.read_report(id)?,
                    Ready::Init(id) => self.init_ended(id)?,
                }
            }
        }
    }

    /// Waits until something can be read.
    fn wait(&self) -> Result<Vec<Ready>, Failure> {
        let mut ready = vec![Ready::Socket, Ready::Filer];
        let mut polled =
            vec![PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.filer, PollFlags::IN)];
        for (id, step) in &self.steps {
            if let Some(report) = &step.report {
                ready.push(Ready::Report(*id));
                polled.push(PollFd::new(report, PollFlags::IN));
            } else {
                ready.push(Ready::Init(*id));
                polled.push(PollFd::new(&step.init, PollFlags::IN));
            }
        }
        while let Err(error) = poll(&mut polled, None) {
            if error != rustix::io::Errno::INTR {
                return Err(Failure::new("wait for requests", &error));
            }
        }
        let events = polled.iter().map(|polled| !polled.revents().is_empty());
        Ok(ready.into_iter().zip(events).filter_map(|(what, is)| is.then_some(what)).collect())
    }

    fn filer_died(&self) -> Failure {
        let status = waitid(WaitId::PidFd(self.filer.as_fd()), WaitIdOptions::EXITED);
        let status = status.ok().flatten();
        let signal = status.as_ref().and_then(rustix::process::WaitIdStatus::terminating_signal);
        let reason = match signal {
            Some(signal) => format!("killed by signal {signal}"),
            None => "it ended".to_owned(),
        };
        Failure::Failed { what: "go on without the worker's file process".to_owned(), reason }
    }

    fn take(&mut self, message: ToRunner, descriptors: Vec<OwnedFd>) -> Result<(), Failure> {
        match message {
            ToRunner::Run { id, request } => {
                let started = descriptors_of(&request, descriptors)
                    .and_then(|descriptors| self.start(request, descriptors));
                match started {
                    Ok(step) => drop(self.steps.insert(id, step)),
                    Err(failure) => self.reply(id, Err(failure))?,
                }
            }
            ToRunner::Cancel { id } => {
                if let Some(step) = self.steps.get_mut(&id) {
                    step.is_canceled = true;
                    let _ = pidfd_send_signal(&step.init, Signal::KILL);
                }
            }
        }
        Ok(())
    }

    /// Clones pid 1 of a step.
    fn start(&self, request: Box<RunRequest>, descriptors: Descriptors) -> Result<Step, Failure> {
        step::make_directories(&request)?;
        let (report, reporting) =
            pipe_with(PipeFlags::CLOEXEC).attempting(|| "make a pipe".to_owned())?;
        let network = match request.network {
            Network::Host => 0,
            Network::None => libc::CLONE_NEWNET,
        };
        let child = sys::clone_process(STEP_NAMESPACES | network)
            .attempting(|| "start a step".to_owned())?;
        let Some(child) = child else {
            step::main(&request, descriptors, &reporting, &self.filter)
        };
        Ok(Step {
            request,
            init: child.pidfd,
            report: Some(report.into()),
            received: Vec::new(),
            is_canceled: false,
            is_answered: false,
        })
    }

    fn read_report(&mut self, id: u64) -> Result<(), Failure> {
        let Some(step) = self.steps.get_mut(&id) else { return Ok(()) };
        let Some(report) = &mut step.report else { return Ok(()) };
        let mut buffer = [0; 4096];
        let count = match report.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            Err(_) => 0,
        };
        step.received.extend_from_slice(&buffer[..count]);
        let is_whole = step.received.last() == Some(&b'\n');
        if count > 0 && !is_whole {
            return Ok(());
        }
        step.report = None;
        if step.is_canceled || !is_whole {
            return Ok(());
        }
        step.is_answered = true;
        let report = serde_json::from_slice::<Report>(&step.received)
            .attempting(|| "read a step's report".to_owned());
        let result = report.and_then(|report| {
            step::remove_stubs(&step.request.step_directory, &report.stubs);
            report.outcome
        });
        self.reply(id, result.map(Answer::Exit))
    }

    /// Reaps pid 1 of a step, and answers for it when it was killed before it could report.
    fn init_ended(&mut self, id: u64) -> Result<(), Failure> {
        let Some(step) = self.steps.remove(&id) else { return Ok(()) };
        let _ = waitid(WaitId::PidFd(step.init.as_fd()), WaitIdOptions::EXITED);
        if step.is_answered {
            return Ok(());
        }
        let result = if step.is_canceled {
            Err(Failure::Canceled)
        } else {
            Ok(Answer::Exit(Exit::Signal(Signal::KILL.as_raw())))
        };
        self.reply(id, result)
    }

    fn reply(&self, id: u64, result: Result<Answer, Failure>) -> Result<(), Failure> {
        send_message(self.socket.as_fd(), &Reply { id, result }, &[])
            .attempting(|| "send a reply".to_owned())
    }
}
