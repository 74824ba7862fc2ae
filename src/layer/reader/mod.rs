//! Reading tars from outside: bounded, streaming, and strict.
//!
//! Understands POSIX ustar and PAX, GNU long names, and sparse files in GNU's old and PAX forms.
//! Global PAX headers are skipped, as container engines do. The `tar` crate reads extended headers
//! without a bound and splits their records at newlines inside values, which breaks binary
//! attributes such as `security.capability`; so this room has its own reader.

use std::collections::BTreeMap;
use std::io::Read;

use crate::layer::{Entry, Error, Result};

mod fields;
mod member;

use super::header::{BLOCK, padding};
use fields::Header;
pub use member::Member;

/// The longest path that is accepted: what Linux accepts in one call.
pub(in crate::layer) const MAX_PATH: usize = 4096;
/// The largest extended header: attributes are 64 KiB at most each, and few.
const MAX_EXTENDED: u64 = 1 << 20;
/// The greatest number of pieces of a sparse file.
const MAX_PIECES: usize = 1 << 20;
/// How much is read at once.
const BUFFER: usize = 256 << 10;

/// Reads the members of a tar one after another.
///
/// Between two calls of [`TarReader::next_member`], [`Read`] gives the content of the member, with
/// the holes of sparse files as zeros.
#[derive(Debug)]
pub struct TarReader<R> {
    inner: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// How many bytes were consumed.
    offset: u64,
    /// How many bytes of stored content are left.
    left: u64,
    /// How many bytes of padding follow them.
    padding: u64,
    /// What remains of the current sparse file: its pieces in reverse order, and its place.
    holes: Option<Holes>,
    ended: bool,
}

#[derive(Debug)]
struct Holes {
    pieces: Vec<(u64, u64)>,
    position: u64,
    size: u64,
}

impl<R: Read> TarReader<R> {
    /// Returns a reader of the uncompressed tar `inner`, which is read in large pieces.
    pub fn new(inner: R) -> Self {
        let buffer = vec![0; BUFFER];
        let (start, end, offset, left, padding) = (0, 0, 0, 0, 0);
        Self { inner, buffer, start, end, offset, left, padding, holes: None, ended: false }
    }

    /// Returns the next member, or `None` at the end of the archive. Unread content is skipped.
    ///
    /// # Errors
    ///
    /// [`Error::ReadTar`] when the input fails, [`Error::Truncated`], [`Error::Header`],
    /// [`Error::EntryType`] and [`Error::Limit`] for what cannot be a layer.
    pub fn next_member(&mut self) -> Result<Option<Member>> {
        self.skip()?;
        let mut extended = Extended::default();
        loop {
            let at = self.offset;
            let Some(block) = self.block()? else { return Ok(None) };
            let header = Header::new(&block, at)?;
            let size = header.size()?;
            match header.typeflag() {
                b'x' => extended.records = fields::records(&self.special(size)?, at)?,
                b'L' => extended.path = Some(nul_terminated(self.special(size)?)),
                b'K' => extended.link = Some(nul_terminated(self.special(size)?)),
                b'g' | b'V' => {
                    self.special(size)?;
                }
                _ => return self.member(&header, extended).map(Some),
            }
        }
    }

    /// Reads the input to its end: what follows the archive belongs to the layer's bytes too.
    pub fn drain(&mut self) -> Result<()> {
        (self.ended, self.left, self.padding) = (true, 0, 0);
        (self.start, self.end) = (0, 0);
        while self.refill()? > 0 {
            (self.start, self.end) = (0, 0);
        }
        Ok(())
    }

    /// Returns the next bytes of stored content; none at its end. `consume` takes them.
    pub(in crate::layer) fn fill(&mut self) -> Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        if self.start == self.end && self.refill()? == 0 {
            return Err(Error::Truncated { offset: self.offset, what: "the content of an entry" });
        }
        let available = (self.end - self.start) as u64;
        let length = usize::try_from(available.min(self.left)).unwrap_or(0);
        Ok(&self.buffer[self.start..self.start + length])
    }

    /// Takes `count` of the bytes that `fill` returned.
    pub(in crate::layer) fn consume(&mut self, count: usize) {
        self.start += count;
        self.offset += count as u64;
        self.left -= count as u64;
    }

    fn member(&mut self, header: &Header<'_>, extended: Extended) -> Result<Member> {
        let at = header.offset();
        let (mut member, stored, needs_map) = member::build(header, extended)?;
        (self.left, self.padding) = (stored, padding(stored) as u64);
        if header.typeflag() == b'S' {
            member.pieces = Some(self.old_sparse_map(header)?);
        } else if needs_map {
            member.pieces = Some(self.sparse_map_in_content(at)?);
        }
        if let Some(pieces) = &member.pieces {
            check_pieces(pieces, member.size, self.left, at)?;
            let pieces = pieces.iter().rev().copied().collect();
            self.holes = Some(Holes { pieces, position: 0, size: member.size });
        }
        Ok(member)
    }

    /// Reads the map of GNU tar's old sparse format: four pieces in the header, then blocks of 21.
    fn old_sparse_map(&mut self, header: &Header<'_>) -> Result<Vec<(u64, u64)>> {
        let (left, padding) = (std::mem::take(&mut self.left), std::mem::take(&mut self.padding));
        let mut pieces = Vec::new();
        let mut more = header.sparse_pieces(&mut pieces)?;
        while more {
            let at = self.offset;
            let Some(block) = self.block()? else {
                return Err(Error::Truncated { offset: at, what: "a header" });
            };
            more = fields::sparse_block(&block, at, &mut pieces)?;
            check_count(pieces.len())?;
        }
        (self.left, self.padding) = (left, padding);
        Ok(pieces)
    }

    /// Reads the map of GNU tar's PAX sparse format 1.0: decimal lines in front of the content.
    fn sparse_map_in_content(&mut self, at: u64) -> Result<Vec<(u64, u64)>> {
        let before = self.left;
        let count = self.decimal_line(at)?;
        check_count(usize::try_from(count).unwrap_or(usize::MAX))?;
        let mut pieces = Vec::new();
        for _ in 0..count {
            pieces.push((self.decimal_line(at)?, self.decimal_line(at)?));
        }
        let mut rest = padding(before - self.left);
        while rest > 0 {
            let count = self.fill()?.len().min(rest);
            if count == 0 {
                return Err(Error::Header { offset: at, reason: "its sparse map is cut short" });
            }
            self.consume(count);
            rest -= count;
        }
        Ok(pieces)
    }

    fn decimal_line(&mut self, at: u64) -> Result<u64> {
        let mut digits = Vec::new();
        loop {
            let byte = self.fill()?.first().copied();
            let Some(byte) = byte else { break };
            self.consume(1);
            if byte == b'\n' {
                break;
            }
            digits.push(byte);
            if digits.len() > 20 {
                break;
            }
        }
        fields::decimal(&digits)
            .ok_or(Error::Header { offset: at, reason: "its sparse map is not decimal numbers" })
    }

    /// Reads the whole content of an extended header.
    fn special(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_EXTENDED {
            return Err(Error::Limit { what: "an extended header", limit: MAX_EXTENDED });
        }
        (self.left, self.padding) = (size, padding(size) as u64);
        let mut content = Vec::new();
        loop {
            let bytes = self.fill()?;
            let count = bytes.len();
            if count == 0 {
                break;
            }
            content.extend_from_slice(bytes);
            self.consume(count);
        }
        self.skip()?;
        Ok(content)
    }

    /// Skips the rest of the current member.
    fn skip(&mut self) -> Result<()> {
        self.holes = None;
        loop {
            let count = self.fill()?.len();
            if count == 0 {
                break;
            }
            self.consume(count);
        }
        self.left = std::mem::take(&mut self.padding);
        while self.left > 0 {
            // Padding may be missing at the very end: some writers leave it out.
            if self.start == self.end && self.refill()? == 0 {
                self.left = 0;
                break;
            }
            let count = self.fill()?.len();
            self.consume(count);
        }
        Ok(())
    }

    /// Reads a header block; `None` for the end of the archive.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            if self.start == self.end && self.refill()? == 0 {
                break;
            }
            let count = (self.end - self.start).min(BLOCK - filled);
            block[filled..filled + count]
                .copy_from_slice(&self.buffer[self.start..self.start + count]);
            self.start += count;
            self.offset += count as u64;
            filled += count;
        }
        if filled != 0 && filled != BLOCK {
            return Err(Error::Truncated { offset: self.offset, what: "a header" });
        }
        if filled == 0 || block == [0; BLOCK] {
            self.ended = true;
            return Ok(None);
        }
        Ok(Some(block))
    }

    fn refill(&mut self) -> Result<usize> {
        loop {
            match self.inner.read(&mut self.buffer) {
                Ok(count) => {
                    (self.start, self.end) = (0, count);
                    return Ok(count);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::ReadTar(error)),
            }
        }
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let mut want = out.len() as u64;
        if let Some(holes) = &mut self.holes {
            while holes.pieces.last().is_some_and(|(start, size)| start + size <= holes.position) {
                holes.pieces.pop();
            }
            let (start, size) = holes.pieces.last().copied().unwrap_or((holes.size, 0));
            let is_hole = holes.position < start;
            want = want.min(if is_hole { start } else { start + size } - holes.position);
            if is_hole {
                let count = usize::try_from(want).unwrap_or(0);
                out[..count].fill(0);
                holes.position += want;
                return Ok(count);
            }
        }
        let bytes = self.fill().map_err(std::io::Error::other)?;
        let count = bytes.len().min(usize::try_from(want).unwrap_or(usize::MAX));
        out[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        if let Some(holes) = &mut self.holes {
            holes.position += count as u64;
        }
        Ok(count)
    }
}

/// What extended headers said about the member that follows them.
#[derive(Debug, Default)]
struct Extended {
    records: Vec<(Vec<u8>, Vec<u8>)>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

fn nul_terminated(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn check_count(count: usize) -> Result<()> {
    let limit = MAX_PIECES as u64;
    if count > MAX_PIECES {
        return Err(Error::Limit { what: "the number of pieces of a sparse file", limit });
    }
    Ok(())
}

fn check_pieces(pieces: &[(u64, u64)], size: u64, stored: u64, offset: u64) -> Result<()> {
    let (mut position, mut total) = (0, 0_u64);
    for &(start, length) in pieces {
        let end = start.checked_add(length).filter(|end| start >= position && *end <= size);
        position = end.ok_or(Error::Header { offset, reason: "its sparse map is not in order" })?;
        total += length;
    }
    if total != stored {
        return Err(Error::Header { offset, reason: "its sparse map does not match its size" });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
