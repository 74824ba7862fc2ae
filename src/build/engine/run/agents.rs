//! Between a step's agent socket and the user's ssh agent (draft-ietf-sshm-ssh-agent).
//!
//! A step may list keys and sign with them. It may not add, remove or lock keys, nor use
//! extensions, as in BuildKit: the agent is the user's and outlives the build.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};

/// `SSH_AGENTC_REQUEST_IDENTITIES` and `SSH_AGENTC_SIGN_REQUEST`.
const ALLOWED: [u8; 2] = [11, 13];

/// `SSH_AGENT_FAILURE`, as a whole message.
const REFUSAL: [u8; 5] = [0, 0, 0, 1, 5];

/// What OpenSSH takes as the longest message.
const MAX_MESSAGE_BYTES: usize = 256 << 10;

/// Takes connections until the other end of `stop` is closed.
pub(super) fn serve(listener: &UnixListener, agent: &Path, stop: &OwnedFd) {
    loop {
        let mut polled = [PollFd::new(listener, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::debug!(%error, "waiting for connections to the agent failed");
                return;
            }
        }
        let [incoming, stopped] = polled.map(|polled| !polled.revents().is_empty());
        if stopped {
            return;
        }
        if !incoming {
            continue;
        }
        let Ok((step, _)) = listener.accept() else { return };
        let agent = PathBuf::from(agent);
        // Ends with the step, which closes its side.
        let body = move || {
            if let Err(error) = pass_on(step, &agent) {
                tracing::debug!(%error, "a connection to the agent ended");
            }
        };
        let _ = std::thread::Builder::new().name("ssh agent".to_owned()).spawn(body);
    }
}

fn pass_on(mut step: UnixStream, agent: &Path) -> io::Result<()> {
    let mut agent = UnixStream::connect(agent)?;
    while let Some(request) = message(&mut step)? {
        if request.get(4).is_some_and(|kind| ALLOWED.contains(kind)) {
            agent.write_all(&request)?;
            let answer = message(&mut agent)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            step.write_all(&answer)?;
        } else {
            step.write_all(&REFUSAL)?;
        }
    }
    Ok(())
}

/// Reads a message with its length, or `None` at the end.
fn message(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let size = u32::from_be_bytes(length) as usize;
    if size > MAX_MESSAGE_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut whole = vec![0; 4 + size];
    whole[..4].copy_from_slice(&length);
    stream.read_exact(&mut whole[4..])?;
    Ok(Some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listing_and_signing_reach_the_agent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent");
        let agent = UnixListener::bind(&path).unwrap();
        let (mut step, steps_end) = UnixStream::pair().unwrap();
        let passing = std::thread::spawn(move || pass_on(steps_end, &path));
        let mut agent = agent.accept().unwrap().0;
        step.write_all(&[0, 0, 0, 1, 19]).unwrap();
        assert_eq!(message(&mut step).unwrap().unwrap(), REFUSAL, "remove all");
        step.write_all(&[0, 0, 0, 1, 11]).unwrap();
        assert_eq!(message(&mut agent).unwrap().unwrap(), [0, 0, 0, 1, 11], "list");
        agent.write_all(&[0, 0, 0, 2, 12, 0]).unwrap();
        assert_eq!(message(&mut step).unwrap().unwrap(), [0, 0, 0, 2, 12, 0]);
        step.write_all(&[0, 0, 0, 0]).unwrap();
        assert_eq!(message(&mut step).unwrap().unwrap(), REFUSAL, "an empty message");
        step.write_all(&[255; 4]).unwrap();
        assert!(passing.join().unwrap().is_err(), "a message without bounds");
    }

    #[test]
    fn serving_ends_when_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("step");
        let listener = UnixListener::bind(&path).unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let agent = directory.path().join("absent");
        let serving = std::thread::spawn(move || serve(&listener, &agent, &reader));
        drop(UnixStream::connect(&path).unwrap());
        drop(writer);
        serving.join().unwrap();
    }
}
