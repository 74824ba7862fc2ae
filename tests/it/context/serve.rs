//! The embedded registry, `rpub serve`.

use super::registry::{free_port, listens};
use super::{Running, TestContext};

/// `rpub serve` on a free port, killed when it is dropped.
pub(crate) struct Serve {
    port: u16,
    _process: Running,
}

impl Serve {
    /// Starts it over the store in `store`, a path below the root.
    pub(crate) fn start(context: &TestContext, store: &str) -> Self {
        let mut last = None;
        for _ in 0..5 {
            let port = free_port();
            let store = context.path(store);
            let listen = format!("127.0.0.1:{port}");
            let mut process =
                context.rpub(["serve", "--listen", &listen]).env("RPUB_STORE", store).spawn();
            if listens(process.process(), port) {
                return Self { port, _process: process };
            }
            last = Some(process.finish());
        }
        panic!("`rpub serve` does not start\n{}", last.unwrap());
    }

    /// Returns host and port, as they stand in a reference.
    pub(crate) fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns a reference to a repository of this registry.
    pub(crate) fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.name())
    }
}
