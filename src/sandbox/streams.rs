//! A command's standard streams, its terminal and its resource limits.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::process::{Resource, Rlimit, getrlimit, ioctl_tiocsctty, setrlimit};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

use super::handover::Handing;
use super::protocol::{Attempt as _, Failure};
use super::request::{Limit, LimitedResource, RunRequest};
use super::user::User;

/// What the command is connected to.
pub(super) enum Streams {
    /// Nothing to read; output and errors go to one descriptor, so that they keep their order.
    Output(OwnedFd),
    /// A terminal.
    Terminal(OwnedFd),
}

impl Streams {
    /// Opens a terminal in the step's `/dev`, and passes its other side out, when one is wanted.
    pub(super) fn new(
        request: &RunRequest,
        output: &OwnedFd,
        handing: Option<&Handing>,
        user: &User,
    ) -> Result<Self, Failure> {
        let what = || "open a terminal".to_owned();
        let Some(handing) = handing.filter(|_| request.has_terminal) else {
            return output.try_clone().map(Self::Output).attempting(what);
        };
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .attempting(what)?;
        unlockpt(&master).attempting(what)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags).attempting(what)?;
        let owner = rustix::process::Uid::from_raw(user.uid);
        rustix::fs::fchown(&slave, Some(owner), None).attempting(what)?;
        handing.terminal(&master).attempting(what)?;
        Ok(Self::Terminal(slave))
    }

    /// Makes them the standard streams of this process, which must lead a session.
    pub(super) fn connect(&self) -> rustix::io::Result<()> {
        let output = match self {
            Self::Output(output) => output,
            Self::Terminal(slave) => {
                ioctl_tiocsctty(slave)?;
                rustix::stdio::dup2_stdin(slave)?;
                slave
            }
        };
        rustix::stdio::dup2_stdout(output)?;
        rustix::stdio::dup2_stderr(output.as_fd())
    }
}

/// Sets limits as far as this process may: a limit that is too high is no reason to fail a build.
pub(super) fn limit(limits: &[Limit]) {
    for Limit { resource, soft, hard } in limits {
        let Some(resource) = kernel_resource(*resource) else { continue };
        let wanted = Rlimit { current: *soft, maximum: *hard };
        if setrlimit(resource, wanted).is_ok() {
            continue;
        }
        let ceiling = getrlimit(resource).maximum;
        let within = |value: Option<u64>| match (value, ceiling) {
            (Some(value), Some(ceiling)) => Some(value.min(ceiling)),
            (value, None) => value,
            (None, ceiling) => ceiling,
        };
        let _ = setrlimit(resource, Rlimit { current: within(*soft), maximum: within(*hard) });
    }
}

fn kernel_resource(resource: LimitedResource) -> Option<Resource> {
    Some(match resource {
        LimitedResource::Core => Resource::Core,
        LimitedResource::Cpu => Resource::Cpu,
        LimitedResource::Data => Resource::Data,
        LimitedResource::Fsize => Resource::Fsize,
        LimitedResource::Locks => return None,
        LimitedResource::Memlock => Resource::Memlock,
        LimitedResource::Msgqueue => Resource::Msgqueue,
        LimitedResource::Nice => Resource::Nice,
        LimitedResource::Nofile => Resource::Nofile,
        LimitedResource::Nproc => Resource::Nproc,
        LimitedResource::Rss => Resource::Rss,
        LimitedResource::Rtprio => Resource::Rtprio,
        LimitedResource::Rttime => Resource::Rttime,
        LimitedResource::Sigpending => Resource::Sigpending,
        LimitedResource::Stack => Resource::Stack,
    })
}
