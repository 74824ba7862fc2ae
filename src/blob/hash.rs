//! Hashing while reading and writing.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256, Sha512};
use thiserror::Error;

use crate::image::{Algorithm, Descriptor, Digest};

/// Content that is not what its descriptor promised.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// The bytes have another digest.
    #[error("content does not match its digest: expected {expected}, got {actual}")]
    Digest {
        /// What was promised.
        expected: Digest,
        /// What arrived.
        actual: Digest,
    },
    /// There were fewer or more bytes.
    #[error("content of {digest} has the wrong size: expected {expected} bytes, got {actual}")]
    Size {
        /// The digest of what was promised.
        digest: Digest,
        /// The promised size.
        expected: u64,
        /// How many bytes arrived; when more than promised, how many were read before giving up.
        actual: u64,
    },
}

/// A running digest and count of bytes.
///
/// ```
/// use rpub::blob::Hasher;
/// use rpub::image::Digest;
/// let mut hasher = Hasher::default();
/// hasher.update(b"hello");
/// assert_eq!(hasher.finish(), (Digest::of(b"hello"), 5));
/// ```
#[derive(Debug, Clone)]
pub struct Hasher {
    state: State,
    count: u64,
}

#[derive(Debug, Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new(Algorithm::Sha256)
    }
}

impl Hasher {
    /// Returns a hasher that has seen nothing.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Box::new(Sha512::new())),
        };
        Self { state, count: 0 }
    }

    /// Takes more bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
        self.count += bytes.len() as u64;
    }

    /// Returns how many bytes were taken in.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the digest and the count of bytes.
    #[must_use]
    pub fn finish(self) -> (Digest, u64) {
        let digest = match self.state {
            State::Sha256(state) => Digest::from_raw(Algorithm::Sha256, &state.finalize()),
            State::Sha512(state) => Digest::from_raw(Algorithm::Sha512, &state.finalize()),
        };
        (digest, self.count)
    }

    /// Compares what was taken in with `expected`.
    ///
    /// # Errors
    ///
    /// [`Mismatch`] when size or digest differ; the size is looked at first.
    pub fn verify(self, expected: &Descriptor) -> Result<(), Mismatch> {
        let (actual, count) = self.finish();
        if count != expected.size {
            let digest = expected.digest.clone();
            return Err(Mismatch::Size { digest, expected: expected.size, actual: count });
        }
        if actual != expected.digest {
            return Err(Mismatch::Digest { expected: expected.digest.clone(), actual });
        }
        Ok(())
    }
}

/// A reader that fails at the end, or as soon as too much came, unless the bytes match a descriptor.
///
/// The failure is an [`io::Error`] of kind `InvalidData` whose inner error is a [`Mismatch`].
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    hasher: Option<Hasher>,
    expected: Descriptor,
}

impl<R: Read> VerifyingReader<R> {
    /// Returns a reader of `inner`, whose bytes must be those of `expected`.
    pub fn new(inner: R, expected: Descriptor) -> Self {
        let hasher = Some(Hasher::new(expected.digest.algorithm()));
        Self { inner, hasher, expected }
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let invalid = |mismatch| io::Error::new(io::ErrorKind::InvalidData, mismatch);
        let Some(mut hasher) = self.hasher.take() else { return Ok(0) };
        if buffer.is_empty() {
            self.hasher = Some(hasher);
            return Ok(0);
        }
        let count = match self.inner.read(buffer) {
            Ok(count) => count,
            Err(error) => {
                self.hasher = Some(hasher);
                return Err(error);
            }
        };
        if count == 0 {
            hasher.verify(&self.expected).map_err(invalid)?;
            return Ok(0);
        }
        hasher.update(&buffer[..count]);
        if hasher.count() > self.expected.size {
            let (digest, expected) = (self.expected.digest.clone(), self.expected.size);
            return Err(invalid(Mismatch::Size { digest, expected, actual: hasher.count() }));
        }
        self.hasher = Some(hasher);
        Ok(count)
    }
}

/// A writer that hashes what passes through it.
#[derive(Debug)]
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> HashingWriter<W> {
    /// Returns a writer to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::default() }
    }

    /// Returns the inner writer, the digest and the count of bytes.
    pub fn finish(self) -> (W, Digest, u64) {
        let (digest, count) = self.hasher.finish();
        (self.inner, digest, count)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8], expected: &Descriptor) -> Result<Vec<u8>, Mismatch> {
        let mut out = Vec::new();
        match VerifyingReader::new(bytes, expected.clone()).read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(error) => Err(error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<Mismatch>())
                .expect("a mismatch")
                .clone()),
        }
    }

    #[test]
    fn reader_accepts_only_the_described_bytes() {
        let expected = Descriptor::of("x", b"hello");
        assert_eq!(read_all(b"hello", &expected), Ok(b"hello".to_vec()));
        assert!(matches!(read_all(b"hell", &expected), Err(Mismatch::Size { actual: 4, .. })));
        assert!(matches!(read_all(b"hello!", &expected), Err(Mismatch::Size { .. })));
        assert!(matches!(read_all(b"jello", &expected), Err(Mismatch::Digest { .. })));
    }

    #[test]
    fn writer_counts_and_hashes() {
        let mut writer = HashingWriter::new(Vec::new());
        writer.write_all(b"hello").expect("writes to memory");
        let (out, digest, count) = writer.finish();
        assert_eq!((out.as_slice(), digest, count), (&b"hello"[..], Digest::of(b"hello"), 5));
    }
}
