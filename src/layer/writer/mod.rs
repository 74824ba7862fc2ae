//! Writing a layer's tar in canonical form.

use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::layer::header::{self, BLOCK, Fields};
use crate::layer::index::{KEPT_FILES, MAX_KEPT};
use crate::layer::{Entry, EntryKind, Error, IndexBuilder, PathIndex, Result};

/// What deletes a path of the layers below when put before its name (OCI image-spec, layer.md,
/// "Whiteouts").
pub(in crate::layer) const WHITEOUT: &[u8] = b".wh.";
/// The name that makes its directory opaque (OCI image-spec, layer.md, "Opaque Whiteout").
pub(in crate::layer) const OPAQUE: &[u8] = b".wh..wh..opq";
/// How much is collected before it is written: large enough that calls do not matter.
const BUFFER: usize = 256 << 10;

/// Writes a layer's tar in rpub's canonical form, and records its [`PathIndex`] while doing so.
///
/// Equal entries in equal order give equal bytes: ids are numeric only, times are whole seconds, and
/// extended headers hold, sorted, just what does not fit into the header. The caller gives entries
/// in the order they shall have: parents first, siblings sorted bytewise.
#[derive(Debug)]
pub struct LayerTar<W: Write> {
    out: W,
    buffer: Vec<u8>,
    index: IndexBuilder,
    latest_mtime: Option<i64>,
}

impl<W: Write> LayerTar<W> {
    /// Returns a writer of a tar to `out`, which is written to in large pieces.
    pub fn new(out: W) -> Self {
        let (buffer, index) = (Vec::with_capacity(BUFFER + BLOCK), IndexBuilder::default());
        Self { out, buffer, index, latest_mtime: None }
    }

    /// Clamps modification times: none in the tar is later than `latest`, in seconds since 1970.
    #[must_use]
    pub fn with_latest_mtime(self, latest: Option<i64>) -> Self {
        Self { latest_mtime: latest, ..self }
    }

    /// Appends `entry`; a file's bytes come from `content`, exactly as many as the entry says.
    ///
    /// # Errors
    ///
    /// [`Error::ShortContent`] when `content` ends early, [`Error::Unstorable`] for names that mean
    /// something else in a layer, [`Error::WriteTar`] when the output fails.
    pub fn append(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<()> {
        let mtime = entry.mtime.min(self.latest_mtime.unwrap_or(i64::MAX));
        let entry = Entry { mtime, ..entry.clone() };
        check(&entry)?;
        let mut path = entry.path.as_os_str().as_bytes().to_vec();
        if path.is_empty() {
            path.push(b'.');
        }
        if entry.is_directory() {
            path.push(b'/');
        }
        let mut fields = Fields {
            path: &path,
            mode: entry.mode & 0o7777,
            uid: entry.uid,
            gid: entry.gid,
            mtime,
            ..Fields::default()
        };
        let is_link = matches!(entry.kind, EntryKind::HardLink { .. });
        match &entry.kind {
            EntryKind::Directory => fields.typeflag = b'5',
            EntryKind::File { size } => (fields.typeflag, fields.size) = (b'0', *size),
            EntryKind::Symlink { target } => {
                (fields.typeflag, fields.link) = (b'2', target.as_os_str().as_bytes());
            }
            EntryKind::HardLink { target } => {
                (fields.typeflag, fields.link) = (b'1', target.as_os_str().as_bytes());
            }
            EntryKind::Fifo => fields.typeflag = b'6',
            EntryKind::CharDevice { major, minor } => {
                (fields.typeflag, fields.device) = (b'3', Some((*major, *minor)));
            }
            EntryKind::BlockDevice { major, minor } => {
                (fields.typeflag, fields.device) = (b'4', Some((*major, *minor)));
            }
        }
        // Attributes belong to the file, not to its names: the first name carries them.
        let none = std::collections::BTreeMap::new();
        header::write(&mut self.buffer, &fields, if is_link { &none } else { &entry.xattrs });
        let kept = match entry.kind {
            EntryKind::File { size } => self.copy(&entry.path, size, content)?,
            _ => None,
        };
        self.index.insert(entry, kept);
        self.drain(BUFFER)
    }

    /// Appends the record that `path` is deleted from the layers below.
    pub fn whiteout(&mut self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let name = [WHITEOUT, name].concat();
        self.marker(&with_name(path.parent().unwrap_or(Path::new("")), &name))?;
        self.index.whiteout(path);
        Ok(())
    }

    /// Appends the record that `directory` hides its content in the layers below.
    pub fn opaque(&mut self, directory: &Path) -> Result<()> {
        self.marker(&with_name(directory, OPAQUE))?;
        self.index.opaque(directory);
        Ok(())
    }

    /// Returns whether nothing was appended yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Writes the end of the archive; returns the output and the index of what was written.
    pub fn finish(mut self) -> Result<(W, PathIndex)> {
        self.buffer.resize(self.buffer.len() + 2 * BLOCK, 0);
        self.drain(0)?;
        self.out.flush().map_err(Error::WriteTar)?;
        Ok((self.out, self.index.finish()?))
    }

    fn marker(&mut self, path: &Path) -> Result<()> {
        let path = path.as_os_str().as_bytes();
        let fields = Fields { path, typeflag: b'0', ..Fields::default() };
        header::write(&mut self.buffer, &fields, &std::collections::BTreeMap::new());
        self.drain(BUFFER)
    }

    /// Copies `size` bytes of content through the buffer; returns them if the index keeps them.
    fn copy(
        &mut self,
        path: &Path,
        size: u64,
        content: Option<&mut dyn Read>,
    ) -> Result<Option<Vec<u8>>> {
        let keep = size <= MAX_KEPT && KEPT_FILES.iter().any(|kept| path == Path::new(kept));
        let mut kept = Vec::new();
        let mut empty = std::io::empty();
        let content = content.unwrap_or(&mut empty);
        let mut left = size;
        while left > 0 {
            if self.buffer.len() >= BUFFER {
                self.drain(0)?;
            }
            let start = self.buffer.len();
            let want = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER - start);
            self.buffer.resize(start + want, 0);
            let count = match content.read(&mut self.buffer[start..]) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                    self.buffer.truncate(start);
                    continue;
                }
                Err(source) => {
                    return Err(Error::File { action: "read", path: path.to_owned(), source });
                }
            };
            self.buffer.truncate(start + count);
            if count == 0 {
                let (path, actual) = (path.to_owned(), size - left);
                return Err(Error::ShortContent { path, expected: size, actual });
            }
            if keep {
                kept.extend_from_slice(&self.buffer[start..]);
            }
            left -= count as u64;
        }
        self.buffer.resize(self.buffer.len() + header::padding(size), 0);
        Ok(keep.then_some(kept))
    }

    /// Writes the buffer out when it holds at least `threshold` bytes.
    fn drain(&mut self, threshold: usize) -> Result<()> {
        if self.buffer.len() >= threshold {
            self.out.write_all(&self.buffer).map_err(Error::WriteTar)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

fn with_name(directory: &Path, name: &[u8]) -> PathBuf {
    directory.join(std::ffi::OsStr::from_bytes(name))
}

/// Refuses what a reader would take for something else.
fn check(entry: &Entry) -> Result<()> {
    let refuse = |reason| Err(Error::Unstorable { path: entry.path.clone(), reason });
    let bytes = entry.path.as_os_str().as_bytes();
    if bytes.len() > crate::layer::reader::MAX_PATH {
        return refuse("its path is longer than 4096 bytes");
    }
    let parts = || bytes.split(|byte| *byte == b'/');
    if !bytes.is_empty() && parts().any(|part| matches!(part, b"" | b"." | b"..")) {
        return refuse("its path is not relative to the root");
    }
    if parts().any(|part| part.starts_with(WHITEOUT)) {
        return refuse("names that start with `.wh.` mean deletions in layers");
    }
    if bytes.is_empty() && !entry.is_directory() {
        return refuse("the root is a directory");
    }
    if entry.xattrs.keys().any(|name| name.contains(&b'=') || name.contains(&0)) {
        return refuse("an extended attribute's name contains `=`");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
