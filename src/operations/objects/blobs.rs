//! `blob get|head|put|rm`: bytes of a registry, verified on their way.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::blob::{Hasher, HeldFile};
use crate::event::TransferId;
use crate::image::{Descriptor, Digest, Reference, Repository};
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, Session};

/// The media type of a blob of which nothing else is known.
const OCTETS: &str = "application/octet-stream";
/// Pieces under way between the network and whoever reads.
const PIECES_AHEAD: usize = 16;
/// How much of a file is read at once.
const READ_SIZE: usize = 256 << 10;

/// Where the bytes of a blob to be pushed are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobSource {
    /// In a file.
    Path(PathBuf),
    /// On standard input.
    Stdin,
}

/// Returns a blob's descriptor as far as the registry tells it.
///
/// # Errors
///
/// [`Kind::NotFound`] when it is not there; else whatever the registry says.
pub async fn blob_head(
    session: &Session,
    repository: &Repository,
    digest: &Digest,
) -> Result<Descriptor, Error> {
    let size = session.client.blob_exists(repository, digest).await?.ok_or_else(|| {
        let message = format!("`{}` has no blob {digest}", repository.familiar());
        Error::new(Kind::NotFound, message)
    })?;
    Ok(Descriptor::new(OCTETS, digest.clone(), size))
}

/// Writes a blob to `out` while it comes. It is whole and right only when this succeeds.
///
/// # Errors
///
/// [`Kind::NotFound`], [`Kind::Integrity`]; else whatever the registry says, or writing does. A reader
/// that went away is no error.
pub async fn get_blob(
    session: &Session,
    repository: &Repository,
    digest: &Digest,
    out: impl Write + Send + 'static,
) -> Result<(), Error> {
    let descriptor = blob_head(session, repository, digest).await?;
    receive(session, repository, &descriptor, out).await
}

/// Writes a blob that is known to `out`, as [`get_blob`].
pub(super) async fn receive(
    session: &Session,
    repository: &Repository,
    descriptor: &Descriptor,
    mut out: impl Write + Send + 'static,
) -> Result<(), Error> {
    let transfer = TransferId::next();
    let mut stream = session.client.fetch_blob(repository, descriptor, transfer).await?;
    let (sender, mut pieces) = mpsc::channel::<Bytes>(PIECES_AHEAD);
    let writing = tokio::spawn(blocking(move || {
        while let Some(piece) = pieces.blocking_recv() {
            match out.write_all(&piece) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other.map_err(unwritable)?,
            }
        }
        match out.flush() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritable(error)),
            _ => Ok(()),
        }
    }));
    let received = loop {
        match stream.next().await {
            Ok(Some(piece)) => {
                // Writing has ended; why is said below.
                if sender.send(piece).await.is_err() {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    drop(sender);
    let written = writing.await.map_err(|error| {
        Error::new(Kind::Internal, "the thread that writes a blob failed").because(error)
    })?;
    received?;
    written
}

fn unwritable(error: io::Error) -> Error {
    Error::new(Kind::User, "failed to write the blob").because(error)
}

/// Pushes a blob to the repository of `name`, whose digest, when it has one, must be the blob's.
///
/// # Errors
///
/// [`Kind::User`] when the source cannot be read, [`Kind::Integrity`] when it has another digest;
/// else whatever the registry says.
pub async fn put_blob(
    session: &Session,
    name: &Reference,
    source: BlobSource,
    media_type: &str,
) -> Result<Descriptor, Error> {
    let expected = name.digest.clone();
    let store = session.store.clone();
    let (file, digest, size) = blocking(move || {
        let ingest;
        let file = match source {
            BlobSource::Path(path) => open(&path)?,
            // What cannot be read twice is kept until the registry has it.
            BlobSource::Stdin => {
                ingest = store.ingest_file()?;
                let mut file = ingest.file().try_clone().map_err(unreadable)?;
                io::copy(&mut io::stdin().lock(), &mut file).map_err(unreadable)?;
                file
            }
        };
        let held = HeldFile::new(file).map_err(unreadable)?;
        let (digest, size) = hash(&held, expected.as_ref()).map_err(unreadable)?;
        Ok::<_, Error>((held, digest, size))
    })
    .await?;
    if let Some(expected) = &name.digest
        && *expected != digest
    {
        let message = format!("the blob has the digest {digest}, not {expected}");
        return Err(Error::new(Kind::Integrity, message));
    }
    let descriptor = Descriptor::new(media_type, digest, size);
    let (repository, transfer) = (&name.repository, TransferId::next());
    let pushed =
        session.client.push_blob(repository, &descriptor, Arc::new(file), &[], transfer).await;
    pushed.map_err(|error| {
        Error::from(error).about(format!("failed to push to `{}`", repository.familiar()))
    })?;
    Ok(descriptor)
}

/// Opens a regular file for its content to be pushed.
pub(super) fn open(path: &std::path::Path) -> Result<File, Error> {
    let failed = |error: io::Error| Error::new(Kind::User, "failed to open a file").because(error);
    let file = fs_err::File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        let message = format!("`{}` is not a regular file", path.display());
        return Err(Error::new(Kind::User, message));
    }
    Ok(file.into_parts().0)
}

/// Returns the digest, by the algorithm of `like` when there is one, and the size.
pub(super) fn hash(held: &HeldFile, like: Option<&Digest>) -> io::Result<(Digest, u64)> {
    use crate::blob::Source as _;
    let mut hasher = like.map_or_else(Hasher::default, |like| Hasher::new(like.algorithm()));
    let mut reader = held.open(0)?;
    let mut buffer = vec![0; READ_SIZE];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn unreadable(error: io::Error) -> Error {
    Error::new(Kind::User, "failed to read the blob").because(error)
}

/// Removes a blob from its registry.
///
/// # Errors
///
/// [`Kind::NotFound`] when it is not there; else whatever the registry says.
pub async fn remove_blob(
    session: &Session,
    repository: &Repository,
    digest: &Digest,
) -> Result<(), Error> {
    let removed = session.client.delete_blob(repository, digest).await;
    removed.map_err(|error| Error::from(error).about(format!("failed to remove blob {digest}")))
}
