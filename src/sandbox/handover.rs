//! Descriptors that a running step passes to the outer process, around the worker.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;

use serde::{Deserialize, Serialize};

use super::wire::{receive_message, send_message};
use super::worker::socket_pair;
use super::{Error, Result};

/// What a step passes out. From the step's pid 1, with one descriptor each, before the command
/// starts; the receiver may assume nothing about their number.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// A listening socket.
    Agent { mount: usize },
    /// The master side of a terminal.
    Terminal,
}

/// What a step passed out.
#[derive(Debug)]
pub enum Passed {
    /// Connections to the agent socket of the mount at this position of the request.
    Agent {
        /// The position.
        mount: usize,
        /// Takes the connections. The step's end is not seen here.
        listener: UnixListener,
    },
    /// The master side of the step's terminal. It reads as an error (EIO) once the step has ended.
    Terminal(OwnedFd),
}

/// The outer process's end.
#[derive(Debug)]
pub struct Handover {
    socket: OwnedFd,
}

/// The step's end.
#[derive(Debug)]
pub(super) struct Handing {
    socket: OwnedFd,
}

impl Handover {
    /// Returns both ends; the second one goes into [`super::StepIo`].
    pub fn pair() -> Result<(Self, OwnedFd)> {
        let (socket, other) = socket_pair()?;
        Ok((Self { socket }, other))
    }

    /// Waits for the next thing that is passed; `None` when nothing more comes.
    pub fn next(&self) -> Result<Option<Passed>> {
        let received = receive_message::<Message>(self.socket.as_fd()).map_err(Error::Protocol)?;
        let Some((message, descriptors)) = received else { return Ok(None) };
        let missing = || Error::Protocol(std::io::ErrorKind::InvalidData.into());
        let descriptor = descriptors.into_iter().next().ok_or_else(missing)?;
        Ok(Some(match message {
            Message::Agent { mount } => Passed::Agent { mount, listener: descriptor.into() },
            Message::Terminal => Passed::Terminal(descriptor),
        }))
    }
}

impl Handing {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    pub(super) fn agent(&self, mount: usize, listener: &UnixListener) -> std::io::Result<()> {
        send_message(self.socket.as_fd(), &Message::Agent { mount }, &[listener.as_fd()])
    }

    pub(super) fn terminal(&self, master: &OwnedFd) -> std::io::Result<()> {
        send_message(self.socket.as_fd(), &Message::Terminal, &[master.as_fd()])
    }
}
