//! `lock`: what a Dockerfile starts from and adds, by digest, in a file beside it. `fetch`: all of it
//! in the store.
//!
//! `rpub.lock` is TOML, version 1, sorted by name; a newer version is refused:
//!
//! ```toml
//! version = 1
//! platforms = ["linux/amd64"]            # for which it was made
//!
//! [[image]]
//! name = "python:3.12"                   # as a Dockerfile names it
//! source = "docker.io/library/python"    # where that is
//! digest = "sha256:..."                  # the index, or the manifest of an image that has none
//! onbuild = true                         # only a trigger of another base names it
//!
//! [image.platforms]
//! "linux/amd64" = "sha256:..."           # the manifest
//!
//! [[file]]
//! url = "https://host/file"              # of `ADD`, or of a named context
//! digest = "sha256:..."
//!
//! [[repository]]
//! url = "https://host/app.git#main"      # the remote, and the branch or tag
//! commit = "..."
//! ```
//!
//! Users, passwords and queries of URLs are left out; `key`, the digest of the whole URL, then tells
//! entries apart. What a Dockerfile pins itself, as by `--checksum`, needs no entry, and images of OCI
//! layouts have none. How it is used while building is the business of `operations::build`.

mod address;
mod difference;
mod fetch;
mod file;
mod pins;
mod update;

pub use difference::LockChange;
pub use fetch::{FetchReport, FetchRequest, FetchedImage, fetch};
pub use file::LOCK_FILE_NAME;
pub use update::{LockMode, LockReport, LockRequest, Refresh, lock};

pub(super) use address::Address;
pub(super) use file::{LockFile, LockedImage};
pub(super) use pins::Pins;
