//! Compressed tars: unpacked once, because blobs are read from any place.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::path::Path;

use super::{Error, Result};

/// Most that a compressed archive may unpack to: more than any disk that it should fill.
const MAX_UNPACKED: u64 = 256 << 30;
const BUFFER: usize = 256 << 10;

type Decoder = fn(BufReader<File>) -> io::Result<Box<dyn Read>>;

/// What a compressed file begins with, and what reads it.
const FORMATS: [(&[u8], Decoder); 4] = [
    (&[0x1f, 0x8b], |file| Ok(Box::new(flate2::bufread::MultiGzDecoder::new(file)))),
    (&[0x28, 0xb5, 0x2f, 0xfd], |file| Ok(Box::new(zstd::Decoder::with_buffer(file)?))),
    (b"BZh", |file| Ok(Box::new(bzip2::bufread::MultiBzDecoder::new(file)))),
    (b"\xfd7zXZ\0", |file| Ok(Box::new(lzma_rust2::XzReader::new(file, true)))),
];

/// Returns what `file` unpacks to, in a file without a name; `None` when it is not compressed.
pub(super) fn unpacked(file: &File, path: &Path) -> Result<Option<File>> {
    let mut start = [0; 6];
    let length = read_start(file, &mut start)?;
    let Some((_, decoder)) = FORMATS.iter().find(|(magic, _)| start[..length].starts_with(magic))
    else {
        return Ok(None);
    };
    let mut input = file.try_clone()?;
    input.rewind()?;
    let damaged = |error| Error::Unpack { path: path.to_owned(), source: error };
    let reader = decoder(BufReader::with_capacity(BUFFER, input)).map_err(damaged)?;
    match spooled(reader, path) {
        Err(Error::Io(error)) => Err(damaged(error)),
        other => other.map(Some),
    }
}

/// Returns a file without a name that has the bytes of `reader`.
pub(super) fn spooled(reader: impl Read, path: &Path) -> Result<File> {
    let mut file = tempfile::tempfile()?;
    let mut bounded = reader.take(MAX_UNPACKED + 1);
    let size = io::copy(&mut bounded, &mut file)?;
    if size > MAX_UNPACKED {
        let (path, what) = (path.to_owned(), "what comes out".to_owned());
        return Err(Error::TooLarge { path, what, size, limit: MAX_UNPACKED });
    }
    Ok(file)
}

fn read_start(file: &File, start: &mut [u8]) -> io::Result<usize> {
    use std::os::unix::fs::FileExt as _;
    let mut length = 0;
    while length < start.len() {
        match file.read_at(&mut start[length..], length as u64)? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}
