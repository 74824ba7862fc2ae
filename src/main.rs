//! The `rpub` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all, while there is one thread: this process may be the sandbox's worker.
    if let Some(code) = rpub::sandbox::worker_main_if_asked() {
        return code;
    }
    ExitCode::SUCCESS
}
