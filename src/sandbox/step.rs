//! A step's processes: pid 1 of its namespace, and the command.

use std::ffi::{CStr, CString};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Access, Mode, access};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, set_parent_process_death_signal, setsid, umask, wait,
};
use rustix::thread::{
    CapabilitySet, Gid, Uid, remove_capability_from_bounding_set, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::handover::Handing;
use super::mounts::{self, Outside, writable_directory};
use super::protocol::{Attempt as _, Exit, Failure};
use super::request::{
    ChangeSet, MountAccess, MountSource, Network, RunRequest, Security, StepMount,
};
use super::streams::{Streams, limit};
use super::stubs::{self, Stub};
use super::sys;
use super::user::{User, resolve_user};

/// The capabilities that docker lets a container have.
const CAPABILITIES: u64 = 0xa804_25fb;

/// What docker and BuildKit search when the image says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What pid 1 tells the runner, once, as a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    /// What was made in the change set to mount on.
    pub(super) stubs: Vec<Stub>,
    /// How the command ended, or why it could not start.
    pub(super) outcome: Result<Exit, Failure>,
}

/// Makes what a step needs on disk: `upper`, `work`, and what its mounts need.
pub(super) fn make_directories(request: &RunRequest) -> Result<(), Failure> {
    let step = &request.step_directory;
    let make = || -> std::io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(step)?;
        let is_tree = |mount: &StepMount| matches!(mount.source, MountSource::Tree { .. });
        for (name, is_needed) in [
            ("empty", request.layers.is_empty() || request.mounts.iter().any(is_tree)),
            ("shelf", !request.mounts.is_empty()),
        ] {
            if is_needed {
                make_directory(&step.join(name))?;
            }
        }
        let upper = step.join("upper");
        if request.change_set == ChangeSet::New {
            make_upper(&upper, &request.layers)?;
        }
        fs_err::create_dir(step.join(request.work_name()))?;
        for (number, StepMount { source, .. }) in request.mounts.iter().enumerate() {
            if let MountSource::Tree { layers, access: MountAccess::ReadWrite, .. } = source {
                let own = writable_directory(step, number);
                let _ = fs_err::remove_dir_all(&own);
                fs_err::create_dir(&own)?;
                make_upper(&own.join("upper"), layers)?;
                fs_err::create_dir(own.join("work"))?;
            }
        }
        Ok(())
    };
    make().attempting(|| format!("prepare the step directory `{}`", step.display()))
}

/// Makes a directory unless it is there.
fn make_directory(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// Makes an upper directory. The merged root shows its metadata, so it takes over what is below.
fn make_upper(upper: &Path, layers: &[std::path::PathBuf]) -> std::io::Result<()> {
    fs_err::create_dir(upper)?;
    let Some(top) = layers.last() else {
        return fs_err::set_permissions(upper, std::fs::Permissions::from_mode(0o755));
    };
    let below = fs_err::metadata(top)?;
    std::os::unix::fs::chown(upper, Some(below.uid()), Some(below.gid()))?;
    fs_err::set_permissions(upper, below.permissions())
}

/// Removes the step's mount points from its change set.
pub(super) fn remove_stubs(step_directory: &Path, made: &[Stub]) {
    stubs::remove_stubs(&step_directory.join("upper"), made);
}

/// The worker's descriptors of one step.
pub(super) struct Descriptors {
    /// Where the command's output goes.
    pub(super) output: OwnedFd,
    /// The secrets' values.
    pub(super) secrets: Option<OwnedFd>,
    /// Takes what the step passes out.
    pub(super) handing: Option<OwnedFd>,
}

/// Is pid 1 of a step, in a process just cloned into the step's namespaces.
///
/// It builds the root, starts the command, reaps what is orphaned, kills what is left when the
/// command has ended, reports, and ends: the kernel then takes down the namespaces, which nobody
/// has to wait for.
pub(super) fn main(
    request: &RunRequest,
    descriptors: Descriptors,
    reporting: &OwnedFd,
    filter: &[libc::sock_filter],
) -> ! {
    let mut stubs = Vec::new();
    let outcome = run(request, descriptors, reporting, filter, &mut stubs);
    let mut line = serde_json::to_vec(&Report { stubs, outcome }).unwrap_or_default();
    line.push(b'\n');
    let mut rest = line.as_slice();
    while !rest.is_empty() {
        match rustix::io::write(reporting, rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    sys::exit_now(0)
}

fn run(
    request: &RunRequest,
    descriptors: Descriptors,
    reporting: &OwnedFd,
    filter: &[libc::sock_filter],
    stubs: &mut Vec<Stub>,
) -> Result<Exit, Failure> {
    let Descriptors { output, secrets, handing } = descriptors;
    let optional =
        [&secrets, &handing].map(|descriptor| descriptor.as_ref().map(OwnedFd::as_raw_fd));
    let mut kept = vec![output.as_raw_fd(), reporting.as_raw_fd()];
    kept.extend(optional.into_iter().flatten());
    isolate(request, reporting, kept)?;
    let (secrets, handing) = (secrets.map(std::fs::File::from), handing.map(Handing::new));
    let outside = Outside { secrets: secrets.as_ref(), handing: handing.as_ref() };
    mounts::enter_root(request, &outside, stubs)?;
    let read = |path: &str| fs_err::read(path).unwrap_or_default();
    let [passwd, group] =
        ["/etc/passwd", "/etc/group"].map(|path| String::from_utf8_lossy(&read(path)).into_owned());
    let user = resolve_user(&request.user, &passwd, &group)?;
    enter_directory(&request.cwd)?;
    let env = complete_environment(request, &outside, &user.home)?;
    let streams = Streams::new(request, &output, handing.as_ref(), &user)?;
    drop((secrets, handing));
    let pid = sys::fork().attempting(|| "start the command".to_owned())?;
    let Some(pid) = pid else { become_command(request, &env, &user, &streams, filter) };
    drop(env);
    // The last holder of the output must be the command's.
    drop((streams, output));
    Ok(wait_for(pid))
}

/// Leaves the worker's descriptors, fate and names behind.
fn isolate(request: &RunRequest, reporting: &OwnedFd, kept: Vec<i32>) -> Result<(), Failure> {
    sys::close_all_but(kept.into_iter().map(i32::cast_unsigned).collect())
        .attempting(|| "close the worker's descriptors".to_owned())?;
    set_parent_process_death_signal(Some(Signal::KILL))
        .attempting(|| "ask to die with the parent".to_owned())?;
    // The runner may have died before the line above: then nobody reads the report.
    let mut pipe = [PollFd::new(reporting, PollFlags::empty())];
    let _ = poll(&mut pipe, Some(&rustix::event::Timespec::default()));
    if pipe[0].revents().contains(PollFlags::ERR) {
        sys::exit_now(1);
    }
    umask(Mode::from_raw_mode(0o022));
    // Where keyrings do not exist there is none to leave.
    let _ = sys::new_session_keyring();
    rustix::system::sethostname(request.hostname.as_bytes())
        .attempting(|| "set the host name".to_owned())?;
    if request.network == Network::None {
        sys::bring_loopback_up().attempting(|| "bring the loopback interface up".to_owned())?;
    }
    Ok(())
}

/// Makes the working directory when it is absent, as BuildKit does: for root, mode 0755.
fn enter_directory(path: &str) -> Result<(), Failure> {
    let path = if path.is_empty() { "/" } else { path };
    let what = || format!("change to the working directory `{path}`");
    if rustix::process::chdir(path).is_ok() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path).attempting(what)?;
    rustix::process::chdir(path).attempting(what)
}

/// The command's environment, zeroised because secrets may be in it.
fn complete_environment(
    request: &RunRequest,
    outside: &Outside<'_>,
    home: &str,
) -> Result<Zeroizing<Vec<String>>, Failure> {
    let mut env = Zeroizing::new(request.env.clone());
    for secret in &request.secret_env {
        let value = outside.secret(secret.part)?;
        let text = std::str::from_utf8(&value).map_err(|_| Failure::Failed {
            what: format!("set the variable `{}` to a secret", secret.name),
            reason: "its value is not valid UTF-8".to_owned(),
        })?;
        let prefix = format!("{}=", secret.name);
        env.retain(|entry| !entry.starts_with(&prefix));
        let mut entry = String::with_capacity(prefix.len() + text.len());
        entry.push_str(&prefix);
        entry.push_str(text);
        env.push(entry);
    }
    for (name, value) in [("PATH", DEFAULT_PATH), ("HOME", home)] {
        if variable(&env, name).is_none() {
            env.push(format!("{name}={value}"));
        }
    }
    Ok(env)
}

fn variable<'a>(env: &'a [String], name: &str) -> Option<&'a str> {
    env.iter().rev().find_map(|entry| {
        entry.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value)
    })
}

/// Reaps until the command has ended, then kills and reaps the rest.
fn wait_for(command: Pid) -> Exit {
    let exit = loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == command => {
                if let Some(exit) = exit_of(status) {
                    break exit;
                }
            }
            Ok(_) | Err(Errno::INTR) => {}
            // Cannot happen while the command is our child.
            Err(_) => break Exit::Signal(Signal::KILL.as_raw()),
        }
    };
    sys::kill_everything_else();
    while !matches!(wait(WaitOptions::empty()), Err(Errno::CHILD)) {}
    exit
}

fn exit_of(status: WaitStatus) -> Option<Exit> {
    let code = status.exit_status().map(Exit::Code);
    code.or_else(|| status.terminating_signal().map(Exit::Signal))
}

/// Is the command: gives up what it must not have and executes the program.
fn become_command(
    request: &RunRequest,
    env: &[String],
    user: &User,
    streams: &Streams,
    filter: &[libc::sock_filter],
) -> ! {
    let _ = setsid();
    if streams.connect().is_err() {
        sys::exit_now(125);
    }
    limit(&request.limits);
    let filter = match request.security {
        Security::Sandbox => Some(filter),
        Security::Insecure => None,
    };
    let problem = match restrict(user, filter) {
        Ok(()) => execute(request, env),
        Err(error) => (125, format!("failed to restrict the command: {error}")),
    };
    let (code, text) = problem;
    let _ = writeln!(std::io::stderr(), "{text}");
    sys::exit_now(code)
}

/// Gives up capabilities and calls, unless there is no filter, and becomes the user.
fn restrict(user: &User, filter: Option<&[libc::sock_filter]>) -> std::io::Result<()> {
    if let Some(filter) = filter {
        drop_capabilities()?;
        // While there still is CAP_SYS_ADMIN, which stands in for no_new_privs.
        sys::install_filter(filter)?;
    }
    let groups: Vec<Gid> = user.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    set_thread_groups(&groups)?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_res_gid(gid, gid, gid)?;
    // Clears the effective and permitted capabilities of anybody but root; root's are cut to the
    // bounding set by execve(2).
    set_thread_res_uid(uid, uid, uid)?;
    sys::restore_default_signals();
    Ok(())
}

fn drop_capabilities() -> std::io::Result<()> {
    for number in 0..64 {
        let bit = 1 << number;
        if CAPABILITIES & bit != 0 {
            continue;
        }
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(bit)) {
            Ok(()) => {}
            // Past the last one that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Executes the program. Returns the exit code and the text for the failure, as docker has them.
fn execute(request: &RunRequest, env: &[String]) -> (i32, String) {
    let Some(name) = request.args.first() else {
        return (127, "exec: no command".to_owned());
    };
    let program = match find_program(name, variable(env, "PATH").unwrap_or(DEFAULT_PATH)) {
        Ok(program) => program,
        Err(problem) => return problem,
    };
    let strings = |texts: &[String]| -> Result<Vec<CString>, std::ffi::NulError> {
        texts.iter().map(|text| CString::new(text.as_str())).collect()
    };
    let prepared = (CString::new(program.as_str()), strings(&request.args), strings(env));
    let (Ok(path), Ok(args), Ok(env)) = prepared else {
        return (126, format!("exec: \"{name}\": invalid argument"));
    };
    let args: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
    let env: Vec<&CStr> = env.iter().map(CString::as_c_str).collect();
    let error = sys::execute(&path, &args, &env);
    let (code, reason) = match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => (127, "no such file or directory"),
        Some(Errno::ACCESS) => (126, "permission denied"),
        Some(Errno::NOEXEC) => (126, "exec format error"),
        _ => return (126, format!("exec {program}: {error}")),
    };
    (code, format!("exec {program}: {reason}"))
}

/// Finds the file to execute, as the shell would (`execvp(3)`), with the container's `PATH`.
fn find_program(name: &str, path: &str) -> Result<String, (i32, String)> {
    let is_file = |path: &str| std::fs::metadata(path).is_ok_and(|found| found.is_file());
    let may_execute = |path: &str| access(path, Access::EXEC_OK).is_ok();
    if name.contains('/') {
        if std::fs::metadata(name).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
            let text = format!("exec: \"{name}\": stat {name}: no such file or directory");
            return Err((127, text));
        }
        if !is_file(name) || !may_execute(name) {
            return Err((126, format!("exec: \"{name}\": permission denied")));
        }
        return Ok(name.to_owned());
    }
    let candidates = path.split(':').map(|directory| {
        let directory = if directory.is_empty() { "." } else { directory };
        format!("{directory}/{name}")
    });
    let mut is_forbidden = false;
    for candidate in candidates.filter(|candidate| is_file(candidate)) {
        if may_execute(&candidate) {
            return Ok(candidate);
        }
        is_forbidden = true;
    }
    if is_forbidden {
        return Err((126, format!("exec: \"{name}\": permission denied")));
    }
    Err((127, format!("exec: \"{name}\": executable file not found in $PATH")))
}
