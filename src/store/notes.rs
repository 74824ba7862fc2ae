//! Small files about transfers: where a push goes on that was killed, what registries are like.
//! What is in them is the business of `operations`.

use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;

use crate::image::Digest;

use super::write::Durability;
use super::{Result, Store, lock};

/// Most of a note that is read: a location has a few hundred bytes.
const MAX_NOTE_BYTES: u64 = 64 << 10;
/// Most of what is known about registries: a hundred bytes each.
const MAX_REGISTRIES_BYTES: u64 = 4 << 20;
const REGISTRIES_FILE: &str = "registries.json";

/// The note on one upload. While it lives, no other process has it.
#[derive(Debug)]
pub struct PushNote {
    file: fs::File,
}

impl PushNote {
    /// Returns the note; empty when there is none.
    pub fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(MAX_NOTE_BYTES).unwrap_or(usize::MAX)];
        let count = self.file.file().read_at(&mut bytes, 0)?;
        bytes.truncate(count);
        // What follows the line is of an earlier, longer one.
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
        bytes.truncate(end);
        Ok(bytes)
    }

    /// Replaces the note by a line. In place, because the lock is on the file: the line comes in one
    /// write, which a kill does not divide.
    pub fn write(&self, line: &[u8]) -> Result<()> {
        let whole = [line, b"\n"].concat();
        self.file.file().write_all_at(&whole, 0)?;
        Ok(self.file.set_len(whole.len() as u64)?)
    }

    /// Removes the note.
    pub fn remove(&self) -> Result<()> {
        Ok(fs::remove_file(self.file.path())?)
    }
}

impl Store {
    /// Takes the note on the upload that `key` stands for, in `ingest/`, readable by its owner only;
    /// `None` while another process has it. Garbage collection removes it a day after the last write.
    pub fn push_note(&self, key: &Digest) -> Result<Option<PushNote>> {
        let path = self.root().join("ingest").join(format!("push-{}.partial", key.hex()));
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.mode(0o600);
        let file = options.open(path)?;
        Ok(lock::try_exclusive(&file)?.then_some(PushNote { file }))
    }

    /// Returns what is known about registries; empty when nothing is.
    pub fn registry_notes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match fs::File::open(self.registries_path()) {
            Ok(file) => file.take(MAX_REGISTRIES_BYTES).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error.into()),
        };
        Ok(bytes)
    }

    /// Replaces what is known about registries. Of two processes that do so at once, one is heard.
    pub fn replace_registry_notes(&self, bytes: &[u8]) -> Result<()> {
        self.replace(&self.registries_path(), bytes, Durability::Unsynced)
    }

    fn registries_path(&self) -> PathBuf {
        self.root().join(REGISTRIES_FILE)
    }
}
