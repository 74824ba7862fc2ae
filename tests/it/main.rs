//! Behaviour of the program and shape of its source.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test helpers may panic")]

mod airgap;
mod architecture;
mod bad_input;
mod bundle;
mod cache;
mod cache_registry;
mod checks;
mod cli;
mod concurrent;
mod context;
mod contexts;
mod copy;
mod corpus;
mod explain;
mod harness;
mod images;
mod kill;
mod lock;
mod mirror;
mod mounts;
mod multi_platform;
mod offline;
mod outputs;
mod overlap;
mod planning;
mod prune;
mod push_pull;
mod registry;
mod remote;
mod reproducible;
mod sandbox;
mod secrets;
mod serving;
mod tutorials;
