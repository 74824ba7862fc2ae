//! The embedded registry, `rpub serve`.

use std::time::Duration;

use super::http::{self, Response};
use super::registry::{MANIFEST_TYPES, free_port, listens};
use super::{Running, TestContext};

/// `rpub serve` on a free port, killed when it is dropped.
pub(crate) struct Serve {
    port: u16,
    process: Running,
}

impl Serve {
    /// Starts it over the store in `store`, a path below the root.
    pub(crate) fn start(context: &TestContext, store: &str) -> Self {
        Self::with(context, store, &[])
    }

    /// Like [`Serve::start`], with more arguments.
    pub(crate) fn with(context: &TestContext, store: &str, args: &[&str]) -> Self {
        Self::at(context, store, args, |_| ())
    }

    /// Like [`Serve::with`]; `prepare` hears where it is about to listen.
    pub(crate) fn at(
        context: &TestContext,
        store: &str,
        args: &[&str],
        prepare: impl Fn(&str),
    ) -> Self {
        let mut last = None;
        for _ in 0..5 {
            let port = free_port();
            let store = context.path(store);
            let listen = format!("127.0.0.1:{port}");
            prepare(&listen);
            let command = context.rpub(["serve", "--listen", &listen]).args(args);
            let mut process = command.env("RPUB_STORE", store).spawn();
            if listens(process.process(), port) {
                return Self { port, process };
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

    /// Asks for a path.
    pub(crate) fn get(&self, path: &str) -> Response {
        self.get_with(path, &[("Accept", MANIFEST_TYPES)])
    }

    /// Asks for a path with these headers.
    pub(crate) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        http::get(&self.name(), path, headers).expect("the server answers")
    }

    /// Waits until it has said a text; false when it has not in twenty seconds.
    pub(crate) fn says(&mut self, text: &str) -> bool {
        self.process.wait_for_error(text, Duration::from_secs(20))
    }

    /// Returns the most memory that it has used so far, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.process.memory()
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(mut self) {
        self.process.kill();
        let _ended = self.process.finish();
    }
}
