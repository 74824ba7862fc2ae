//! The bytes of blobs: digest, size, and for layers what is inside.

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::archive;
use crate::blob::{Hasher, Mismatch, Source};
use crate::event::TransferId;
use crate::image::{Descriptor, DiffId, Platform, Repository, media_type};
use crate::layer::{TarReader, VerifiedTar};
use crate::operations::place::Place;
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, Session};

use super::{Finding, Thoroughness, finding_of};

/// Chunks on their way to be decompressed: enough to keep both sides busy, little memory.
const CHUNKS_AHEAD: usize = 16;
/// How much of a file is read at once.
const BUFFER: usize = 256 << 10;

/// A config or layer to be looked at.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    pub(super) descriptor: Descriptor,
    /// What the digest of its tar must be, for a layer.
    pub(super) diff_id: Option<DiffId>,
    pub(super) platform: Option<Platform>,
}

/// Returns what is wrong with a blob.
pub(super) async fn check_blob(
    session: &Session,
    place: &Place,
    blob: &Blob,
    thoroughness: Thoroughness,
) -> Result<Vec<Finding>, Error> {
    match thoroughness {
        Thoroughness::Fast => check_size(session, place, &blob.descriptor).await,
        Thoroughness::Everything => match place {
            Place::Repository(repository) => check_remote(session, repository, blob).await,
            Place::Store | Place::Archive(_) => check_file(session, place, blob).await,
        },
    }
}

async fn check_size(
    session: &Session,
    place: &Place,
    descriptor: &Descriptor,
) -> Result<Vec<Finding>, Error> {
    let digest = descriptor.digest.clone();
    let size = match place {
        Place::Repository(repository) => session.client.blob_exists(repository, &digest).await?,
        Place::Store => {
            let store = session.store.clone();
            blocking(move || store.blob_size(&digest)).await?
        }
        Place::Archive(archive) => archive.size_of(&digest),
    };
    Ok(match size {
        None => vec![Finding::wrong("it is not there")],
        Some(size) if size == descriptor.size => Vec::new(),
        Some(size) => vec![Finding::wrong(wrong_size(descriptor, size))],
    })
}

fn wrong_size(descriptor: &Descriptor, actual: u64) -> String {
    let (digest, expected) = (descriptor.digest.clone(), descriptor.size);
    Mismatch::Size { digest, expected, actual }.to_string()
}

fn unreadable(error: io::Error) -> Error {
    Error::new(Kind::User, "failed to read a blob").because(error)
}

async fn check_remote(
    session: &Session,
    repository: &Repository,
    blob: &Blob,
) -> Result<Vec<Finding>, Error> {
    let started = session.client.fetch_blob(repository, &blob.descriptor, TransferId::next()).await;
    let mut stream = match started {
        Ok(stream) => stream,
        Err(error) => return finding_of(error.into(), "").map(|found| vec![found]),
    };
    let mut inside = Inside::look(blob);
    loop {
        match stream.next().await {
            Ok(Some(chunk)) => inside.send(chunk).await,
            Ok(None) => return inside.finish().await,
            // What is inside of wrong bytes does not matter.
            Err(error) => return finding_of(error.into(), "").map(|found| vec![found]),
        }
    }
}

async fn check_file(session: &Session, place: &Place, blob: &Blob) -> Result<Vec<Finding>, Error> {
    let descriptor = &blob.descriptor;
    let source: Arc<dyn Source> = match place {
        Place::Archive(archive) => match archive.source(descriptor) {
            Ok(source) => source,
            Err(archive::Error::Missing { .. }) => {
                return Ok(vec![Finding::wrong("it is not there")]);
            }
            Err(archive::Error::Mismatch(mismatch)) => {
                return Ok(vec![Finding::wrong(mismatch.to_string())]);
            }
            Err(error) => return Err(error.into()),
        },
        Place::Store | Place::Repository(_) => Arc::new(session.store.blob_source(descriptor)),
    };
    let (inside, expected) = (Inside::look(blob), descriptor.clone());
    let (inside, verified) = blocking(move || read_file(&*source, inside, &expected)).await?;
    match verified {
        None => Ok(vec![Finding::wrong("it is not there")]),
        Some(Err(mismatch)) => Ok(vec![Finding::wrong(mismatch.to_string())]),
        Some(Ok(())) => inside.finish().await,
    }
}

/// Reads a file to its end; returns whether it is what is expected, or nothing when there is none.
fn read_file(
    source: &dyn Source,
    mut inside: Inside,
    expected: &Descriptor,
) -> Result<(Inside, Option<Result<(), Mismatch>>), Error> {
    let mut file = match source.open(0) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((inside, None)),
        Err(error) => return Err(unreadable(error)),
    };
    let mut hasher = Hasher::new(expected.digest.algorithm());
    loop {
        let mut chunk = vec![0; BUFFER];
        let count = file.read(&mut chunk).map_err(unreadable)?;
        if count == 0 {
            return Ok((inside, Some(hasher.verify(expected))));
        }
        chunk.truncate(count);
        hasher.update(&chunk);
        inside.send_blocking(chunk.into());
    }
}

/// What is inside a layer, looked at on a thread of its own while its bytes arrive.
struct Inside {
    chunks: Option<mpsc::Sender<Bytes>>,
    thread: Option<JoinHandle<Result<Vec<String>, Error>>>,
}

impl Inside {
    /// Begins to look, where there is something to be compared with.
    fn look(blob: &Blob) -> Self {
        let is_layer = media_type::is_layer(&blob.descriptor.media_type);
        let Some(diff_id) = blob.diff_id.clone().filter(|_| is_layer) else {
            return Self { chunks: None, thread: None };
        };
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let kind = blob.descriptor.media_type.clone();
        let thread =
            tokio::spawn(blocking(move || Ok::<_, Error>(look_inside(chunks, &kind, diff_id))));
        Self { chunks: Some(sender), thread: Some(thread) }
    }

    async fn send(&mut self, chunk: Bytes) {
        // Whoever looks may have seen enough.
        if let Some(chunks) = &self.chunks
            && chunks.send(chunk).await.is_err()
        {
            self.chunks = None;
        }
    }

    fn send_blocking(&mut self, chunk: Bytes) {
        if let Some(chunks) = &self.chunks
            && chunks.blocking_send(chunk).is_err()
        {
            self.chunks = None;
        }
    }

    /// Returns what is wrong, after the last byte.
    async fn finish(mut self) -> Result<Vec<Finding>, Error> {
        self.chunks = None;
        let Some(thread) = self.thread else { return Ok(Vec::new()) };
        let messages = thread
            .await
            .map_err(|error| Error::new(Kind::Internal, "a check failed").because(error))??;
        Ok(messages.into_iter().map(Finding::wrong).collect())
    }
}

/// Compares the compression with the media type, reads the tar, and compares its digest.
fn look_inside(chunks: mpsc::Receiver<Bytes>, kind: &str, expected: DiffId) -> Vec<String> {
    let mut faults = Vec::new();
    let mut arriving = Arriving { chunks, current: Cursor::new(Bytes::new()) };
    let mut magic = Vec::new();
    // A channel gives no errors.
    let _ = arriving.by_ref().take(4).read_to_end(&mut magic);
    let (is, said) = (compression_of(&magic), compression_said(kind));
    if is != said {
        faults.push(format!("its media type says {said}, but it is {is}"));
    }
    let tar = VerifiedTar::new(Cursor::new(magic).chain(arriving), expected);
    let read = tar.and_then(|mut tar| match members(&mut tar) {
        Err(crate::layer::Error::ReadTar(error)) => Err(error),
        Err(error) => {
            faults.push(error.to_string());
            tar.finish()
        }
        Ok(()) => tar.finish(),
    });
    if let Err(error) = read {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Mismatch>());
        faults.push(match inner {
            Some(Mismatch::Digest { expected, actual }) => {
                format!("its tar has the digest {actual}, but its diffID is {expected}")
            }
            _ => format!("it cannot be decompressed: {error}"),
        });
    }
    faults
}

/// Reads the members of a tar.
fn members(tar: &mut VerifiedTar) -> crate::layer::Result<()> {
    let mut reader = TarReader::new(tar);
    while reader.next_member()?.is_some() {}
    Ok(())
}

fn compression_of(magic: &[u8]) -> &'static str {
    match magic {
        [0x1f, 0x8b, ..] => "gzip",
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => "zstd",
        _ => "not compressed so",
    }
}

fn compression_said(kind: &str) -> &'static str {
    match kind.rsplit(['+', '.']).next() {
        Some("gzip") => "gzip",
        Some("zstd") => "zstd",
        _ => "not compressed so",
    }
}

/// The bytes of a blob as they arrive.
struct Arriving {
    chunks: mpsc::Receiver<Bytes>,
    current: Cursor<Bytes>,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = Cursor::new(chunk),
                None => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;
    use crate::layer::{Compression, LayerTar, LayerWriter};

    fn looked(blob: &[u8], kind: &str, diff_id: &DiffId) -> Vec<String> {
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        for piece in blob.chunks(100.max(blob.len() / 10)) {
            sender.blocking_send(Bytes::copy_from_slice(piece)).expect("there is room");
        }
        drop(sender);
        look_inside(chunks, kind, diff_id.clone())
    }

    #[test]
    fn layers_are_what_their_descriptors_say() {
        let tar = LayerTar::new(LayerWriter::new(Vec::new(), Compression::default()));
        let (sealed, gzip) =
            tar.finish().expect("a tar").0.finish_with_output().expect("compressed");
        let right = sealed.diff_id;
        assert_eq!(looked(&gzip, media_type::OCI_LAYER_GZIP, &right), Vec::<String>::new());
        assert_eq!(looked(&gzip, media_type::DOCKER_LAYER_GZIP, &right), Vec::<String>::new());
        let zstd = looked(&gzip, media_type::OCI_LAYER_ZSTD, &right);
        assert_eq!(zstd, ["its media type says zstd, but it is gzip"]);
        let wrong = looked(&gzip, media_type::OCI_LAYER_GZIP, &DiffId(Digest::of(b"x")));
        assert!(wrong[0].contains("but its diffID is"), "{wrong:?}");
        let cut = looked(&gzip[..gzip.len() - 4], media_type::OCI_LAYER_GZIP, &right);
        assert!(cut[0].contains("cannot be decompressed"), "{cut:?}");
        let text = [b'x'; 2000];
        let no_tar = looked(&text, media_type::OCI_LAYER_TAR, &DiffId(Digest::of(&text)));
        assert!(no_tar[0].contains("invalid tar header"), "{no_tar:?}");
    }
}
