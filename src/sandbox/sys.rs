//! The system calls that `rustix` does not offer. All of the program's `unsafe` is here.

#![expect(unsafe_code, reason = "raw system calls; the rest of the program has none")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::process::Pid;

/// A child process.
#[derive(Debug)]
pub(super) struct Child {
    /// Refers to the process even when its number is used again.
    pub(super) pidfd: OwnedFd,
}

/// Returns -1 as the error the system set.
fn checked(value: libc::c_long) -> io::Result<libc::c_long> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Closes every descriptor from `first` to `last`.
///
/// Only for a process that has just been started or cloned, and does not use what it inherited.
fn close_range(first: u32, last: u32) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: close_range(2) touches no memory. Callers hold no owner of these descriptors that
    // they use or drop afterwards.
    let value = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    checked(value).map(drop)
}

/// Closes every descriptor but the standard ones and `kept`.
///
/// Only for a process that has just been started or cloned, and neither uses nor drops what else
/// it inherited.
pub(super) fn close_all_but(mut kept: Vec<u32>) -> io::Result<()> {
    kept.sort_unstable();
    let mut first = 3;
    for descriptor in kept {
        if descriptor >= first {
            close_range(first, descriptor.saturating_sub(1))?;
            first = descriptor + 1;
        }
    }
    close_range(first, u32::MAX)
}

/// Takes ownership of standard input, which the starter of the worker made the socket.
///
/// To be called once, before anything else uses descriptor 0.
pub(super) fn take_stdin() -> OwnedFd {
    // SAFETY: the descriptor is open (the starter passed it) and nothing else owns it: standard
    // streams of std do not close it, and it is replaced by `/dev/null` right after.
    unsafe { OwnedFd::from_raw_fd(0) }
}

/// Leaves the namespaces of the given kinds for new ones (`unshare(2)`).
pub(super) fn unshare_namespaces(kinds: libc::c_int) -> io::Result<()> {
    // SAFETY: unshare(2) touches no memory. Only namespaces and, implied by them, the thread's
    // record of its working directory are unshared, not the table of descriptors.
    let value = unsafe { libc::unshare(kinds) };
    checked(libc::c_long::from(value)).map(drop)
}

/// Makes a descriptor that this process inherited and must not hold refer to `/dev/null`.
///
/// Its owner may still close it.
pub(super) fn replace_with_null(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let null = fs_err::File::open("/dev/null")?;
    // SAFETY: dup3(2) atomically replaces what the number refers to; it stays open and owned.
    let value = unsafe { libc::dup3(null.as_raw_fd(), descriptor.as_raw_fd(), libc::O_CLOEXEC) };
    checked(libc::c_long::from(value)).map(drop)
}

/// Clones this process with new namespaces, as `clone3(2)`. Returns `None` in the child.
///
/// Only for a process of one thread: the child goes on in a copy of its memory.
pub(super) fn clone_process(namespaces: libc::c_int) -> io::Result<Option<Child>> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all-zero is a valid clone_args.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from((namespaces | libc::CLONE_PIDFD).cast_unsigned());
    arguments.pidfd = (&raw mut pidfd).addr() as u64;
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    let size = size_of::<libc::clone_args>();
    // SAFETY: `arguments` and the place for the pidfd outlive the call; no memory is shared with
    // the child (no CLONE_VM), and the process has one thread, so no lock is held by another.
    let value = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size) };
    if checked(value)? == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Some(Child { pidfd }))
}

/// Forks through the C library, so that its own records of the process are right in the child.
/// Returns `None` in the child. Only for a process of one thread.
pub(super) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the process has one thread, so the child may use everything the parent may.
    let value = unsafe { libc::fork() };
    checked(libc::c_long::from(value))?;
    Ok(Pid::from_raw(value))
}

/// Ends this process at once, without running exit handlers that belong to the parent.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: never returns and has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Sends SIGKILL to every process of this pid namespace but its init, which calls this.
pub(super) fn kill_everything_else() {
    // SAFETY: kill(2) touches no memory.
    let _ = unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Gives SIGPIPE its default action back: Rust's runtime ignores it, and ignoring is inherited.
pub(super) fn restore_default_signals() {
    // SAFETY: setting a default action installs no handler.
    let _ = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Replaces this process. Returns only the error.
pub(super) fn execute(program: &CStr, args: &[&CStr], env: &[&CStr]) -> io::Error {
    let terminated = |strings: &[&CStr]| -> Vec<*const libc::c_char> {
        strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let (args, env) = (terminated(args), terminated(env));
    // SAFETY: all strings and both null-terminated arrays live until the call returns, if it does.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Adds attributes (`MOUNT_ATTR_*`) to the mount that `mount` refers to, and to those below it.
pub(super) fn add_mount_attributes(mount: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: all-zero is a valid mount_attr.
    let mut change: libc::mount_attr = unsafe { std::mem::zeroed() };
    change.attr_set = attributes;
    let size = size_of::<libc::mount_attr>();
    let (fd, path) = (mount.as_raw_fd(), c"".as_ptr());
    // SAFETY: path and attributes live during the call, and the size is that of the attributes.
    let value =
        unsafe { libc::syscall(libc::SYS_mount_setattr, fd, path, flags, &raw mut change, size) };
    checked(value).map(drop)
}

/// Installs a seccomp filter without setting `no_new_privs`, which needs `CAP_SYS_ADMIN`.
pub(super) fn install_filter(filter: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions from `filter`, which outlives the call, and
    // writes nothing.
    let value = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    checked(value).map(drop)
}

/// Joins a new session keyring, so that a step cannot reach the user's keys.
pub(super) fn new_session_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    let anonymous = ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring; no memory is read.
    let value = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, anonymous) };
    checked(value).map(drop)
}

/// Brings the loopback interface of this network namespace up.
pub(super) fn bring_loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    let flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING);
    request.ifr_ifru.ifru_flags = flags.map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the request is a complete ifreq that outlives the call.
    let value = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) };
    checked(libc::c_long::from(value)).map(drop)
}
