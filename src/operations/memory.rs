//! What the registry client remembers from one run to the next, in the store.
//!
//! The note on an upload is one line of JSON, `{"version":1,"repository":...,"digest":...,
//! "location":...}`. `registries.json` is `{"version":1,"registries":{"<host>":{"max_body":...,
//! "refuses_ranges":...,"learnt":"<time>"}}}`. Neither is needed: a file that cannot be read, or is of
//! a newer version, counts as absent and is left alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::image::{Digest, RegistryName, Repository};
use crate::registry::{Learnt, Memory, UploadNote};
use crate::store::{self, PushNote, Store};

const VERSION: u64 = 1;
/// How long what was learnt is believed: limits are raised, and registries mended.
const BELIEVED: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The memory of a store.
#[derive(Debug, Clone)]
pub(super) struct StoreMemory(pub(super) Store);

#[derive(Serialize, Deserialize)]
struct Note {
    version: u64,
    repository: String,
    digest: Digest,
    location: String,
}

#[derive(Serialize, Deserialize)]
struct Registries {
    version: u64,
    #[serde(default)]
    registries: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_body: Option<u64>,
    #[serde(default)]
    refuses_ranges: bool,
    learnt: Timestamp,
}

impl Registries {
    /// Reads the file; `None` when it is there and must be left alone.
    fn read(store: &Store) -> Result<Option<Self>, store::Error> {
        let bytes = store.registry_notes()?;
        if bytes.is_empty() {
            return Ok(Some(Self { version: VERSION, registries: BTreeMap::new() }));
        }
        let read = serde_json::from_slice::<Self>(&bytes);
        Ok(read.ok().filter(|registries| registries.version <= VERSION))
    }

    fn forget_old(&mut self, now: Timestamp) {
        self.registries.retain(|_, entry| now.duration_since(entry.learnt) < BELIEVED);
    }
}

impl StoreMemory {
    fn try_learn(&self, registry: &RegistryName, learnt: Learnt) -> Result<(), store::Error> {
        let now = Timestamp::now();
        let Some(mut registries) = Registries::read(&self.0)? else { return Ok(()) };
        registries.forget_old(now);
        let Learnt { max_body, refuses_ranges } = learnt;
        let entry = Entry { max_body, refuses_ranges, learnt: now };
        registries.registries.insert(registry.as_str().to_owned(), entry);
        let text = serde_json::to_vec(&registries).expect("numbers and texts make JSON");
        self.0.replace_registry_notes(&text)
    }
}

impl Memory for StoreMemory {
    fn note(&self, repository: &Repository, digest: &Digest) -> Option<Arc<dyn UploadNote>> {
        let key = Digest::of(format!("{repository}@{digest}").as_bytes());
        let note = said(self.0.push_note(&key))??;
        let repository = repository.to_string();
        Some(Arc::new(StoredNote { note, repository, digest: digest.clone() }))
    }

    fn learnt(&self, registry: &RegistryName) -> Learnt {
        let Some(mut registries) = said(Registries::read(&self.0)).flatten() else {
            return Learnt::default();
        };
        registries.forget_old(Timestamp::now());
        let entry = registries.registries.get(registry.as_str());
        entry.map_or_else(Learnt::default, |entry| Learnt {
            max_body: entry.max_body,
            refuses_ranges: entry.refuses_ranges,
        })
    }

    fn learn(&self, registry: &RegistryName, learnt: Learnt) {
        said(self.try_learn(registry, learnt));
    }
}

struct StoredNote {
    note: PushNote,
    repository: String,
    digest: Digest,
}

impl UploadNote for StoredNote {
    fn location(&self) -> Option<String> {
        let note: Note = serde_json::from_slice(&said(self.note.read())?).ok()?;
        let is_ours = note.version == VERSION
            && note.repository == self.repository
            && note.digest == self.digest;
        is_ours.then_some(note.location)
    }

    fn keep(&self, location: &str) {
        let note = Note {
            version: VERSION,
            repository: self.repository.clone(),
            digest: self.digest.clone(),
            location: location.to_owned(),
        };
        said(self.note.write(&serde_json::to_vec(&note).expect("texts make JSON")));
    }

    fn forget(&self) {
        said(self.note.remove());
    }
}

/// Says in the log what went wrong: a memory that fails costs time, not correctness.
fn said<T>(outcome: Result<T, store::Error>) -> Option<T> {
    outcome.inspect_err(|error| tracing::debug!(%error, "not remembered")).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::image::Reference;

    fn memory() -> (tempfile::TempDir, StoreMemory) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        (directory, StoreMemory(store))
    }

    #[test]
    fn a_note_outlives_its_process_and_belongs_to_one() {
        let (directory, memory) = memory();
        let repository = "r.example/a".parse::<Reference>().unwrap().repository;
        let digest = Digest::of(b"x");
        let note = memory.note(&repository, &digest).unwrap();
        assert_eq!(note.location(), None);
        note.keep("https://r.example/up/1?_state=a-long-one");
        note.keep("https://r.example/up/2");
        assert!(memory.note(&repository, &digest).is_none(), "it is taken");
        let ingest = fs_err::read_dir(directory.path().join("store/ingest")).unwrap();
        for file in ingest {
            let mode = file.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        drop(note);
        let note = memory.note(&repository, &digest).unwrap();
        assert_eq!(note.location().as_deref(), Some("https://r.example/up/2"));
        note.forget();
        drop(note);
        assert_eq!(memory.note(&repository, &digest).unwrap().location(), None);
    }

    #[test]
    fn what_was_learnt_is_believed_for_a_while() {
        let (_directory, memory) = memory();
        let registry: RegistryName = "r.example".parse().unwrap();
        assert_eq!(memory.learnt(&registry), Learnt::default());
        let learnt = Learnt { max_body: Some(7), refuses_ranges: true };
        memory.learn(&registry, learnt);
        assert_eq!(memory.learnt(&registry), learnt);
        let old = r#"{"version":1,"registries":{"r.example":{"max_body":7,"learnt":"2020-01-01T00:00:00Z"}}}"#;
        memory.0.replace_registry_notes(old.as_bytes()).unwrap();
        assert_eq!(memory.learnt(&registry), Learnt::default());
    }

    #[test]
    fn a_newer_file_is_left_alone() {
        let (_directory, memory) = memory();
        let registry: RegistryName = "r.example".parse().unwrap();
        let newer = br#"{"version":2,"registries":{}}"#;
        memory.0.replace_registry_notes(newer).unwrap();
        memory.learn(&registry, Learnt { max_body: Some(7), refuses_ranges: false });
        assert_eq!(memory.0.registry_notes().unwrap(), newer);
    }
}
