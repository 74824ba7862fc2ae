//! Sources of bytes that can be opened again, so that a failed upload can be repeated.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;

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
