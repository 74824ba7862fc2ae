//! Mirror files: what to copy where, as data. No input or output, no network, no environment.
//!
//! A file is TOML or YAML and is read into a tree of nodes with their places ([`Document`]); files of
//! skopeo and regsync are translated in that tree, so that all that follows, and every error's line,
//! is the same for them. The tree gives rules ([`MirrorFile`]); rules and the tags that registries
//! list give jobs ([`Job`]); a [`Shard`] says which of them are whose. Doing them is the business of
//! `operations`.
//!
//! # The format, version 1
//!
//! ```toml
//! version = 1
//!
//! [defaults]
//! to = "registry.example/mirror/{repository}"
//! platforms = ["linux/amd64", "linux/arm64"]
//!
//! [[rules]]
//! from = "docker.io/library/alpine"
//! tags = ["latest", "3.*"]      # names, globs, /regular expressions/
//! semver = ">=3.18"             # of those by glob
//! latest = 3                    # and of these the highest three
//! immutable = ["3.*.*"]
//! ```
//!
//! `keys` has all keys, and [`schema`] a JSON schema made of the same table.

mod digests;
mod document;
mod error;
mod import;
mod job;
mod keys;
mod node;
mod pattern;
mod range;
mod read;
mod read_toml;
mod read_yaml;
mod rule;
mod schema;
mod shard;
mod template;
#[cfg(test)]
mod tests;
mod write;

pub use digests::Pinned;
pub use document::{Dialect, Document, Warning};
pub use error::{Error, line_of};
pub use import::FileReader;
pub use job::{Job, extra};
pub use pattern::Pattern;
pub use range::VersionRange;
pub use read::Variables;
pub use rule::{MirrorFile, Rule, RuleSource, TagChoice, Treatment};
pub use schema::schema;
pub use shard::Shard;
pub use template::Template;
