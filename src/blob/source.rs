//! Sources of bytes that can be opened again, so that a failed upload can be repeated.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

/// Bytes that can be read from any offset, as often as needed.
pub trait Source: Send + Sync {
    /// Returns the size in bytes.
    fn size(&self) -> u64;

    /// Opens the bytes from `offset` on. Blocks.
    ///
    /// # Errors
    ///
    /// Whatever opening or seeking gives.
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>>;
}

/// A file as a source.
#[derive(Debug, Clone)]
pub struct FileSource {
    path: PathBuf,
    size: u64,
}

impl FileSource {
    /// Returns a source of the file at `path`, which has `size` bytes.
    #[must_use]
    pub fn new(path: PathBuf, size: u64) -> Self {
        Self { path, size }
    }
}

impl Source for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = fs_err::File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

/// Bytes in memory as a source: manifests and configs, never layers.
#[derive(Debug, Clone)]
pub struct BytesSource(pub Bytes);

impl Source for BytesSource {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let start = usize::try_from(offset).map_or(self.0.len(), |at| at.min(self.0.len()));
        Ok(Box::new(Cursor::new(self.0.slice(start..))))
    }
}

/// An open file, or a part of one, as a source: the same bytes whatever happens to its name.
#[derive(Debug, Clone)]
pub struct HeldFile {
    file: Arc<File>,
    start: u64,
    size: u64,
}

impl HeldFile {
    /// Returns a source of the whole file, as large as it is now.
    ///
    /// # Errors
    ///
    /// When the file cannot be asked for its size.
    pub fn new(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), start: 0, size })
    }

    /// Returns a source of the `size` bytes from `start` on.
    #[must_use]
    pub fn part(file: Arc<File>, start: u64, size: u64) -> Self {
        Self { file, start, size }
    }
}

impl Source for HeldFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let position = self.start.saturating_add(offset.min(self.size));
        let end = self.start.saturating_add(self.size);
        Ok(Box::new(ReadAt { file: Arc::clone(&self.file), position, end }))
    }
}

/// Reads a file without moving its position.
struct ReadAt {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Read for ReadAt {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..length], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}
