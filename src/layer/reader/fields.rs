//! The fields of a header block, and the records of an extended header: the reading half.
//!
//! POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic
//! Tar Format", for base-256 numbers and sparse files.

use super::{BLOCK, Error, Result, check_count};

/// A header block whose checksum was verified.
#[derive(Debug)]
pub(super) struct Header<'a> {
    block: &'a [u8; BLOCK],
    offset: u64,
}

impl<'a> Header<'a> {
    pub(super) fn new(block: &'a [u8; BLOCK], offset: u64) -> Result<Self> {
        let header = Self { block, offset };
        let stored = header.number(148, 8)?;
        let field = |at: usize| (148..156).contains(&at);
        let bytes = || block.iter().enumerate().map(|(at, b)| if field(at) { b' ' } else { *b });
        let unsigned: i64 = bytes().map(i64::from).sum();
        // Some historic writers summed signed bytes.
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        if stored != unsigned && stored != signed {
            return Err(header.invalid("its checksum does not match, or this is not a tar"));
        }
        Ok(header)
    }

    pub(super) fn invalid(&self, reason: &'static str) -> Error {
        Error::Header { offset: self.offset, reason }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn typeflag(&self) -> u8 {
        self.block[156]
    }

    pub(super) fn size(&self) -> Result<u64> {
        u64::try_from(self.number(124, 12)?).map_err(|_| self.invalid("its size is negative"))
    }

    /// Returns the name, with the prefix in formats that have one.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.block[..100]);
        let prefix = match &self.block[257..263] {
            // star keeps times behind a shorter prefix and says so at the end of the block.
            b"ustar\0" if &self.block[508..] == b"tar\0" => text(&self.block[345..476]),
            b"ustar\0" => text(&self.block[345..500]),
            _ => &[],
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, name].join(&b'/') }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.block[157..257]).to_vec()
    }

    /// Returns the number in the field at `start`: octal digits, or base-256 if the top bit is set.
    pub(super) fn number(&self, start: usize, length: usize) -> Result<i64> {
        number(&self.block[start..start + length])
            .ok_or_else(|| self.invalid("a field is not a number"))
    }

    /// Appends the pieces of a sparse file that the header itself holds; returns whether there are more.
    pub(super) fn sparse_pieces(&self, pieces: &mut Vec<(u64, u64)>) -> Result<bool> {
        append_pieces(&self.block[386..482], self.offset, pieces)?;
        Ok(self.block[482] != 0)
    }

    pub(super) fn sparse_size(&self) -> Result<u64> {
        u64::try_from(self.number(483, 12)?).map_err(|_| self.invalid("its size is negative"))
    }
}

/// Appends the pieces of a continuation block; returns whether there are more.
pub(super) fn sparse_block(
    block: &[u8; BLOCK],
    offset: u64,
    pieces: &mut Vec<(u64, u64)>,
) -> Result<bool> {
    append_pieces(&block[..504], offset, pieces)?;
    Ok(block[504] != 0)
}

fn append_pieces(field: &[u8], offset: u64, pieces: &mut Vec<(u64, u64)>) -> Result<()> {
    for pair in field.chunks_exact(24) {
        if pair[0] == 0 || pair[12] == 0 {
            break;
        }
        let parse = |field| number(field).and_then(|number| u64::try_from(number).ok());
        let (Some(start), Some(length)) = (parse(&pair[..12]), parse(&pair[12..])) else {
            return Err(Error::Header { offset, reason: "its sparse map is not numbers" });
        };
        pieces.push((start, length));
    }
    check_count(pieces.len())
}

fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Base-256, two's complement; 0xff starts a negative number.
        let negative = first & 0x40 != 0;
        let start = if negative { -1_i128 } else { 0 } << 6 | i128::from(first & 0x3f);
        let value = rest.iter().try_fold(start, |value, byte| {
            let value = value << 8 | i128::from(*byte);
            i64::try_from(value).is_ok().then_some(value)
        })?;
        return i64::try_from(value).ok();
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let digits = &digits[..digits.iter().position(is_blank).unwrap_or(digits.len())];
    digits.iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

/// Returns the unsigned decimal number that `digits` are.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns the seconds of a time such as `-1.5`, rounded down.
pub(super) fn seconds(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let below = whole.starts_with('-') && fraction.bytes().any(|byte| byte != b'0');
    seconds.checked_sub(i64::from(below))
}

/// Returns the records of an extended header, `length key=value\n` each, in their order.
pub(super) fn records(mut content: &[u8], offset: u64) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while !content.is_empty() && content[0] != 0 {
        let invalid = || Error::Header { offset, reason: "an extended record is malformed" };
        let space = content.iter().take(20).position(|byte| *byte == b' ').ok_or_else(invalid)?;
        let length = decimal(&content[..space])
            .and_then(|length| usize::try_from(length).ok())
            .filter(|length| (space + 2..=content.len()).contains(length))
            .ok_or_else(invalid)?;
        let (record, rest) = content.split_at(length);
        let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(invalid)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(invalid)?;
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        content = rest;
    }
    Ok(records)
}

fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}
