//! What a build takes by digest instead of by name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::image::{Digest, Platform, Reference};
use crate::operations::{Error, Kind};

use super::address::Address;
use super::file::{InvalidLock, LockFile};

/// The lock file of a Dockerfile, as far as there is one.
#[derive(Debug, Clone, Default)]
pub(in crate::operations) struct Pins {
    /// Where it is, or would be; `None` beside a Dockerfile that is in no directory of the user.
    pub(super) path: Option<PathBuf>,
    /// What it says; `None` when there is none.
    pub(super) file: Option<LockFile>,
}

/// What an image's name is locked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::operations) struct PinnedImage {
    /// The index, or the manifest of an image that has none.
    pub(in crate::operations) digest: Digest,
    /// The manifest for the platform, when the lock file names it.
    pub(in crate::operations) manifest: Option<Digest>,
}

impl Pins {
    /// Reads the lock file at `path`. Blocks.
    ///
    /// # Errors
    ///
    /// When it is damaged, or of a newer version.
    pub(in crate::operations) fn read(path: Option<PathBuf>) -> Result<Self, Error> {
        let file = match &path {
            Some(path) => LockFile::open(path).map_err(|error| unusable(path, error))?,
            None => None,
        };
        Ok(Self { path, file })
    }

    /// Returns whether there is a lock file.
    pub(in crate::operations) fn is_there(&self) -> bool {
        self.file.is_some()
    }

    /// Returns what the lock file is called.
    pub(in crate::operations) fn name(&self) -> String {
        self.path.as_deref().unwrap_or(Path::new(super::LOCK_FILE_NAME)).display().to_string()
    }

    /// Returns the platforms that the lock file was made for.
    pub(in crate::operations) fn platforms(&self) -> Result<Vec<Platform>, Error> {
        let platforms = self.file.iter().flat_map(|file| &file.platforms);
        let platforms = platforms.map(|platform| platform.parse());
        Ok(platforms.collect::<Result<_, crate::image::Error>>()?)
    }

    /// Returns what an image's name is locked to.
    pub(in crate::operations) fn image(
        &self,
        name: &Reference,
        platform: &Platform,
    ) -> Option<PinnedImage> {
        let image = self.file.as_ref()?.images.get(name)?;
        let manifest = image.manifests.get(&platform.to_string()).cloned();
        Some(PinnedImage { digest: image.digest.clone(), manifest })
    }

    /// Returns the digest of what a URL gives.
    pub(in crate::operations) fn file(&self, address: &Address) -> Option<&Digest> {
        self.file.as_ref()?.files.get(address)
    }

    /// Returns the commit that a reference of a repository is.
    pub(in crate::operations) fn commit(&self, address: &Address) -> Option<&str> {
        self.file.as_ref()?.repositories.get(address).map(String::as_str)
    }

    /// Returns the names of the lock file that are not among those in use; of URLs and repositories
    /// only when all that are in use are known. Images that only a trigger names count as in use:
    /// which triggers there are, the bases of all stages decide.
    pub(in crate::operations) fn unused(
        &self,
        images: &BTreeSet<Reference>,
        addresses: Option<&BTreeSet<Address>>,
    ) -> Vec<String> {
        let Some(file) = &self.file else { return Vec::new() };
        let images = file
            .images
            .iter()
            .filter(|(name, image)| !image.is_of_trigger && !images.contains(name));
        let others = file.files.keys().chain(file.repositories.keys());
        let others =
            others.filter(|address| addresses.is_some_and(|known| !known.contains(address)));
        let others = others.map(|address| address.shown().to_owned());
        images.map(|(name, _)| name.familiar()).chain(others).collect()
    }
}

fn unusable(path: &Path, error: InvalidLock) -> Error {
    let hint = match &error {
        InvalidLock::Newer(_) => "use the version of rpub that wrote it, or a later one",
        InvalidLock::Damaged { .. } | InvalidLock::TooLarge => {
            "mend it, or remove it and run `rpub lock`, which writes it anew"
        }
        InvalidLock::Io(_) => "name another one by `--lock-file`",
    };
    let message = format!("the lock file `{}` cannot be used", path.display());
    Error::new(Kind::Settings, message).because(error).hint(hint)
}
