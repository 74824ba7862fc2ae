//! Blobs between registries and the store: the bytes' way in and out.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::blob::Source;
use crate::event::TransferId;
use crate::image::{Descriptor, Repository, RepositoryName};
use crate::registry::Pushed;

use super::session::blocking;
use super::{Error, Kind, Session};

/// Chunks under way between the network and the disk: enough to keep both busy, little memory.
const CHUNKS_AHEAD: usize = 16;

/// Brings a blob from `repository` into the store, unless it is there. Its bytes are also written to
/// `copy`: while they arrive, or from the store when somebody else has brought them meanwhile.
pub(super) async fn fetch_blob(
    session: &Session,
    repository: &Repository,
    descriptor: &Descriptor,
    copy: Option<File>,
) -> Result<(), Error> {
    let _turn = session.arrivals.turn(&descriptor.digest).await;
    if session.store.has_blob(&descriptor.digest) {
        let (store, digest) = (session.store.clone(), descriptor.digest.clone());
        let Some(mut copy) = copy else { return Ok(()) };
        return blocking(move || {
            let copied = io::copy(&mut store.open_blob(&digest)?, &mut copy);
            // Whoever reads the copy and gives up says why.
            copied.map_or_else(|error| tracing::debug!(%error, "copy of a blob"), |_| ());
            Ok::<_, Error>(())
        })
        .await;
    }
    receive(session, repository, descriptor, copy).await
}

async fn receive(
    session: &Session,
    repository: &Repository,
    descriptor: &Descriptor,
    copy: Option<File>,
) -> Result<(), Error> {
    let transfer = TransferId::next();
    let mut stream = session.client.fetch_blob(repository, descriptor, transfer).await?;
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let store = session.store.clone();
    let expected = descriptor.clone();
    let (verified, is_verified) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn(blocking(move || {
        let ingest = store.ingest_file()?;
        let copy = write_chunks(receiver, ingest.file(), copy)?;
        // Adopted only when the stream said that size and digest were right.
        if is_verified.blocking_recv().is_ok() {
            store.adopt(ingest, &expected.digest, expected.size)?;
        }
        drop(copy);
        Ok::<_, Error>(())
    }));
    let received = loop {
        match stream.next().await {
            Ok(Some(chunk)) => {
                if sender.send(chunk).await.is_err() {
                    break Ok(false);
                }
            }
            Ok(None) => break Ok(true),
            Err(error) => break Err(error),
        }
    };
    if let Ok(true) = received {
        // The receiver is gone only when writing has failed, which is reported below.
        let _ = verified.send(());
    } else {
        drop(verified);
    }
    drop(sender);
    let written = writing.await.map_err(|error| {
        Error::new(Kind::Internal, "the thread that writes a blob failed").because(error)
    })?;
    received?;
    written
}

/// Writes chunks to the file, and to `copy` for as long as somebody reads it.
fn write_chunks(
    mut chunks: mpsc::Receiver<Bytes>,
    mut file: &File,
    mut copy: Option<File>,
) -> Result<Option<File>, Error> {
    while let Some(chunk) = chunks.blocking_recv() {
        file.write_all(&chunk).map_err(|error| {
            Error::new(Kind::Internal, "failed to write a blob to the store").because(error)
        })?;
        if let Some(out) = &mut copy
            && let Err(error) = out.write_all(&chunk)
        {
            // Whoever unpacks has given up and says why; the blob itself is still wanted.
            tracing::debug!(%error, "nobody reads the copy of a blob");
            copy = None;
        }
    }
    Ok(copy)
}

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
