//! The 512-byte header of POSIX tar, and PAX extended header records: the writing half.
//!
//! POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header". Only what the fields
//! cannot hold goes into extended records, sorted by key, so that equal entries give equal bytes.

use std::collections::BTreeMap;

/// The size of a header, and what content is padded to.
pub(super) const BLOCK: usize = 512;
/// The prefix of records that hold extended attributes, as GNU tar, star and Go write them.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// What a header says, before it is split into fields and extended records.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) path: &'a [u8],
    pub(super) link: &'a [u8],
    pub(super) typeflag: u8,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) device: Option<(u32, u32)>,
}

/// Appends the header of `fields` to `out`, after an extended header if one is needed.
pub(super) fn write(out: &mut Vec<u8>, fields: &Fields<'_>, xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (name, value) in xattrs {
        records.insert([XATTR, name].concat(), value.clone());
    }
    let mut block = [0; BLOCK];
    put_path(&mut block, fields.path, &mut records);
    if fields.link.len() > 100 {
        records.insert(b"linkpath".to_vec(), fields.link.to_vec());
    }
    put(&mut block[157..257], fields.link);
    let mut number = |range: std::ops::Range<usize>, key: &str, value: i64| {
        let digits = range.len() - 1;
        if u64::try_from(value).is_ok_and(|value| value >> (3 * digits) == 0) {
            let text = format!("{value:0digits$o}");
            block[range.start..range.end - 1].copy_from_slice(text.as_bytes());
        } else {
            records.insert(key.into(), value.to_string().into_bytes());
            block[range.start..range.end - 1].fill(b'0');
        }
    };
    number(100..108, "mode", i64::from(fields.mode));
    number(108..116, "uid", i64::from(fields.uid));
    number(116..124, "gid", i64::from(fields.gid));
    number(124..136, "size", i64::try_from(fields.size).unwrap_or(i64::MAX));
    number(136..148, "mtime", fields.mtime);
    let (major, minor) = fields.device.unwrap_or_default();
    number(329..337, "SCHILY.devmajor", i64::from(major));
    number(337..345, "SCHILY.devminor", i64::from(minor));
    seal(&mut block, fields.typeflag);
    if !records.is_empty() {
        write_records(out, &records);
    }
    out.extend_from_slice(&block);
}

/// Fills the name fields, or adds a record when the path fits no split at a `/`.
fn put_path(block: &mut [u8; BLOCK], path: &[u8], records: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    if path.len() <= 100 {
        return put(&mut block[..100], path);
    }
    // A trailing slash belongs to the name; the prefix takes as much as it can hold.
    let last = (path.len() - 1).min(156);
    let split = path[..last].iter().rposition(|byte| *byte == b'/');
    match split {
        Some(at) if at > 0 && path.len() - at - 1 <= 100 => {
            put(&mut block[345..500], &path[..at]);
            put(&mut block[..100], &path[at + 1..]);
        }
        _ => {
            records.insert(b"path".to_vec(), path.to_vec());
            put(&mut block[..100], path);
        }
    }
}

/// Appends an extended header that holds `records`.
fn write_records(out: &mut Vec<u8>, records: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut content = Vec::new();
    for (key, value) in records {
        content.extend_from_slice(record_length(key.len() + value.len() + 3).as_bytes());
        content.push(b' ');
        content.extend_from_slice(key);
        content.push(b'=');
        content.extend_from_slice(value);
        content.push(b'\n');
    }
    let mut block = [0; BLOCK];
    put(&mut block[..100], b"PaxHeaders.0/entry");
    put(&mut block[100..107], b"0000644");
    put(&mut block[108..115], b"0000000");
    put(&mut block[116..123], b"0000000");
    put(&mut block[124..135], format!("{:011o}", content.len()).as_bytes());
    put(&mut block[136..147], b"00000000000");
    seal(&mut block, b'x');
    out.extend_from_slice(&block);
    out.extend_from_slice(&content);
    out.resize(out.len() + padding(content.len() as u64), 0);
}

/// Returns the decimal length of a record, which counts its own digits.
fn record_length(rest: usize) -> String {
    let mut length = rest + rest.to_string().len();
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    length.to_string()
}

/// Returns how many bytes fill the last block of content of `size` bytes.
pub(super) fn padding(size: u64) -> usize {
    let block = BLOCK as u64;
    usize::try_from((block - size % block) % block).unwrap_or(0)
}

fn put(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

/// Fills type, magic and checksum.
fn seal(block: &mut [u8; BLOCK], typeflag: u8) {
    block[156] = typeflag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
