//! Layers that were made elsewhere, as files.

use std::io::{self, Read, Write};

use crate::blob::{Hasher, HashingWriter};
use crate::image::DiffId;
use crate::layer::{Compression, Error, LayerWriter, Result, SealedLayer, TarReader, decompress};

/// Which compressed layers are taken as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Those in gzip.
    Gzip,
    /// Those in gzip and in zstd.
    GzipAndZstd,
}

/// Takes a layer from outside: a tar, compressed in any way.
///
/// One in an accepted compression keeps its bytes; any other is compressed as rpub compresses. All
/// of it is read as the tar of a layer first. What was written to `out` is worthless after an error.
/// Blocks.
///
/// # Errors
///
/// Those of [`TarReader::next_member`] for what is no tar, [`Error::ReadTar`] and
/// [`Error::WriteTar`] when input or output fail, and [`Error::NoTar`] for an input without one.
pub fn intake<W>(mut input: impl Read + Send, out: W, accepted: Accepted) -> Result<SealedLayer>
where
    W: Write + Send + 'static,
{
    let mut magic = Vec::with_capacity(4);
    input.by_ref().take(4).read_to_end(&mut magic).map_err(Error::ReadTar)?;
    let kept = match (magic.as_slice(), accepted) {
        ([0x1f, 0x8b, ..], _) => Some(Compression::default()),
        ([0x28, 0xb5, 0x2f, 0xfd], Accepted::GzipAndZstd) => Some(Compression::Zstd(3)),
        _ => None,
    };
    let input = io::Cursor::new(magic).chain(input);
    let sealed = match kept {
        Some(compression) => keep(input, out, compression)?,
        None => compress(input, out)?,
    };
    if sealed.uncompressed_size == 0 { Err(Error::NoTar) } else { Ok(sealed) }
}

/// Copies the input as it is, while reading what is inside.
fn keep(
    input: impl Read + Send,
    out: impl Write + Send,
    compression: Compression,
) -> Result<SealedLayer> {
    let mut copied = Copied { inner: input, out: HashingWriter::new(out), has_failed: false };
    let (read, hasher) = {
        let tar = decompress(&mut copied).map_err(Error::ReadTar)?;
        let mut tar = Hashed { inner: tar, hasher: Hasher::default() };
        (check(&mut tar), tar.hasher)
    };
    let (diff_id, uncompressed_size) = hasher.finish();
    if let Err(error) = read {
        return Err(if copied.has_failed { failed_to_write(error) } else { error });
    }
    // What follows the compressed data belongs to the blob as well.
    io::copy(&mut copied, &mut io::sink()).map_err(Error::ReadTar)?;
    let (mut out, digest, size) = copied.out.finish();
    out.flush().map_err(Error::WriteTar)?;
    let media_type = compression.media_type().to_owned();
    Ok(SealedLayer { digest, size, diff_id: DiffId(diff_id), uncompressed_size, media_type })
}

fn compress(input: impl Read + Send, out: impl Write + Send + 'static) -> Result<SealedLayer> {
    let tar = decompress(input).map_err(Error::ReadTar)?;
    let out = LayerWriter::new(out, Compression::default());
    let mut copied = Copied { inner: tar, out, has_failed: false };
    match check(&mut copied) {
        Ok(()) => copied.out.finish().map_err(Error::WriteTar),
        Err(error) if copied.has_failed => Err(failed_to_write(error)),
        Err(error) => Err(error),
    }
}

/// Reads a tar to its end, member by member.
fn check(tar: impl Read) -> Result<()> {
    let mut reader = TarReader::new(tar);
    while let Some(member) = reader.next_member()? {
        member.entry()?;
    }
    reader.drain()
}

/// The writer's error comes out of the reader that copies.
fn failed_to_write(error: Error) -> Error {
    match error {
        Error::ReadTar(error) => Error::WriteTar(error),
        other => other,
    }
}

/// Copies what is read to a writer.
struct Copied<R, W> {
    inner: R,
    out: W,
    has_failed: bool,
}

impl<R: Read, W: Write> Read for Copied<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.out.write_all(&buffer[..count]).inspect_err(|_| self.has_failed = true)?;
        Ok(count)
    }
}

/// Hashes what is read.
struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use flate2::write::GzEncoder;

    use super::*;
    use crate::image::{Digest, media_type};
    use crate::layer::{Entry, EntryKind, LayerTar};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("whole").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn tar() -> Vec<u8> {
        let mut tar = LayerTar::new(Vec::new());
        let file = Entry::new("a", EntryKind::File { size: 2 }, 0o644);
        tar.append(&file, Some(&mut &b"aa"[..])).expect("a file");
        tar.finish().expect("a tar").0
    }

    fn taken(input: &[u8], accepted: Accepted) -> Result<(SealedLayer, Vec<u8>)> {
        let out = Shared::default();
        let sealed = intake(input, out.clone(), accepted)?;
        let bytes = out.0.lock().expect("whole").clone();
        assert_eq!((&sealed.digest, sealed.size), (&Digest::of(&bytes), bytes.len() as u64));
        Ok((sealed, bytes))
    }

    #[test]
    fn compressed_layers_keep_their_bytes_and_others_are_compressed() {
        let tar = tar();
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&tar).expect("written");
        let gzip = gzip.finish().expect("written");
        let zstd = zstd::encode_all(tar.as_slice(), 1).expect("written");
        for (input, accepted, keeps, kind) in [
            (&gzip, Accepted::Gzip, true, media_type::OCI_LAYER_GZIP),
            (&zstd, Accepted::GzipAndZstd, true, media_type::OCI_LAYER_ZSTD),
            (&zstd, Accepted::Gzip, false, media_type::OCI_LAYER_GZIP),
            (&tar, Accepted::Gzip, false, media_type::OCI_LAYER_GZIP),
        ] {
            let (sealed, bytes) = taken(input, accepted).expect("a layer");
            assert_eq!((bytes == *input, sealed.media_type.as_str()), (keeps, kind));
            assert_eq!(sealed.diff_id, DiffId(Digest::of(&tar)));
            assert_eq!(sealed.uncompressed_size, tar.len() as u64);
        }
    }

    #[test]
    fn what_is_no_tar_is_refused() {
        let tar = tar();
        assert!(taken(b"", Accepted::Gzip).is_err());
        assert!(taken(&[b'x'; 2000], Accepted::Gzip).is_err());
        assert!(taken(&tar[..513], Accepted::Gzip).is_err());
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).expect("written");
        let gzip = gzip.finish().expect("written");
        assert!(taken(&gzip[..gzip.len() - 9], Accepted::Gzip).is_err());
    }
}
