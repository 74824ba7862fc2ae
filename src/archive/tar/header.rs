//! The blocks in front of a member's data.

use tar::{EntryType, Header};

/// The unit of a tar.
pub(in crate::archive) const BLOCK: u64 = 512;
const BLOCK_LENGTH: usize = 512;

/// What a written member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::archive) enum Kind {
    File,
    Directory,
}

/// Returns `size` rounded up to whole blocks; the largest number when it overflows.
pub(in crate::archive) fn padded(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

/// Returns the header of a member, one block, or three when the path needs a pax record.
pub(in crate::archive) fn header(path: &str, kind: Kind, size: u64, time: u64) -> Vec<u8> {
    let (entry_type, mode) = match kind {
        Kind::File => (EntryType::Regular, 0o644),
        Kind::Directory => (EntryType::Directory, 0o755),
    };
    let mut bytes = Vec::with_capacity(BLOCK_LENGTH);
    let mut name = path.as_bytes();
    if name.len() > 100 {
        let record = pax_record("path", path);
        bytes.extend(plain(b"rpub.pax", EntryType::XHeader, 0o644, record.len() as u64, time));
        bytes.extend(record.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(BLOCK_LENGTH), 0);
        name = &name[..100];
    }
    bytes.extend(plain(name, entry_type, mode, size, time));
    bytes
}

/// Returns what takes the place of the two zero blocks that ended a tar, when more has come after
/// them: a pax global header that says nothing. It is as long as they were, and becomes no file.
pub(in crate::archive) fn filler() -> Vec<u8> {
    let mut bytes = plain(b"rpub.filler", EntryType::XGlobalHeader, 0o644, BLOCK, 0);
    // The record's length, three digits, counts itself, the key and the line feed.
    let value = " ".repeat(BLOCK_LENGTH - "512 comment=\n".len());
    bytes.extend(format!("512 comment={value}\n").as_bytes());
    bytes
}

fn plain(name: &[u8], kind: EntryType, mode: u32, size: u64, time: u64) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(time);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// Returns `length key=value\n`, whose length counts itself.
fn pax_record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}
