//! What names of images were last seen to mean in their registries: `seen/<hex>`, a file a name.
//! A small JSON object, `{"version":1,"name":...,"digest":...,"at":...}`.

use std::path::PathBuf;

use fs_err as fs;
use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};

use crate::image::{Digest, Reference};

use super::collect::children;
use super::write::Durability;
use super::{Result, Store};

const VERSION: u64 = 1;

/// What a name was seen to mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The manifest, or the index.
    pub digest: Digest,
    /// When its registry said so.
    pub at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Note {
    version: u64,
    name: String,
    digest: Digest,
    at: Timestamp,
}

impl Store {
    /// Notes that `reference` means `digest` in its registry now.
    ///
    /// # Panics
    ///
    /// Never: texts and a time make JSON.
    pub fn saw(&self, reference: &Reference, digest: &Digest) -> Result<()> {
        let note = Note {
            version: VERSION,
            name: reference.to_string(),
            digest: digest.clone(),
            at: Timestamp::now().round(Unit::Second).unwrap_or_default(),
        };
        fs::create_dir_all(self.seen_directory())?;
        let text = serde_json::to_vec(&note).expect("texts and a time make JSON");
        self.replace(&self.seen_path(reference), &text, Durability::Unsynced)
    }

    /// Returns what `reference` was last seen to mean. A note that cannot be read, as one of a newer
    /// version, counts as none.
    pub fn seen(&self, reference: &Reference) -> Result<Option<Seen>> {
        let bytes = match fs::read(self.seen_path(reference)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let note = serde_json::from_slice::<Note>(&bytes).ok();
        let note =
            note.filter(|note| note.version == VERSION && note.name == reference.to_string());
        Ok(note.map(|note| Seen { digest: note.digest, at: note.at }))
    }

    /// Removes the notes about manifests that are not in the store.
    pub(super) fn sweep_seen(&self) -> Result<()> {
        for path in children(&self.seen_directory())? {
            let note = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let is_of_use = note.is_some_and(|note: Note| self.has_blob(&note.digest));
            if !is_of_use {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn seen_directory(&self) -> PathBuf {
        self.root().join("seen")
    }

    fn seen_path(&self, reference: &Reference) -> PathBuf {
        let key = Digest::of(reference.to_string().as_bytes());
        self.seen_directory().join(key.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sight_of_a_name_counts_while_its_manifest_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let name: Reference = "r.example/a:1".parse().unwrap();
        assert_eq!(store.seen(&name).unwrap(), None);
        let there = store.put_blob(b"there").unwrap();
        for digest in [Digest::of(b"gone"), there.clone()] {
            store.saw(&name, &digest).unwrap();
            assert_eq!(store.seen(&name).unwrap().unwrap().digest, digest);
        }
        store.sweep_seen().unwrap();
        assert_eq!(store.seen(&name).unwrap().unwrap().digest, there);
        store.saw(&name, &Digest::of(b"gone")).unwrap();
        store.sweep_seen().unwrap();
        assert_eq!(store.seen(&name).unwrap(), None);
        fs::write(store.seen_path(&name), "{\"version\":2}").unwrap();
        assert_eq!(store.seen(&name).unwrap(), None);
    }
}
