//! Writing an OCI layout in a directory.

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::image::{Descriptor, Digest};

use super::read::{INDEX_FILE, LAYOUT_FILE, images_of, read_small};
use super::stored::{self, LAYOUT, ShortNames, Stored, blob_path};
use super::{Error, Result};

/// A layout being written; any number of processes may write to one.
///
/// Blobs are written under other names first, and renamed. `index.json` is read, changed and
/// replaced under a lock on `oci-layout`, which is never replaced itself.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
}

/// A blob of a layout being written. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) file: tempfile::NamedTempFile,
    target: PathBuf,
}

impl Directory {
    /// Makes the layout when it is missing.
    pub(super) fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root)?;
        let directory = Self { root: root.to_owned() };
        if !root.join(LAYOUT_FILE).exists() {
            let file = temporary(root)?;
            fs::write(file.path(), LAYOUT)?;
            match file.persist_noclobber(root.join(LAYOUT_FILE)) {
                Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error.error.into());
                }
                _ => {}
            }
        }
        directory.images()?;
        Ok(directory)
    }

    /// Returns the images of the layout that is there.
    fn images(&self) -> Result<Vec<Stored>> {
        match read_small(&self.root.join(INDEX_FILE)) {
            Ok(bytes) => images_of(&bytes, &self.root),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn has(&self, descriptor: &Descriptor) -> bool {
        let metadata = fs::metadata(self.root.join(blob_path(&descriptor.digest)));
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.len() == descriptor.size)
    }

    pub(super) fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        read_small(&self.root.join(blob_path(digest)))
    }

    pub(super) fn blob(&self, digest: &Digest) -> Result<NewFile> {
        let target = self.root.join(blob_path(digest));
        let parent = target.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent)?;
        Ok(NewFile { file: temporary(parent)?, target })
    }

    /// Adds images to the layout; those that had the same names are replaced.
    pub(super) fn finish(&self, images: &[Stored], docker: Option<&[u8]>) -> Result<()> {
        let lock =
            fs::OpenOptions::new().read(true).write(true).open(self.root.join(LAYOUT_FILE))?;
        loop {
            match flock(lock.file(), FlockOperation::LockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        let images = stored::merged(&self.images()?, images);
        if let Some(docker) = docker {
            self.replace(super::docker::MANIFEST, docker)?;
        }
        self.replace(INDEX_FILE, &stored::index_json(&images, ShortNames::Tags))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = temporary(&self.root)?;
        file.write_all(bytes)?;
        NewFile { file, target: self.root.join(name) }.place()
    }
}

/// Makes a file that is about to get another name.
fn temporary(parent: &Path) -> Result<tempfile::NamedTempFile> {
    let mode = std::fs::Permissions::from_mode(0o644);
    let mut builder = tempfile::Builder::new();
    Ok(builder.prefix(".rpub-").permissions(mode).tempfile_in(parent)?)
}

impl NewFile {
    /// Gives the file its name.
    pub(super) fn place(self) -> Result<()> {
        self.file.as_file().sync_data()?;
        self.file.persist(self.target).map_err(|error| error.error)?;
        Ok(())
    }
}
