//! `--shell-on-error`: the user's terminal, connected with that of a failed step.

use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::operations::{Error, Kind, Shells};

use super::render::Progress;

/// How often the size of the terminal is looked at.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// Opens shells at the terminal that the program was started from.
pub(super) struct TerminalShells {
    progress: Arc<Progress>,
}

impl TerminalShells {
    /// Refuses where nobody can type into a shell.
    pub(super) fn new(progress: &Arc<Progress>) -> Result<Self, Error> {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            let message = "`--shell-on-error` needs a terminal for standard input and output";
            return Err(Error::new(Kind::Settings, message)
                .hint("start the build from a terminal, or leave the flag out"));
        }
        Ok(Self { progress: Arc::clone(progress) })
    }
}

impl fmt::Debug for TerminalShells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TerminalShells").finish_non_exhaustive()
    }
}

impl Shells for TerminalShells {
    fn attach(&self, terminal: OwnedFd, reason: &str) {
        self.progress.finish();
        anstream::eprintln!(
            "{reason}\nA shell in the failed step's file system. Nothing of it is kept; leave it with `exit`."
        );
        let raw = RawMode::enter();
        if let Err(error) = connect(&terminal) {
            tracing::debug!(%error, "the shell's terminal ended");
        }
        drop(raw);
    }
}

/// The terminal without line editing and signals, until dropped.
struct RawMode(Option<Termios>);

impl RawMode {
    fn enter() -> Self {
        let before = tcgetattr(stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let _ = tcsetattr(stdin(), OptionalActions::Drain, &raw);
        }
        Self(before)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(stdin(), OptionalActions::Drain, before);
        }
    }
}

/// Copies in both directions until the step's side ends.
fn connect(terminal: &OwnedFd) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    let mut size = None;
    let mut has_input = true;
    loop {
        let now = tcgetwinsize(stdout()).ok();
        if let Some(now) = now.filter(|now| size != Some((now.ws_row, now.ws_col))) {
            let _ = tcsetwinsize(terminal, now);
            size = Some((now.ws_row, now.ws_col));
        }
        let typed = if has_input { PollFlags::IN } else { PollFlags::empty() };
        let input = stdin();
        let mut polled = [PollFd::new(terminal, PollFlags::IN), PollFd::new(&input, typed)];
        match poll(&mut polled, Some(&LOOK)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [shown, typed] = polled.map(|polled| !polled.revents().is_empty());
        if shown {
            // The end of a terminal is an error.
            let count = rustix::io::read(terminal, &mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            let mut output = std::io::stdout().lock();
            output.write_all(&buffer[..count])?;
            output.flush()?;
        }
        if typed && has_input {
            let count = rustix::io::read(stdin(), &mut buffer)?;
            has_input = count > 0;
            let mut rest = &buffer[..count];
            while !rest.is_empty() {
                let written = rustix::io::write(terminal, rest)?;
                rest = &rest[written..];
            }
        }
    }
}
