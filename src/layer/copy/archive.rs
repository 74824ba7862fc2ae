//! Tars that ADD extracts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use tar::EntryType;

use crate::layer::{Entry, EntryKind, Error, LayerTar, decompress};

use super::destination::{PARENT_MODE, Plan};
use super::files::is_kept;
use super::tree::clean;
use super::{CopyError, CopyRequest};

const BLOCK: usize = 512;

/// A file that is a tar, compressed or not.
pub(super) struct Archive {
    /// Its path in the tree.
    path: PathBuf,
    file: File,
}

impl Archive {
    /// Opens the file if it is a tar by its content: its name does not count (BuildKit's `unpack`).
    pub(super) fn open(
        path: &Path,
        open: impl FnOnce() -> Result<File, CopyError>,
    ) -> Result<Option<Self>, CopyError> {
        let mut file = open()?;
        let mut block = Vec::with_capacity(BLOCK);
        let read = decompress(&file)
            .and_then(|content| content.take(BLOCK as u64).read_to_end(&mut block));
        if read.is_err() || !is_header(&block) {
            return Ok(None);
        }
        let path = path.to_owned();
        match file.rewind() {
            Ok(()) => Ok(Some(Self { path, file })),
            Err(source) => Err(CopyError::Archive { archive: path, source }),
        }
    }

    /// Writes the archive's entries below the directory `target`.
    pub(super) fn write<W: Write>(
        self,
        target: &Path,
        request: &CopyRequest,
        plan: &mut Plan<'_>,
        tar: &mut LayerTar<W>,
    ) -> Result<(), CopyError> {
        let archive = self.path;
        let failed = |source| CopyError::Archive { archive: archive.clone(), source };
        let content = decompress(self.file).map_err(failed)?;
        let mut reader = tar::Archive::new(content);
        for member in reader.entries().map_err(failed)? {
            let mut member = member.map_err(failed)?;
            if member.header().entry_type() == EntryType::XGlobalHeader {
                continue;
            }
            let name = member.path().map_err(failed)?.into_owned();
            let outside = || CopyError::Outside { archive: archive.clone(), entry: name.clone() };
            let below = clean_inside(&name).ok_or_else(outside)?;
            // The destination is there already and keeps its metadata.
            if below.as_os_str().is_empty() {
                continue;
            }
            let Some(path) = place(plan, target, &below)? else { continue };
            let mut entry = read_entry(&mut member, path).map_err(failed)?;
            if let EntryKind::HardLink { target: link } = &mut entry.kind {
                let below = clean_inside(link).ok_or_else(outside)?;
                *link = place(plan, target, &below)?.ok_or_else(outside)?;
                if !plan.has_written(link) {
                    return Err(outside());
                }
            }
            if let Some((uid, gid)) = request.owner {
                (entry.uid, entry.gid) = (uid, gid);
            }
            write_parents(plan, &entry.path, tar)?;
            let is_file = matches!(entry.kind, EntryKind::File { .. });
            let content = is_file.then_some(&mut member as &mut dyn Read);
            tar.append(&entry, content).map_err(|error| match error {
                Error::ShortContent { .. } => failed(io::ErrorKind::UnexpectedEof.into()),
                Error::File { source, .. } => failed(source),
                error => error.into(),
            })?;
            plan.wrote(&entry);
        }
        // Only at its end does a compressed file say whether it was damaged.
        io::copy(&mut reader.into_inner(), &mut io::sink()).map_err(failed)?;
        Ok(())
    }
}

/// Returns whether `block` is a tar header: its checksum is right, and it is not the empty block that
/// ends an archive.
fn is_header(block: &[u8]) -> bool {
    if block.len() < BLOCK || block[0] == 0 {
        return false;
    }
    let header = tar::Header::from_byte_slice(block);
    let is_checksum = |at: usize| (148..156).contains(&at);
    let bytes =
        block.iter().enumerate().map(|(at, byte)| if is_checksum(at) { b' ' } else { *byte });
    let sum: u32 = bytes.map(u32::from).sum();
    header.cksum().is_ok_and(|expected| expected == sum)
}

/// Returns `name` without `.`, `..` and leading slashes, or `None` if it climbs out.
fn clean_inside(name: &Path) -> Option<PathBuf> {
    let mut depth = 0_usize;
    for component in name.components() {
        match component {
            std::path::Component::Normal(_) => depth += 1,
            std::path::Component::ParentDir => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    Some(clean(name))
}

/// Returns where the archive's path `below` goes: links among its parents are followed as if
/// `target` were the root. `None` is the root itself, which a layer does not list.
fn place(plan: &mut Plan<'_>, target: &Path, below: &Path) -> Result<Option<PathBuf>, CopyError> {
    let Some(name) = below.file_name() else {
        return Ok((!target.as_os_str().is_empty()).then(|| target.to_owned()));
    };
    let parent = plan.resolve(target, below.parent().unwrap_or(Path::new("")))?;
    Ok(Some(parent.join(name)))
}

/// Writes the parents of `path` that are not in the tar yet.
fn write_parents<W: Write>(
    plan: &mut Plan<'_>,
    path: &Path,
    tar: &mut LayerTar<W>,
) -> Result<(), CopyError> {
    let parent = path.parent().unwrap_or(Path::new(""));
    if plan.has_written(parent) && plan.kind(parent) == Some(EntryKind::Directory) {
        return Ok(());
    }
    plan.make_directories(parent, PARENT_MODE)?;
    for planned in plan.take().into_values() {
        tar.append(&planned.entry, None)?;
    }
    Ok(())
}

fn read_entry<R: Read>(member: &mut tar::Entry<'_, R>, path: PathBuf) -> io::Result<Entry> {
    let mut xattrs = BTreeMap::new();
    if let Some(records) = member.pax_extensions()? {
        for record in records {
            let record = record?;
            let name = record.key_bytes().strip_prefix(b"SCHILY.xattr.");
            if let Some(name) = name.filter(|name| is_kept(name)) {
                xattrs.insert(name.to_vec(), record.value_bytes().to_vec());
            }
        }
    }
    let link = member.link_name()?.map(std::borrow::Cow::into_owned).unwrap_or_default();
    let header = member.header();
    let major = header.device_major().ok().flatten().unwrap_or_default();
    let minor = header.device_minor().ok().flatten().unwrap_or_default();
    let kind = match header.entry_type() {
        EntryType::Directory => EntryKind::Directory,
        EntryType::Symlink => EntryKind::Symlink { target: link },
        EntryType::Link => EntryKind::HardLink { target: link },
        EntryType::Fifo => EntryKind::Fifo,
        EntryType::Char => EntryKind::CharDevice { major, minor },
        EntryType::Block => EntryKind::BlockDevice { major, minor },
        // Old archives mark a directory by a slash at the end of its name only.
        EntryType::Regular if member.path_bytes().ends_with(b"/") => EntryKind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            EntryKind::File { size: member.size() }
        }
        other => {
            let reason = format!("unsupported tar entry type {:?}", char::from(other.as_byte()));
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
    };
    let id = |id: u64| u32::try_from(id).map_err(|_| io::Error::other("an owner is too large"));
    let old = header.as_old();
    Ok(Entry {
        path,
        kind,
        mode: number(&old.mode, || header.mode())? & 0o7777,
        uid: id(number(&old.uid, || header.uid())?)?,
        gid: id(number(&old.gid, || header.gid())?)?,
        mtime: i64::try_from(number(&old.mtime, || header.mtime())?).unwrap_or_default(),
        xattrs,
    })
}

/// Reads a number of a header. A field that is empty is 0, as for Go's `archive/tar`.
fn number<T: Default>(field: &[u8], read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let is_empty = field.iter().all(|byte| matches!(byte, 0 | b' '));
    if is_empty { Ok(T::default()) } else { read() }
}
