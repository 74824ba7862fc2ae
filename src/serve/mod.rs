//! The embedded registry: the server side of the OCI distribution-spec 1.1 over a store, or over
//! other [`Content`] that is only read.
//!
//! No client side, and no authentication but by TLS certificates: it is for a machine's own
//! loopback, a test, or a network of machines that trust each other. Its front is asynchronous (hyper); everything that touches a file runs on the
//! runtime's blocking threads.
//!
//! A push to repository `team/app` keeps the image as `<registry name>/team/app` (by default
//! `localhost/team/app`). A pull of `team/app` looks there first, then at what docker would mean by
//! it (`docker.io/team/app`, `docker.io/library/app`), so that the store's images can be pulled too.
//! An image of any registry is found by its whole name (`ghcr.io/team/app`) and, with `?ns=ghcr.io`,
//! by its name there (distribution-spec, "Registry Proxying").
//!
//! Blobs belong to the store, not to a repository: a blob that is there is there in every
//! repository, so nothing is uploaded twice. They are removed by garbage collection only; `DELETE`
//! of a blob is answered by 405, as the specification allows. A manifest pushed by digest is kept
//! under `name@digest` until an index that lists it comes. Uploads live in the store's `ingest/`
//! and go on after a lost connection, and after a restart of the server.
//!
//! Main items: [`serve`], [`ServeOptions`], [`Content`].

mod blobs;
mod body;
mod cache;
mod content;
mod error;
mod find;
mod growth;
mod handler;
mod listing;
mod manifests;
mod names;
mod pieces;
mod reply;
mod route;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod tls;
mod uploads;
mod upstream;

pub use cache::CacheOptions;
pub use content::{Content, ContentError};
pub use error::{Error, Result};
pub use growth::Growth;
pub use server::{ServeOptions, Served, serve};
pub use tls::{TlsError, TlsFiles};
pub use upstream::{Asked, Upstream, UpstreamError, Why};
