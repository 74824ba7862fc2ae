//! How much disk a store takes, as `du` counts: blocks, directories too, a file with several names once.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::cache::digest_of_hex;
use super::collect::{Reaching, children, file_name};
use super::{Error, Result, Store};

/// Bytes in a block of `st_blocks` (`stat(2)`).
const BLOCK: u64 = 512;

/// The disk use of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blobs that images reach.
    pub images: Amount,
    /// Records of the build cache with what belongs to them, and blobs that no image reaches.
    pub build_cache: Amount,
    /// Unpacked layers.
    pub snapshots: Amount,
    /// Directories that `RUN --mount=type=cache` keeps.
    pub cache_mounts: Amount,
    /// What builds got by http and git.
    pub remote: Amount,
    /// Everything else: the index, locks, what is being written, directories.
    pub other: Amount,
}

/// A number of things and the bytes that they take on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: usize,
    /// Bytes on disk.
    pub bytes: u64,
}

impl Usage {
    /// Returns the bytes of all kinds together: what `du` says of the store's directory.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.images.bytes + self.cache_bytes() + self.other.bytes
    }

    /// Returns the bytes of what is kept only to make later builds faster.
    #[must_use]
    pub fn cache_bytes(&self) -> u64 {
        let kinds = [self.build_cache, self.snapshots, self.cache_mounts, self.remote];
        kinds.iter().map(|amount| amount.bytes).sum()
    }

    fn of(&mut self, kind: Kind) -> &mut Amount {
        match kind {
            Kind::Images => &mut self.images,
            Kind::BuildCache => &mut self.build_cache,
            Kind::Snapshots => &mut self.snapshots,
            Kind::CacheMounts => &mut self.cache_mounts,
            Kind::Remote => &mut self.remote,
            Kind::Other => &mut self.other,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Images,
    BuildCache,
    Snapshots,
    CacheMounts,
    Remote,
    Other,
}

impl Store {
    /// Returns the disk use by kind. `measure` is given trees, some of mapped ids, and returns the
    /// disk use of each, in order.
    ///
    /// # Errors
    ///
    /// When the store or a tree cannot be read; what vanishes meanwhile takes nothing.
    pub fn usage<E: From<Error>>(
        &self,
        measure: impl FnOnce(Vec<PathBuf>) -> Result<Vec<u64>, E>,
    ) -> Result<Usage, E> {
        let (mut usage, trees) = self.count()?;
        let sizes = measure(trees.iter().map(|(_, path)| path.clone()).collect())?;
        for ((kind, _), bytes) in trees.into_iter().zip(sizes) {
            usage.of(kind).bytes += bytes;
        }
        Ok(usage)
    }

    /// Counts everything, and measures all but the trees that are returned.
    fn count(&self) -> Result<(Usage, Vec<(Kind, PathBuf)>)> {
        let mut usage = Usage::default();
        let mut trees = Vec::new();
        usage.other.bytes += own(self.root())?;
        for path in children(self.root())? {
            match file_name(&path).unwrap_or_default() {
                "blobs" => self.count_blobs(&path, &mut usage)?,
                "cache" | "paths" => trees.push((Kind::BuildCache, path)),
                "remote" => {
                    for kind in children(&path)? {
                        usage.remote.count += children(&kind)?.len();
                    }
                    trees.push((Kind::Remote, path));
                }
                "snapshots" => {
                    usage.other.bytes += own(&path)?;
                    for mapping in children(&path)? {
                        usage.other.bytes += own(&mapping)?;
                        for tree in children(&mapping)? {
                            let is_layer =
                                file_name(&tree).is_some_and(|name| digest_of_hex(name).is_some());
                            usage.snapshots.count += usize::from(is_layer);
                            let kind = if is_layer { Kind::Snapshots } else { Kind::Other };
                            trees.push((kind, tree));
                        }
                    }
                }
                "cachemounts" => trees.push((Kind::CacheMounts, path)),
                _ => trees.push((Kind::Other, path)),
            }
        }
        usage.cache_mounts.count = self.cache_instances()?.len();
        usage.build_cache.count += self.cache_keys()?.len();
        Ok((usage, trees))
    }

    fn count_blobs(&self, blobs: &Path, usage: &mut Usage) -> Result<()> {
        let reached = self.reached_by_images(Reaching::All)?;
        usage.other.bytes += own(blobs)?;
        for algorithm in children(blobs)? {
            usage.other.bytes += own(&algorithm)?;
            for blob in children(&algorithm)? {
                let digest = file_name(&blob).and_then(digest_of_hex);
                let is_reached = digest.is_some_and(|digest| reached.contains(&digest));
                let kind = if is_reached { Kind::Images } else { Kind::BuildCache };
                let amount = usage.of(kind);
                amount.bytes += own(&blob)?;
                amount.count += usize::from(is_reached);
            }
        }
        Ok(())
    }

    /// Returns how much disk the blob takes; nothing when it is not there.
    pub fn blob_disk_use(&self, digest: &crate::image::Digest) -> Result<u64> {
        own(&self.blob_path(digest))
    }
}

/// Returns the disk use of a file or directory without what is in it.
fn own(path: &Path) -> Result<u64> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.blocks() * BLOCK),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}
