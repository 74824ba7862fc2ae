//! rpub builds container images from Dockerfiles in its own rootless executor, sends to a registry
//! only what the registry lacks, and pulls, copies and serves images.
//!
//! One package: this library, and a thin program around it. Each directory is a room with one job;
//! `tests/it/architecture.rs` holds the table of who may use whom.

pub mod blob;
pub mod build;
pub mod cli;
pub mod credentials;
pub mod dockerfile;
pub mod event;
pub mod image;
pub mod layer;
pub mod operations;
pub mod registry;
pub mod sandbox;
pub mod serve;
pub mod store;
