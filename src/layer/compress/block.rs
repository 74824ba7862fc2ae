//! One block of a layer, compressed apart from the others.

use std::io;

use libdeflater::{CompressionLvl, Compressor};

use super::Compression;

/// The unit in which a block is looked at for whether deflating it is worth the time.
const UNIT: usize = 64 * 1024;

/// How far a unit is searched for strings that repeat.
const SEARCHED: usize = 32 * 1024;

/// What compresses one block after another.
pub(super) enum BlockCompressor {
    Gzip(Box<Compressor>),
    /// gzip without deflating.
    Stored,
    Zstd(zstd::bulk::Compressor<'static>),
    None,
}

impl BlockCompressor {
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::Gzip(0) => Self::Stored,
            Compression::Gzip(level) => {
                let level = i32::try_from(level.min(9)).unwrap_or(9);
                let level = CompressionLvl::new(level).expect("1 to 9 are levels");
                Self::Gzip(Box::new(Compressor::new(level)))
            }
            Compression::Zstd(level) => Self::Zstd(zstd::bulk::Compressor::new(level)?),
            Compression::None => Self::None,
        })
    }

    /// Fills the empty `out` with `block` compressed: whole gzip members, or one zstd frame.
    pub(super) fn compress(&mut self, block: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Gzip(compressor) => compress_members(compressor, block, out)?,
            Self::Stored => store_member(block, out),
            Self::Zstd(compressor) => {
                // Writes from the buffer's start, which is right as every block has its own.
                out.reserve(zstd::zstd_safe::compress_bound(block.len()));
                compressor.compress_to_buffer(block, out)?;
            }
            Self::None => out.extend_from_slice(block),
        }
        Ok(())
    }
}

/// Makes a member of each run of `block`: deflated where that gains something, else stored.
fn compress_members(
    compressor: &mut Compressor,
    block: &[u8],
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let mut at = 0;
    loop {
        let (end, compressed) = next_run(block, at);
        let run = &block[at..end];
        if compressed {
            store_member(run, out);
        } else {
            let before = out.len();
            out.resize(before + compressor.gzip_compress_bound(run.len()), 0);
            let written =
                compressor.gzip_compress(run, &mut out[before..]).map_err(io::Error::other)?;
            out.truncate(before + written);
        }
        at = end;
        // An empty block is a member, too: a layer has at least one.
        if at >= block.len() {
            return Ok(());
        }
    }
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

/// Appends `run` as a member of stored blocks (RFC 1952, section 2.3; RFC 1951, section 3.2.4).
fn store_member(run: &[u8], out: &mut Vec<u8>) {
    out.reserve(run.len() + (run.len() / usize::from(u16::MAX) + 1) * 5 + 32);
    // deflate, no flags, no time, unknown operating system.
    out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    for chunk in run.chunks(usize::from(u16::MAX)) {
        let length = u16::try_from(chunk.len()).unwrap_or(u16::MAX);
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(chunk);
    }
    // The last block: final, fixed codes, empty.
    out.extend_from_slice(&[0x03, 0x00]);
    out.extend_from_slice(&crc32fast::hash(run).to_le_bytes());
    let size = u32::try_from(run.len()).expect("a block is small");
    out.extend_from_slice(&size.to_le_bytes());
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
    meetings * 10 < even * 11 && !repeats(&unit[..unit.len().min(SEARCHED)])
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
}
