//! Blobs between registries and the store: the bytes' way in and out.

use std::io::{self, Read};
use std::sync::Arc;

use crate::blob::Source;
use crate::event::TransferId;
use crate::image::{Descriptor, Repository, RepositoryName};
use crate::registry::Pushed;

use super::fetch::fetch_blob;
use super::{Error, Session};

/// A blob of the store that is fetched first when the store lacks it.
pub(super) struct StoredBlob {
    pub(super) session: Session,
    pub(super) descriptor: Descriptor,
    /// Where the blob can be had when the store lacks it.
    pub(super) origin: Option<Repository>,
    pub(super) runtime: tokio::runtime::Handle,
}

impl Source for StoredBlob {
    fn size(&self) -> u64 {
        self.descriptor.size
    }

    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let store = &self.session.store;
        if !store.has_blob(&self.descriptor.digest)
            && let Some(origin) = &self.origin
        {
            let fetch = fetch_blob(&self.session, origin, &self.descriptor, None);
            self.runtime.block_on(fetch).map_err(io::Error::other)?;
        }
        store.blob_source(&self.descriptor).open(offset)
    }
}

/// Brings a blob of the store into `repository`.
pub(super) async fn push_blob(
    session: &Session,
    repository: &Repository,
    descriptor: &Descriptor,
    origin: Option<Repository>,
    mount_from: &[RepositoryName],
    transfer: TransferId,
) -> Result<Pushed, Error> {
    let source = Arc::new(StoredBlob {
        session: session.clone(),
        descriptor: descriptor.clone(),
        origin,
        runtime: tokio::runtime::Handle::current(),
    });
    Ok(session.client.push_blob(repository, descriptor, source, mount_from, transfer).await?)
}
