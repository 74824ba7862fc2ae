//! The client's side of the OCI distribution protocol.
//!
//! Authentication, redirects, retries, blobs and manifests, by OCI distribution-spec 1.1 and
//! Docker's token authentication. It knows nothing of builds or of the store: bytes come from a
//! [`Source`](crate::blob::Source) and go to whoever reads the [`BlobStream`]. A blob that is still
//! being written goes out as a [`Growing`] one. Main types: [`Client`], [`Hosts`], [`Error`].
//!
//! The layers around a request, from the outside: the operation with its retry budget, the
//! answer to a challenge, redirects, the connection. [`Client::download`] uses the lower ones for
//! files of any HTTP server.

mod answer;
mod auth;
mod body;
mod challenge;
mod client;
mod connections;
mod delete;
mod download;
mod error;
mod error_body;
mod external;
mod gauge;
mod growing;
mod host;
mod hosts;
mod limits;
mod lists;
mod location;
mod manifests;
mod manner;
mod memory;
mod pace;
mod parts;
mod ping;
mod progress;
mod pull;
mod push;
mod quirks;
mod range;
mod referrers;
mod retry;
mod session;
mod spread;
mod throttle;
mod token;
mod trail;
mod upload;
mod warning;

pub use challenge::is_challenge;
pub use client::{Client, ClientOptions, Pushed};
pub use connections::Reachable;
pub use delete::Untagged;
pub use download::{Attempts, Download, DownloadRequest};
pub use error::{Error, Kind, Limit, StatusError};
pub use growing::{Growing, Growth};
pub use hosts::{
    Endpoint, Headers, HostSettings, Hosts, HostsError, IdentityFiles, PullTarget, Reach, Resolve,
    Role, TlsFiles, TransportRule,
};
pub use limits::RateLimit;
pub use lists::Pages;
pub use memory::{Forgetful, Learnt, Memory, UploadNote};
pub use ping::{Ping, Transport, Wanted};
pub use pull::BlobStream;
pub use quirks::{Mounting, Quirks, RangedPatch, RegistryKind, Support};
pub use referrers::{Referrers, ReferrersSource};
pub use retry::RetryPolicy;

/// What the functions of this room return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests;
