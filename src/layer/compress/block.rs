//! One block of a layer, compressed apart from the others.

use std::io;

use flate2::{Compress, FlushCompress};

use super::Compression;

/// How far back deflate can refer (RFC 1951, section 2), so how much of the last block the next
/// one needs.
pub(super) const WINDOW: usize = 32 * 1024;

/// The unit in which a block is looked at for whether deflating it is worth the time.
const UNIT: usize = 64 * 1024;

/// Bytes to compress, after the bytes of the stream that came directly before them.
#[derive(Debug, Default)]
pub(super) struct Block {
    bytes: Vec<u8>,
    /// Where the block's own bytes begin.
    start: usize,
}

impl Block {
    /// Returns an empty block in `buffer`, which follows `previous`.
    pub(super) fn after(previous: &Self, mut buffer: Vec<u8>) -> Self {
        let from = previous.bytes.len().saturating_sub(WINDOW);
        buffer.clear();
        buffer.extend_from_slice(&previous.bytes[from..]);
        Self { start: buffer.len(), bytes: buffer }
    }

    /// Returns the block's own bytes.
    pub(super) fn content(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Takes bytes until the block has `size`; returns how many.
    pub(super) fn fill(&mut self, bytes: &[u8], size: usize) -> usize {
        let count = bytes.len().min(size - self.content().len());
        self.bytes.extend_from_slice(&bytes[..count]);
        count
    }

    /// Returns the buffer for another use.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// What compresses one block after another.
pub(super) enum BlockCompressor {
    Gzip(flate2::Compression),
    /// gzip without deflating: zlib's own level 0 cuts its stored blocks by the room it finds in the
    /// output buffer, and the bytes must depend on nothing but the tar.
    Stored,
    Zstd(zstd::bulk::Compressor<'static>),
    None,
}

impl BlockCompressor {
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::Gzip(0) => Self::Stored,
            Compression::Gzip(level) => Self::Gzip(flate2::Compression::new(level.min(9))),
            Compression::Zstd(level) => Self::Zstd(zstd::bulk::Compressor::new(level)?),
            Compression::None => Self::None,
        })
    }

    /// Fills the empty `out` with `block` compressed, and returns the CRC-32 of its content where the format needs it.
    pub(super) fn compress(
        &mut self,
        block: &Block,
        out: &mut Vec<u8>,
    ) -> io::Result<crc32fast::Hasher> {
        let mut crc = crc32fast::Hasher::new();
        match self {
            Self::Gzip(level) => {
                crc.update(block.content());
                deflate_block(*level, block, out)?;
            }
            Self::Stored => {
                crc.update(block.content());
                store(block.content(), out);
            }
            Self::Zstd(compressor) => {
                // Writes from the buffer's start, which is right as every block has its own.
                out.reserve(zstd::zstd_safe::compress_bound(block.content().len()));
                compressor.compress_to_buffer(block.content(), out)?;
            }
            Self::None => out.extend_from_slice(block.content()),
        }
        Ok(crc)
    }
}

/// Deflates the compressible parts of `block` and stores the others.
fn deflate_block(level: flate2::Compression, block: &Block, out: &mut Vec<u8>) -> io::Result<()> {
    let mut at = block.start;
    while at < block.bytes.len() {
        let (end, compressed) = next_run(&block.bytes, at);
        let run = &block.bytes[at..end];
        if compressed {
            store(run, out);
        } else {
            deflate_run(level, &block.bytes[at.saturating_sub(WINDOW)..at], run, out)?;
        }
        at = end;
    }
    Ok(())
}

/// Returns where the run of units of the same kind that begins at `at` ends, and whether the run
/// looks compressed already.
fn next_run(bytes: &[u8], at: usize) -> (usize, bool) {
    let unit_end = |at: usize| (at + UNIT).min(bytes.len());
    let mut end = unit_end(at);
    let compressed = looks_compressed(&bytes[at..end]);
    while end < bytes.len() && looks_compressed(&bytes[end..unit_end(end)]) == compressed {
        end = unit_end(end);
    }
    (end, compressed)
}

fn deflate_run(
    level: flate2::Compression,
    dictionary: &[u8],
    run: &[u8],
    out: &mut Vec<u8>,
) -> io::Result<()> {
    // Always a new one: zlib-rs's `reset` leaves the old window, whose bytes beyond the new input
    // still sway which of two equal matches is taken, so the output would depend on which block the
    // thread had before. A new one costs some 20 microseconds.
    let mut deflate = Compress::new(level, false);
    if !dictionary.is_empty() {
        deflate.set_dictionary(dictionary).map_err(io::Error::other)?;
    }
    let before = deflate.total_in();
    // Room for all of it, so that the compressor never has to stop and start again.
    out.reserve(run.len() + run.len() / 64 + 1024);
    loop {
        let taken = usize::try_from(deflate.total_in() - before).unwrap_or(run.len());
        deflate.compress_vec(&run[taken..], out, FlushCompress::Sync).map_err(io::Error::other)?;
        let done = deflate.total_in() - before == run.len() as u64;
        // A flush is whole when it left room in the output.
        if done && out.len() < out.capacity() {
            return Ok(());
        }
        out.reserve(run.len() / 4 + 1024);
    }
}

/// Appends `run` as stored blocks (RFC 1951, section 3.2.4), at a byte boundary.
fn store(run: &[u8], out: &mut Vec<u8>) {
    out.reserve(run.len() + (run.len() / usize::from(u16::MAX) + 1) * 5);
    for chunk in run.chunks(usize::from(u16::MAX)) {
        let length = u16::try_from(chunk.len()).unwrap_or(u16::MAX);
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(chunk);
    }
}

/// Returns whether deflating `unit` would gain next to nothing: its bytes are spread as evenly as
/// those of compressed or encrypted data, and nothing in it repeats.
///
/// Whole numbers only, so that every machine decides alike.
fn looks_compressed(unit: &[u8]) -> bool {
    const SAMPLE: usize = 2048;
    if unit.len() < 4 * SAMPLE {
        return false;
    }
    let mut counts = [0_u64; 256];
    let mut total = 0_u64;
    for sample in unit.chunks(unit.len() / 4) {
        let sample = &sample[..sample.len().min(SAMPLE)];
        for byte in sample {
            counts[usize::from(*byte)] += 1;
        }
        total += sample.len() as u64;
    }
    // Even bytes meet by chance in total + total * (total - 1) / 256 pairs; a tenth more than that
    // is about 0.1 bits a byte that deflate could save.
    let meetings: u64 = counts.iter().map(|count| count * count).sum();
    let even = total + total * (total - 1) / 256;
    meetings * 10 < even * 11 && !repeats(&unit[..unit.len().min(WINDOW)])
}

/// Returns whether strings of four bytes come again in `bytes` often enough to matter.
fn repeats(bytes: &[u8]) -> bool {
    let mut last_seen = [0_u16; 4096];
    let mut matches = 0;
    for (at, four) in bytes.windows(4).enumerate() {
        let word = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
        let slot = (word.wrapping_mul(0x9E37_79B1) >> 20) as usize;
        let earlier = usize::from(last_seen[slot]);
        matches += usize::from(earlier < at && bytes[earlier..earlier + 4] == *four);
        last_seen[slot] = u16::try_from(at).unwrap_or(u16::MAX);
    }
    matches > bytes.len() / 64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without any pattern, the same at every call.
    fn noise(count: usize) -> Vec<u8> {
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        std::iter::repeat_with(&mut next).take(count).collect()
    }

    #[test]
    fn tells_noise_from_content() {
        let noise = noise(UNIT);
        assert!(looks_compressed(&noise));
        assert!(!looks_compressed(&noise[..4096].repeat(16)), "noise that repeats");
        assert!(!looks_compressed(&vec![0; UNIT]));
        assert!(!looks_compressed(&b"fn main() { println!(\"hello\"); }\n".repeat(2000)));
        assert!(!looks_compressed(&noise[..100]), "too short to tell");
    }

    #[test]
    fn a_run_ends_where_the_kind_changes() {
        let mut bytes = vec![0; 2 * UNIT];
        bytes.extend(noise(UNIT + UNIT / 2));
        assert_eq!(next_run(&bytes, 0), (2 * UNIT, false));
        assert_eq!(next_run(&bytes, 2 * UNIT), (bytes.len(), true));
    }

    #[test]
    fn the_next_block_knows_the_end_of_the_last() {
        let mut first = Block::default();
        assert_eq!(first.fill(&vec![1; 50_000], 40_000), 40_000);
        let mut second = Block::after(&first, vec![9; 10]);
        assert_eq!((second.content().len(), second.bytes.len()), (0, WINDOW));
        second.fill(&[2; 10], 40_000);
        assert_eq!(second.content(), [2; 10]);
    }
}
