//! The `rpub` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: the worker changes its namespaces while it has a single thread.
    if let Some(code) = rpub::sandbox::worker_main_if_asked() {
        return code;
    }
    rpub::cli::main()
}
