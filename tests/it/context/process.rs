//! Children that never outlive the test.

use std::io;
use std::process::{Child, ExitStatus};

/// A child that is killed and reaped when it is dropped.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    pub(super) fn new(child: Child) -> Self {
        Self(child)
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Sends SIGKILL.
    pub(super) fn kill(&mut self) {
        // A child that has ended already is what was wanted.
        let _ = self.0.kill();
        // Until then it may still write.
        let _ = self.0.wait();
    }

    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
