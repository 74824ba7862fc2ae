//! `bundle diff`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::archive::Archive;
use crate::image::Digest;
use crate::operations::Error;
use crate::operations::session::blocking;

use super::list::open;

/// What became of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleChange {
    /// The name.
    pub name: String,
    /// What it stood for; `None` when it is new.
    pub before: Option<Digest>,
    /// What it stands for; `None` when it is gone.
    pub after: Option<Digest>,
}

/// In what two bundles differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BundleDifference {
    /// The names that stand for something else, by name.
    pub changes: Vec<BundleChange>,
    /// How many names stand for the same.
    pub same: usize,
    /// How many blobs only the second has.
    pub added_blobs: usize,
    /// Their bytes.
    pub added_bytes: u64,
    /// How many blobs only the first has.
    pub removed_blobs: usize,
    /// Their bytes.
    pub removed_bytes: u64,
}

/// Compares two bundles, or other archives.
///
/// # Errors
///
/// When one cannot be read.
pub async fn compare_bundles(before: PathBuf, after: PathBuf) -> Result<BundleDifference, Error> {
    blocking(move || {
        let (before, after) = (open(&before)?, open(&after)?);
        let (old, new) = (before.blobs()?, after.blobs()?);
        let only = |these: &BTreeMap<Digest, u64>, others: &BTreeMap<Digest, u64>| {
            let only = these.iter().filter(|(digest, _)| !others.contains_key(*digest));
            only.fold((0, 0), |(count, bytes), (_, size)| (count + 1, bytes + size))
        };
        let ((added_blobs, added_bytes), (removed_blobs, removed_bytes)) =
            (only(&new, &old), only(&old, &new));
        let (changes, same) = changes(&names(&before), &names(&after));
        let blobs = BundleDifference {
            added_blobs,
            added_bytes,
            removed_blobs,
            removed_bytes,
            ..BundleDifference::default()
        };
        Ok::<_, Error>(BundleDifference { changes, same, ..blobs })
    })
    .await
}

fn names(archive: &Archive) -> BTreeMap<String, Digest> {
    let named = archive.images().iter();
    named
        .map(|image| {
            let digest = image.descriptor.digest.clone();
            let name = image.name.as_ref().map_or_else(|| digest.to_string(), ToString::to_string);
            (name, digest)
        })
        .collect()
}

fn changes(
    before: &BTreeMap<String, Digest>,
    after: &BTreeMap<String, Digest>,
) -> (Vec<BundleChange>, usize) {
    let all: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut same = 0;
    let mut changes = Vec::new();
    for name in all {
        let (old, new) = (before.get(name).cloned(), after.get(name).cloned());
        if old == new {
            same += 1;
        } else {
            changes.push(BundleChange { name: name.clone(), before: old, after: new });
        }
    }
    (changes, same)
}
