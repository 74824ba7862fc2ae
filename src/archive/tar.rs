//! A layout in a tar.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use tar::{Builder, EntryType, Header};

use super::bundle::{LAYOUT, blob_path, index_json};
use super::{Bundle, Error, Result};
use crate::store::Store;

/// How much is written at once.
const BUFFER: usize = 256 << 10;

/// Writes `bundle` as a tar to `out`, which need not be seekable, with the blobs of `store`. Blocks.
///
/// The small files come last, when every blob that they name is there.
///
/// # Errors
///
/// [`Error::Write`] when `out` fails, [`Error::Store`] when a blob is missing or damaged.
pub fn write_tar(store: &Store, bundle: &Bundle, out: impl Write) -> Result<()> {
    let out = io::BufWriter::with_capacity(BUFFER, out);
    let mut archive = Archive { builder: Builder::new(out), time: bundle.time };
    let algorithms: BTreeSet<_> = bundle.blobs.keys().map(|d| d.algorithm().name()).collect();
    archive.directory("blobs/")?;
    for algorithm in algorithms {
        archive.directory(&format!("blobs/{algorithm}/"))?;
    }
    for (digest, size) in &bundle.blobs {
        let blob = store.open_blob(digest)?;
        archive.file(&blob_path(digest), *size, blob)?;
    }
    archive.small_file("index.json", &index_json(bundle.entries()))?;
    if let Some(manifest) = bundle.docker_manifest() {
        archive.small_file("manifest.json", &manifest)?;
    }
    archive.small_file("oci-layout", LAYOUT)?;
    let out = archive.builder.into_inner().map_err(Error::Write)?;
    let mut out = out.into_inner().map_err(|error| Error::Write(error.into_error()))?;
    out.flush().map_err(Error::Write)
}

struct Archive<W: Write> {
    builder: Builder<W>,
    time: i64,
}

impl<W: Write> Archive<W> {
    fn directory(&mut self, path: &str) -> Result<()> {
        self.entry(path, EntryType::Directory, 0o755, 0, io::empty())
    }

    fn small_file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.file(path, bytes.len() as u64, bytes)
    }

    fn file(&mut self, path: &str, size: u64, content: impl Read) -> Result<()> {
        self.entry(path, EntryType::Regular, 0o644, size, content)
    }

    fn entry(
        &mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        size: u64,
        content: impl Read,
    ) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(self.time).unwrap_or_default());
        header.set_size(size);
        self.builder.append_data(&mut header, path, content).map_err(Error::Write)
    }
}
