//! Opening and making stores.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use fs_err as fs;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::image::Digest;

use super::index::Loaded;
use super::write::Durability;
use super::{Error, Result, lock};

/// The newest format this program reads and the one it writes; see the room's page.
const VERSION: u64 = 1;
const VERSION_FILE: &str = "rpub.json";
const LAYOUT_FILE: &str = "oci-layout";
const INDEX_FILE: &str = "index.json";
const DIRECTORIES: [&str; 10] = [
    "locks",
    "tmp",
    "blobs",
    "blobs/sha256",
    "ingest",
    "snapshots",
    "cachemounts",
    "paths",
    "cache",
    "remote",
];

/// A local content-addressed store. Cloning is cheap and gives the same store. All methods block.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// The last index.json read, so that a long-running process parses it only when it changed.
    loaded: Mutex<Option<Arc<Loaded>>>,
}

#[derive(Serialize, Deserialize)]
struct Version {
    version: u64,
}

impl Store {
    /// Opens the store at `root`, and makes it when the directory is missing or empty.
    ///
    /// Opening an existing store reads one small file. A store being made has mode 0700.
    ///
    /// # Errors
    ///
    /// [`Error::NewerVersion`], [`Error::Corrupt`] when the version cannot be read,
    /// [`Error::NotAStore`] when the directory holds something else, [`Error::Io`].
    pub fn open(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root)?;
        let store = Self { inner: Arc::new(Inner { root, loaded: Mutex::new(None) }) };
        if !store.check_version()? {
            store.make()?;
        }
        Ok(store)
    }

    /// Returns the store's directory, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Returns where the blob is, or would be.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        let mut path = self.inner.root.join("blobs");
        path.push(digest.algorithm().name());
        path.push(digest.hex());
        path
    }

    pub(super) fn loaded(&self) -> &Mutex<Option<Arc<Loaded>>> {
        &self.inner.loaded
    }

    pub(super) fn index_path(&self) -> PathBuf {
        self.inner.root.join(INDEX_FILE)
    }

    pub(super) fn index_lock_path(&self) -> PathBuf {
        self.inner.root.join("locks/index.lock")
    }

    pub(super) fn use_lock_path(&self) -> PathBuf {
        self.inner.root.join("locks/use.lock")
    }

    /// Tells whether there is a complete store.
    fn check_version(&self) -> Result<bool> {
        let path = self.inner.root.join(VERSION_FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let found: Version =
            serde_json::from_slice(&bytes).map_err(|source| Error::Corrupt { path, source })?;
        if found.version > VERSION {
            let path = self.inner.root.clone();
            return Err(Error::NewerVersion { path, found: found.version, known: VERSION });
        }
        Ok(true)
    }

    /// Makes a store, or completes one whose making was interrupted. Several processes may try at
    /// once: the version file comes last, and the rest happens under the index lock.
    fn make(&self) -> Result<()> {
        let root = &self.inner.root;
        fs::create_dir_all(root)?;
        self.refuse_foreign_directory()?;
        fs::set_permissions(root, std::fs::Permissions::from_mode(0o700))?;
        for directory in DIRECTORIES {
            fs::create_dir_all(root.join(directory))?;
        }
        let guard = lock::open(&self.index_lock_path())?;
        lock::acquire(&guard, FlockOperation::LockExclusive)?;
        if self.check_version()? {
            return Ok(());
        }
        // OCI image-spec, image-layout.md, "oci-layout file".
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        self.replace(&root.join(LAYOUT_FILE), layout, Durability::Synced)?;
        if !self.index_path().exists() {
            let empty = super::index::EMPTY.as_bytes();
            self.replace(&self.index_path(), empty, Durability::Synced)?;
        }
        let version = format!(r#"{{"version":{VERSION}}}"#);
        self.replace(&root.join(VERSION_FILE), version.as_bytes(), Durability::Synced)
    }

    /// Refuses to spread a store over somebody's directory: `--store $HOME` is a mistake.
    fn refuse_foreign_directory(&self) -> Result<()> {
        let ours = [VERSION_FILE, LAYOUT_FILE, INDEX_FILE];
        for entry in fs::read_dir(&self.inner.root)? {
            let name = entry?.file_name();
            let is_ours = ours.iter().chain(&DIRECTORIES).any(|known| name.as_os_str() == *known);
            if !is_ours {
                let path = self.inner.root.clone();
                return Err(Error::NotAStore { path, found: name.into() });
            }
        }
        Ok(())
    }
}
