//! Archives as directories.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;

use crate::image::Digest;
use crate::layer::{ApplyOptions, Ownership, PathIndex, WhiteoutForm, apply, decompress};
use crate::store::{RemoteKind, Store};

use super::{Error, Result};

/// How many bytes of a file tell whether it is an archive.
pub const SNIFFED_BYTES: usize = 512;
/// The most content that an archive may have. No build context comes near; a crafted archive would
/// fill the disk.
const MAX_TREE_BYTES: u64 = 64 << 30;
/// The most entries that an archive may have.
const MAX_TREE_ENTRIES: u64 = 4_000_000;

/// Files that are kept in the store.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The directory that holds them.
    pub root: PathBuf,
    /// What they are: the archive's digest, or the commit.
    pub identity: String,
    /// Whose they are, when that is more than root.
    pub owners: Option<Arc<PathIndex>>,
}

/// Returns whether a file that begins so is an archive: gzip, bzip2, xz, zstd, or a tar itself.
#[must_use]
pub fn is_archive(beginning: &[u8]) -> bool {
    let magic: [&[u8]; 4] = [
        b"BZh",
        &[0x1f, 0x8b, 0x08],
        &[0xfd, b'7', b'z', b'X', b'Z', 0],
        &[0x28, 0xb5, 0x2f, 0xfd],
    ];
    magic.iter().any(|magic| beginning.starts_with(magic)) || is_tar(beginning)
}

/// Returns whether the first block has the checksum of a tar header.
fn is_tar(beginning: &[u8]) -> bool {
    let Some(block) = beginning.get(..SNIFFED_BYTES) else { return false };
    let digits: Vec<u8> = block[148..156]
        .iter()
        .copied()
        .skip_while(|byte| *byte == b' ')
        .take_while(u8::is_ascii_digit)
        .collect();
    let text = String::from_utf8_lossy(&digits);
    let Ok(expected) = u32::from_str_radix(&text, 8) else { return false };
    let sum = |at: usize, byte: u8| u32::from(if (148..156).contains(&at) { b' ' } else { byte });
    block[0] != 0 && expected == block.iter().enumerate().map(|(at, b)| sum(at, *b)).sum::<u32>()
}

/// A directory that goes away when it is dropped.
#[derive(Debug)]
pub struct TemporaryTree {
    root: PathBuf,
    owners: Option<Arc<PathIndex>>,
}

impl TemporaryTree {
    /// Makes an empty directory in the store.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn new(store: &Store) -> Result<Self> {
        let root = store.temporary_path();
        fs::create_dir(&root)?;
        let tree = Self { root, owners: None };
        // Whatever the umask: a `COPY` of the whole takes it over. The store itself is private.
        fs::set_permissions(&tree.root, std::fs::Permissions::from_mode(0o755))?;
        Ok(tree)
    }

    /// Unpacks the tar `archive`, compressed or not, called `what` in errors.
    ///
    /// Owners are only noted, device nodes are left out, and nothing is made outside the directory.
    ///
    /// # Errors
    ///
    /// [`Error::Unpack`] for what is no tar, breaks off, or leads outside.
    pub fn unpack(store: &Store, archive: impl Read + Send, what: &str) -> Result<Self> {
        let mut tree = Self::new(store)?;
        let failed = |source| Error::Unpack { what: what.to_owned(), source };
        let options = ApplyOptions {
            ownership: Ownership::Ignore,
            whiteouts: WhiteoutForm::Plain,
            max_entries: MAX_TREE_ENTRIES,
            max_bytes: MAX_TREE_BYTES,
        };
        let tar =
            decompress(archive).map_err(|error| failed(crate::layer::Error::ReadTar(error)))?;
        let applied = apply(tar, &tree.root, &options).map_err(failed)?;
        for warning in applied.warnings {
            tracing::debug!(path = %warning.path.display(), what = warning.what, "left out");
        }
        tree.owners = Some(Arc::new(applied.index));
        Ok(tree)
    }

    /// Returns the directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns whose the files of the archive are.
    #[must_use]
    pub fn owners(&self) -> Option<Arc<PathIndex>> {
        self.owners.clone()
    }

    /// Gives what is at `inside` of the directory, empty for the whole, its final place; what is
    /// there already stays.
    pub(super) fn keep(self, inside: &Path, target: &Path) -> io::Result<()> {
        if target.exists() {
            return Ok(());
        }
        match fs::rename(self.root.join(inside), target) {
            // Another process was faster.
            Err(_) if target.exists() => Ok(()),
            result => result,
        }
    }
}

impl Drop for TemporaryTree {
    fn drop(&mut self) {
        if !self.root.exists() || fs::remove_dir_all(&self.root).is_ok() {
            return;
        }
        // Directories that their owner may not write to.
        open_directories(&self.root);
        if let Err(error) = fs::remove_dir_all(&self.root) {
            // Garbage collection finds it again.
            tracing::debug!(%error, "temporary directory left behind");
        }
    }
}

fn open_directories(directory: &Path) {
    let mode = std::fs::Permissions::from_mode(0o700);
    let _ = fs::set_permissions(directory, mode);
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_directories(&entry.path());
        }
    }
}

impl Tree {
    /// Unpacks the archive at `path`, whose digest is known, unless the store has its files.
    ///
    /// # Errors
    ///
    /// Those of [`TemporaryTree::unpack`].
    pub fn of_archive(store: &Store, path: &Path, digest: &Digest, what: &str) -> Result<Self> {
        let failed = |source| Error::Unpack { what: what.to_owned(), source };
        let entry = store.remote_entry(RemoteKind::Tree, digest)?;
        let (root, index, identity) =
            (entry.join("files"), entry.join("index"), digest.to_string());
        if root.exists()
            && let Some(owners) = PathIndex::load(&index).map_err(failed)?
        {
            return Ok(Self { root, identity, owners: Some(Arc::new(owners)) });
        }
        let tree = TemporaryTree::unpack(store, fs::File::open(path)?, what)?;
        let owners = tree.owners();
        if let Some(owners) = &owners {
            owners.save(&index).map_err(failed)?;
        }
        tree.keep(Path::new(""), &root)?;
        Ok(Self { root, identity, owners })
    }
}
