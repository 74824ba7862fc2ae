//! From header to header.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::archive::error::Fault;

use super::header::{BLOCK, padded};

/// Most of a long name or of pax records that is read: paths have at most 4 KiB.
const MAX_EXTENSION: u64 = 64 << 10;

/// Walks over the headers of a tar. It never reads the data of members.
#[derive(Debug)]
pub(in crate::archive) struct Walk<'a> {
    file: &'a File,
    length: u64,
    at: u64,
}

/// What comes next in a tar.
#[derive(Debug)]
pub(in crate::archive) enum Step {
    Member(Member),
    /// Two blocks of zeros, at this byte: the end for other readers. The walk may go on behind.
    End(u64),
    /// The file is over.
    Eof,
}

/// A member of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::archive) struct Member {
    pub(in crate::archive) path: String,
    /// Where its headers begin.
    pub(in crate::archive) start: u64,
    /// Where its data begins.
    pub(in crate::archive) data: u64,
    /// The size of its data.
    pub(in crate::archive) size: u64,
    /// Where a link leads; `None` for a file.
    pub(in crate::archive) link: Option<String>,
    /// Whether it is a file or a link to one.
    pub(in crate::archive) is_file: bool,
}

/// What came in headers of their own before a member's.
#[derive(Default)]
struct Extensions {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
    is_sparse: bool,
}

impl<'a> Walk<'a> {
    /// Returns a walk that begins at byte `at` of a file with `length` bytes.
    pub(in crate::archive) fn new(file: &'a File, length: u64, at: u64) -> Self {
        Self { file, length, at }
    }

    pub(in crate::archive) fn step(&mut self) -> Result<Step, Fault> {
        let start = self.at;
        let mut extensions = Extensions::default();
        loop {
            let Some(block) = self.block(self.at)? else { return self.over(start) };
            if is_zero(&block) {
                return self.zeros(start);
            }
            let at = self.at;
            check_sum(&block).ok_or(Fault::Damaged { at, what: "a tar header is wrong" })?;
            let own = number(&block[124..136]);
            let own = own.ok_or(Fault::Damaged { at, what: "a tar member has no valid size" })?;
            let kind = block[156];
            let is_extension = matches!(kind, b'x' | b'g' | b'L' | b'K');
            // Links and directories have no data, whatever their headers say.
            let size = match kind {
                b'1'..=b'6' => 0,
                _ if is_extension => own,
                _ => extensions.size.unwrap_or(own),
            };
            let data = self.at + BLOCK;
            let end = data.checked_add(size).filter(|end| *end <= self.length);
            let end = end.ok_or(Fault::Cut(self.length))?;
            self.at = padded(end);
            if is_extension {
                self.extend(&mut extensions, kind, data, size)?;
                continue;
            }
            if kind == b'S' || extensions.is_sparse {
                return Err(Fault::Damaged { at, what: "sparse tar members are not supported" });
            }
            let path = extensions.path.take().unwrap_or_else(|| own_path(&block));
            let link = matches!(kind, b'1' | b'2')
                .then(|| extensions.link.take().unwrap_or_else(|| text(&block[157..257])))
                // A symbolic link is relative to where it is, a hard link to the top.
                .map(|link| if kind == b'2' { beside(&path, &link) } else { normal(&link) });
            let is_file = matches!(kind, 0 | b'0' | b'7') || link.is_some();
            let path = normal(&path);
            return Ok(Step::Member(Member { path, start, data, size, link, is_file }));
        }
    }

    fn extend(
        &self,
        extensions: &mut Extensions,
        kind: u8,
        data: u64,
        size: u64,
    ) -> Result<(), Fault> {
        if kind == b'g' {
            return Ok(());
        }
        if size > MAX_EXTENSION {
            let what = "a tar member's name is larger than 64 KiB";
            return Err(Fault::Damaged { at: data, what });
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, data)?;
        match kind {
            b'L' => extensions.path = Some(text(&bytes)),
            b'K' => extensions.link = Some(text(&bytes)),
            _ => pax(extensions, &bytes)
                .ok_or(Fault::Damaged { at: data, what: "pax records cannot be read" })?,
        }
        Ok(())
    }

    /// Returns the block at `at`; `None` at the end of the file.
    fn block(&self, at: u64) -> Result<Option<[u8; 512]>, Fault> {
        let mut block = [0; 512];
        match self.length.saturating_sub(at) {
            0 => Ok(None),
            left if left < BLOCK => Err(Fault::Cut(self.length)),
            _ => {
                self.file.read_exact_at(&mut block, at)?;
                Ok(Some(block))
            }
        }
    }

    fn over(&self, start: u64) -> Result<Step, Fault> {
        // A long name whose member is missing.
        if self.at == start { Ok(Step::Eof) } else { Err(Fault::Cut(self.length)) }
    }

    fn zeros(&mut self, start: u64) -> Result<Step, Fault> {
        let at = self.at;
        if at != start || self.block(at + BLOCK)?.is_some_and(|block| !is_zero(&block)) {
            return Err(Fault::Damaged { at, what: "a block of zeros is in the way" });
        }
        self.at = (at + 2 * BLOCK).min(self.length);
        Ok(Step::End(at))
    }
}

/// Fills `buffer` from byte `at` on.
pub(in crate::archive) fn read_exact_at(
    file: &File,
    at: u64,
    length: usize,
) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

fn is_zero(block: &[u8; 512]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

fn check_sum(block: &[u8; 512]) -> Option<()> {
    let bytes = block.iter().enumerate();
    let sum: u64 =
        bytes.map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) }).sum();
    (number(&block[148..156]) == Some(sum)).then_some(())
}

/// Reads a number: octal digits, or base 256 when the first bit says so (tar(5), "Numeric Extensions").
/// Negative and too large ones are none.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let first = field[0] & 0x7f;
        let (high, low) = field[1..].split_at(field.len().saturating_sub(9));
        let is_small = first == 0 && high.iter().all(|byte| *byte == 0);
        return is_small.then(|| low.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    }
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let digits = field[..end].trim_ascii();
    digits.iter().try_fold(0u64, |sum, byte| match byte {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

fn own_path(block: &[u8; 512]) -> String {
    let name = text(&block[..100]);
    let prefix =
        if &block[257..263] == b"ustar\0" { text(&block[345..500]) } else { String::new() };
    if prefix.is_empty() { name } else { format!("{prefix}/{name}") }
}

/// Reads records of the form `length key=value\n`.
fn pax(extensions: &mut Extensions, mut bytes: &[u8]) -> Option<()> {
    while bytes.first().is_some_and(|byte| *byte != 0) {
        let space = bytes.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
        let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
        bytes = &bytes[length..];
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => extensions.path = Some(text(value)),
            b"linkpath" => extensions.link = Some(text(value)),
            b"size" => extensions.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
            key => extensions.is_sparse |= key.starts_with(b"GNU.sparse."),
        }
    }
    Some(())
}

/// Returns `path` without `.` and `..`, which stop at the top.
fn normal(path: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in path.split('/') {
        match word {
            "" | "." => {}
            ".." => drop(words.pop()),
            word => words.push(word),
        }
    }
    words.join("/")
}

/// Returns where a symbolic link at `path` leads.
fn beside(path: &str, link: &str) -> String {
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    if link.starts_with('/') { normal(link) } else { normal(&format!("{directory}/{link}")) }
}
