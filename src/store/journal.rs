//! Lines about what was done elsewhere, kept for the next time. What is in them is the business of
//! `operations`.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use fs_err as fs;

use crate::image::Digest;

use super::write::Durability;
use super::{Result, Store};

/// Most of a journal that is read: a hundred thousand tags have about 30 MB.
const MAX_JOURNAL_BYTES: u64 = 64 << 20;

/// A file of lines to which any process may add.
#[derive(Debug)]
pub struct Journal {
    store: Store,
    path: PathBuf,
}

impl Store {
    /// Returns the journal of mirrors that `key` stands for.
    #[must_use]
    pub fn mirror_journal(&self, key: &Digest) -> Journal {
        let path = self.root().join("mirror").join(key.hex());
        Journal { store: self.clone(), path }
    }
}

impl Journal {
    /// Returns what is in it. The last line may be of a process that was killed while it wrote.
    pub fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match fs::File::open(&self.path) {
            Ok(file) => file.take(MAX_JOURNAL_BYTES).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error.into()),
        };
        Ok(bytes)
    }

    /// Adds a line, in one write. It begins with a line break as well, so that nothing is joined to
    /// half a line.
    pub fn append(&self, line: &[u8]) -> Result<()> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut file = fs::OpenOptions::new().append(true).create(true).open(&self.path)?;
        Ok(file.write_all(&[b"\n", line, b"\n"].concat())?)
    }

    /// Replaces all of it. A line that another process adds meanwhile may be lost.
    pub fn replace(&self, bytes: &[u8]) -> Result<()> {
        self.store.replace(&self.path, bytes, Durability::Unsynced)
    }
}
