//! The client: what one can ask of a registry.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::{BlobStream, Hosts, Result, RetryPolicy};
use crate::blob::Source;
use crate::credentials::{Lookup, Secret};
use crate::event::{Sink, TransferId};
use crate::image::{
    Descriptor, Digest, Manifest, Reference, RegistryName, Repository, RepositoryName,
};

/// What a [`Client`] is made of.
#[derive(Clone)]
pub struct ClientOptions {
    /// Mirrors and insecure registries.
    pub hosts: Hosts,
    /// PEM files with authorities to trust besides the system's.
    pub ca_files: Vec<PathBuf>,
    /// Who knows the credentials.
    pub credentials: Arc<dyn Lookup>,
    /// Who hears of progress, retries and warnings.
    pub events: Arc<dyn Sink>,
    /// How the client calls itself.
    pub user_agent: String,
    /// How many blobs move at once to, and from, one registry.
    pub concurrency: usize,
    /// When to try again.
    pub retry: RetryPolicy,
}

impl ClientOptions {
    /// Returns options without mirrors, with the defaults for the rest.
    #[must_use]
    pub fn new(credentials: Arc<dyn Lookup>, events: Arc<dyn Sink>) -> Self {
        Self {
            hosts: Hosts::default(),
            ca_files: Vec::new(),
            credentials,
            events,
            user_agent: concat!("rpub/", env!("CARGO_PKG_VERSION")).to_owned(),
            concurrency: 6,
            retry: RetryPolicy::default(),
        }
    }
}

/// How a blob came to be in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    AlreadyThere,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was sent.
    Uploaded {
        /// Its size.
        bytes: u64,
    },
}

/// A client of all registries. Cloning it is cheap; clones share connections and tokens.
#[derive(Clone)]
pub struct Client {}

impl Client {
    /// Returns a client. Does no input or output: that begins with the first request.
    #[must_use]
    pub fn new(options: ClientOptions) -> Self {
        todo!()
    }

    /// Returns the descriptor of the manifest that `reference` names, without its platform.
    pub async fn resolve(&self, reference: &Reference) -> Result<Descriptor> {
        todo!()
    }

    /// Returns the manifest that `reference` names, its digest verified when the reference has one.
    pub async fn manifest(&self, reference: &Reference) -> Result<Manifest> {
        todo!()
    }

    /// Returns the size of a blob in `repository`, or `None` when it is not there.
    pub async fn blob_exists(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<u64>> {
        todo!()
    }

    /// Begins to fetch a blob.
    pub async fn fetch_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        transfer: TransferId,
    ) -> Result<BlobStream> {
        todo!()
    }

    /// Returns a small blob, such as a config, when it is not larger than `limit` bytes.
    pub async fn fetch_blob_bytes(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Bytes> {
        todo!()
    }

    /// Brings a blob into `repository`: sends nothing when it is there, or can be mounted from
    /// one of `mount_from` in the same registry.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        source: Arc<dyn Source>,
        mount_from: &[RepositoryName],
        transfer: TransferId,
    ) -> Result<Pushed> {
        todo!()
    }

    /// Pushes the manifest's exact bytes under `reference`'s digest or tag, and reads back.
    pub async fn push_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<()> {
        todo!()
    }

    /// Checks that `registry` accepts the user and password.
    pub async fn check_login(
        &self,
        registry: &RegistryName,
        username: &str,
        password: &Secret,
    ) -> Result<()> {
        todo!()
    }
}
