//! Behaviour of the program and shape of its source.

#![expect(clippy::unwrap_used, reason = "test helpers may panic")]

mod architecture;
mod context;
mod harness;
