//! Readers that undo compression.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use thiserror::Error;

use crate::blob::Hasher;
use crate::image::{DiffId, Digest};

/// Decoders ask for input in steps of this size; larger gains nothing, 16 KiB costs a sixth.
const BUFFER: usize = 256 * 1024;

/// How many buffers of a tar may wait for the reader: enough to bridge the making of a large file.
const BUFFERS_AHEAD: usize = 8;

/// The longest of the magic numbers below.
const MAGIC: usize = 6;

/// The memory an xz stream may ask for, in KiB: `xz -9` asks for 65 MiB.
const XZ_MEMORY_KIB: u32 = 128 * 1024;

/// Compressed data that breaks its format's rules, or ends too early.
///
/// It is the inner error of an [`io::Error`] of kind `InvalidData`.
#[derive(Debug, Error)]
#[error("corrupt or truncated {format} data")]
pub struct CorruptData {
    /// The format that the data began as.
    pub format: &'static str,
    /// What the decoder said.
    #[source]
    pub source: io::Error,
}

/// Returns the content of `reader`, decompressed if its first bytes are those of gzip, zstd, bzip2
/// or xz, and as it is otherwise. Several members, frames or streams in a row are one content.
///
/// Blocks until the first bytes are there. What is read later fails with [`CorruptData`] when the
/// data is corrupt or ends early, and with the error of `reader` itself when that fails.
///
/// # Errors
///
/// What reading the first bytes gives.
pub fn decompress<'a>(mut reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut magic = Vec::with_capacity(MAGIC);
    reader.by_ref().take(MAGIC as u64).read_to_end(&mut magic)?;
    let failed = Arc::new(AtomicBool::new(false));
    let format = Format::of(&magic);
    let source = Cursor::new(magic).chain(reader);
    let source = Source { inner: source, failed: Arc::clone(&failed) };
    let source = BufReader::with_capacity(BUFFER, source);
    let Some(format) = format else { return Ok(Box::new(source)) };
    let inner = format.decoder(source)?;
    Ok(Box::new(Decoder { inner, format: format.name(), failed }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Format {
    fn of(magic: &[u8]) -> Option<Self> {
        match magic {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            // A frame, or a skippable frame in front of one (RFC 8878, sections 3.1.1 and 3.1.2).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            [b'B', b'Z', b'h', ..] => Some(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Some(Self::Xz),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        }
    }

    fn decoder<'a>(
        self,
        source: impl BufRead + Send + 'a,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(source)?),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(source, true, XZ_MEMORY_KIB)),
        })
    }
}

/// Remembers whether an error came from the source, to tell it from one of the decoder.
struct Source<R> {
    inner: R,
    failed: Arc<AtomicBool>,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.failed.store(true, Ordering::Relaxed);
            }
        })
    }
}

struct Decoder<R> {
    inner: R,
    format: &'static str,
    failed: Arc<AtomicBool>,
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|source| {
            if source.kind() == io::ErrorKind::Interrupted || self.failed.load(Ordering::Relaxed) {
                return source;
            }
            let format = self.format;
            io::Error::new(io::ErrorKind::InvalidData, CorruptData { format, source })
        })
    }
}

/// A layer's tar, decompressed and hashed on a thread of its own while the reader works.
///
/// At most a few buffers of 256 KiB are read ahead. Dropping it ends the thread at the next
/// buffer, or when the source gives its next bytes.
#[derive(Debug)]
pub struct VerifiedTar {
    expected: DiffId,
    buffers: Option<Receiver<Vec<u8>>>,
    used: SyncSender<Vec<u8>>,
    current: Cursor<Vec<u8>>,
    thread: Option<JoinHandle<io::Result<Hasher>>>,
    /// What the thread had hashed when the tar ended.
    hashed: Option<(Digest, u64)>,
}

impl VerifiedTar {
    /// Starts to read and decompress `reader`, whose tar must have the digest `expected`.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn new(reader: impl Read + Send + 'static, expected: DiffId) -> io::Result<Self> {
        let (full, buffers) = sync_channel(BUFFERS_AHEAD);
        let (used, empty) = sync_channel(BUFFERS_AHEAD + 2);
        let algorithm = expected.0.algorithm();
        let thread = thread::Builder::new()
            .name("decompress".to_owned())
            .spawn(move || read_ahead(reader, Hasher::new(algorithm), &full, &empty))?;
        let current = Cursor::new(Vec::new());
        let (buffers, thread) = (Some(buffers), Some(thread));
        Ok(Self { expected, buffers, used, current, thread, hashed: None })
    }

    /// Reads what is left of the tar and returns its size in bytes.
    ///
    /// # Errors
    ///
    /// Those of reading, and `InvalidData` with a [`Mismatch`](crate::blob::Mismatch) inside when
    /// the tar is not the one that was expected.
    pub fn finish(mut self) -> io::Result<u64> {
        while self.next_buffer()? {}
        let Some((actual, size)) = self.hashed.take() else {
            return Err(io::Error::other("the layer's reader failed before"));
        };
        if actual == self.expected.0 {
            return Ok(size);
        }
        let expected = self.expected.0.clone();
        let mismatch = crate::blob::Mismatch::Digest { expected, actual };
        Err(io::Error::new(io::ErrorKind::InvalidData, mismatch))
    }

    /// Takes the next buffer; `false` at the end of the tar.
    fn next_buffer(&mut self) -> io::Result<bool> {
        let Some(buffers) = &self.buffers else { return Ok(false) };
        if let Ok(buffer) = buffers.recv() {
            let used = std::mem::replace(&mut self.current, Cursor::new(buffer)).into_inner();
            // A buffer that finds no room is simply freed.
            drop(self.used.try_send(used));
            return Ok(true);
        }
        self.buffers = None;
        self.current = Cursor::new(Vec::new());
        let result = self.thread.take().map(JoinHandle::join);
        let Some(Ok(result)) = result else {
            return Err(io::Error::other("the thread that decompresses the layer panicked"));
        };
        self.hashed = Some(result?.finish());
        Ok(false)
    }
}

impl Read for VerifiedTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for VerifiedTar {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.fill_buf()?.is_empty() {
            self.next_buffer()?;
        }
        self.current.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.current.consume(count);
    }
}

impl Drop for VerifiedTar {
    fn drop(&mut self) {
        // The thread ends when its next buffer finds no receiver. It is not joined: its source may
        // be a pipe or a connection that gives nothing for long.
        self.buffers = None;
    }
}

/// Sends the whole content of `reader` in buffers; ends early, without an error, when nobody
/// receives them.
fn read_ahead(
    reader: impl Read + Send,
    mut hasher: Hasher,
    full: &SyncSender<Vec<u8>>,
    empty: &Receiver<Vec<u8>>,
) -> io::Result<Hasher> {
    let mut tar = decompress(reader)?;
    loop {
        let mut buffer = empty.try_recv().unwrap_or_default();
        buffer.clear();
        buffer.reserve(BUFFER);
        tar.by_ref().take(BUFFER as u64).read_to_end(&mut buffer)?;
        if buffer.is_empty() {
            return Ok(hasher);
        }
        hasher.update(&buffer);
        if full.send(buffer).is_err() {
            return Ok(hasher);
        }
    }
}
