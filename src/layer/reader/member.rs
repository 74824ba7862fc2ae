//! A member of a tar, put together from its header and the extended headers before it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::fields::{self, Header};
use super::{BTreeMap, Entry, Error, Extended, MAX_PATH, Result};
use crate::layer::EntryKind;
use crate::layer::header::XATTR;

/// One member of a tar, as the tar names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name, as it stands in the tar.
    pub path: Vec<u8>,
    /// The target of a link, as it stands in the tar.
    pub link: Vec<u8>,
    /// The type: `0` file, `1` hard link, `2` symbolic link, `3` character device, `4` block device,
    /// `5` directory, `6` fifo.
    pub typeflag: u8,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The size of the content in bytes, holes included.
    pub size: u64,
    /// The time of the last modification in seconds since 1970, rounded down.
    pub mtime: i64,
    /// The numbers of a device.
    pub device: (u32, u32),
    /// Extended attributes by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The places and lengths of a sparse file's stored content.
    pub(in crate::layer) pieces: Option<Vec<(u64, u64)>>,
}

impl Member {
    /// Returns the member as an entry of a layer.
    ///
    /// # Errors
    ///
    /// [`Error::UnsafePath`] for a name or hard link that is absolute or contains `..`: no honest
    /// tool writes them, and what they mean depends on who unpacks.
    pub fn entry(&self) -> Result<Entry> {
        let path = self.clean(&self.path, "its name")?;
        let (major, minor) = self.device;
        let kind = match self.typeflag {
            b'1' => EntryKind::HardLink { target: self.clean(&self.link, "its target")? },
            b'2' => EntryKind::Symlink { target: OsStr::from_bytes(&self.link).into() },
            b'3' => EntryKind::CharDevice { major, minor },
            b'4' => EntryKind::BlockDevice { major, minor },
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            _ => EntryKind::File { size: self.size },
        };
        let (mode, uid, gid, mtime) = (self.mode, self.uid, self.gid, self.mtime);
        let refuse = |reason| Err(Error::UnsafePath { path: self.shown(), reason });
        if path.as_os_str().is_empty() && kind != EntryKind::Directory {
            return refuse("only a directory can be the root");
        }
        if self.typeflag == b'2' && self.link.is_empty() {
            return refuse("it is a symbolic link to nothing");
        }
        Ok(Entry { path, kind, mode, uid, gid, mtime, xattrs: self.xattrs.clone() })
    }

    /// Returns the member with its name relative to the root, however absolute it stands in the tar.
    pub(in crate::layer) fn relative(&self) -> Self {
        let start = self.path.iter().take_while(|byte| **byte == b'/').count();
        Self { path: self.path[start..].to_vec(), ..self.clone() }
    }

    fn shown(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.path))
    }

    fn clean(&self, path: &[u8], what: &'static str) -> Result<PathBuf> {
        let is_target = what == "its target";
        let refuse = |reason| Err(Error::UnsafePath { path: self.shown(), reason });
        // Hard links with an absolute target are common, and mean the image's root.
        if path.starts_with(b"/") && !is_target {
            return refuse("its name is absolute");
        }
        let mut clean = Vec::with_capacity(path.len());
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." if is_target => return refuse("its target contains `..`"),
                b".." => return refuse("its name contains `..`"),
                part if part.contains(&0) => return refuse("it contains a NUL byte"),
                part => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(part);
                }
            }
        }
        Ok(PathBuf::from(OsStr::from_bytes(&clean)))
    }
}

/// Returns the member, the size of its stored content, and whether that starts with a sparse map.
pub(super) fn build(header: &Header<'_>, extended: Extended) -> Result<(Member, u64, bool)> {
    let mut size = header.size()?;
    let path = extended.path.unwrap_or_else(|| header.path());
    let id = |at| {
        let value = u32::try_from(header.number(at, 8)?);
        value.map_err(|_| header.invalid("an id does not fit 32 bits"))
    };
    let mut member = Member {
        typeflag: header.typeflag(),
        link: extended.link.unwrap_or_else(|| header.link()),
        mode: u32::try_from(header.number(100, 8)? & 0o7777).unwrap_or(0),
        uid: id(108)?,
        gid: id(116)?,
        mtime: header.number(136, 12)?,
        size: 0,
        device: (0, 0),
        xattrs: BTreeMap::new(),
        path,
        pieces: None,
    };
    if matches!(member.typeflag, b'3' | b'4') {
        member.device = (id(329)?, id(337)?);
    }
    let mut sparse = Sparse::default();
    for (key, value) in extended.records {
        record(&mut member, &mut size, &mut sparse, &key, value)
            .ok_or_else(|| header.invalid("the value of an extended record is malformed"))?;
    }
    normalise(&mut member)?;
    if !matches!(member.typeflag, b'0' | b'S') {
        // Only files have content; historic writers put a size on hard links without any.
        size = 0;
    }
    member.size = size;
    if member.typeflag == b'S' {
        member.size = header.sparse_size()?;
        member.typeflag = b'0';
    }
    if let Some(real) = sparse.size {
        member.size = real;
    }
    member.path = sparse.name.unwrap_or(member.path);
    if !sparse.map.is_empty() {
        let pairs = sparse.map.chunks_exact(2);
        member.pieces = Some(pairs.map(|pair| (pair[0], pair[1])).collect());
    }
    if member.path.len() > MAX_PATH || member.link.len() > MAX_PATH {
        return Err(Error::Limit { what: "the length of a path", limit: MAX_PATH as u64 });
    }
    Ok((member, size, sparse.map_in_content))
}

#[derive(Default)]
struct Sparse {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    map: Vec<u64>,
    map_in_content: bool,
}

/// Takes one extended record in; `None` when its value is malformed.
fn record(
    member: &mut Member,
    size: &mut u64,
    sparse: &mut Sparse,
    key: &[u8],
    value: Vec<u8>,
) -> Option<()> {
    let id = |value: &[u8]| fields::decimal(value).and_then(|id| u32::try_from(id).ok());
    match key {
        // An empty value takes a record back, to what the header says.
        _ if value.is_empty() && !key.starts_with(XATTR) => {}
        b"path" => member.path = value,
        b"linkpath" => member.link = value,
        b"size" => *size = fields::decimal(&value)?,
        b"uid" => member.uid = id(&value)?,
        b"gid" => member.gid = id(&value)?,
        b"mtime" => member.mtime = fields::seconds(&value)?,
        b"SCHILY.devmajor" => member.device.0 = id(&value)?,
        b"SCHILY.devminor" => member.device.1 = id(&value)?,
        b"GNU.sparse.name" => sparse.name = Some(value),
        b"GNU.sparse.size" | b"GNU.sparse.realsize" => sparse.size = Some(fields::decimal(&value)?),
        b"GNU.sparse.major" => sparse.map_in_content = value == b"1",
        b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => sparse.map.push(fields::decimal(&value)?),
        b"GNU.sparse.map" => {
            for number in value.split(|byte| *byte == b',') {
                sparse.map.push(fields::decimal(number)?);
            }
        }
        key if key.starts_with(XATTR) => {
            member.xattrs.insert(key[XATTR.len()..].to_vec(), value);
        }
        // Access times, comments, character sets and the like do not concern a layer.
        _ => {}
    }
    Some(())
}

/// Turns historic types into today's, and refuses the others.
fn normalise(member: &mut Member) -> Result<()> {
    member.typeflag = match member.typeflag {
        // Before ustar, a directory was a file whose name ends in a slash.
        b'0' | 0 if member.path.ends_with(b"/") => b'5',
        b'0' | 0 | b'7' => b'0',
        b'D' => b'5',
        known @ (b'1'..=b'6' | b'S') => known,
        other => {
            let (path, typeflag) = (member.shown(), char::from(other));
            return Err(Error::EntryType { path, typeflag });
        }
    };
    Ok(())
}
