//! In what two lock files differ.

use std::collections::BTreeMap;

use super::file::LockFile;

/// What became of one entry of a lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockChange {
    /// The image's name, the URL, or the repository and its reference.
    pub name: String,
    /// The platform, when it is about the image of one only.
    pub platform: Option<String>,
    /// The digest or commit before; `None` for what is new.
    pub old: Option<String>,
    /// The digest or commit now; `None` for what is gone.
    pub new: Option<String>,
}

/// Returns what of `new` is not as in `old`, by name.
pub(super) fn difference(old: &LockFile, new: &LockFile) -> Vec<LockChange> {
    let (old, new) = (entries(old), entries(new));
    let mut names: Vec<&Key> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let whole = |key: &Key| (key.0.clone(), None);
    let changed = names.into_iter().filter(|key| old.get(key) != new.get(key));
    // That its platforms' manifests changed follows from the image's own change.
    let told =
        changed.filter(|key| key.1.is_none() || old.get(&whole(key)) == new.get(&whole(key)));
    told.map(|key| LockChange {
        name: key.0.clone(),
        platform: key.1.clone(),
        old: old.get(key).cloned(),
        new: new.get(key).cloned(),
    })
    .collect()
}

/// A name, and a platform of it.
type Key = (String, Option<String>);

fn entries(lock: &LockFile) -> BTreeMap<Key, String> {
    let mut entries = BTreeMap::new();
    for (name, image) in &lock.images {
        let name = name.familiar();
        for (platform, digest) in &image.manifests {
            entries.insert((name.clone(), Some(platform.clone())), digest.to_string());
        }
        entries.insert((name, None), image.digest.to_string());
    }
    let files = lock.files.iter().map(|(address, digest)| (address, digest.to_string()));
    let commits = lock.repositories.iter().map(|(address, commit)| (address, commit.clone()));
    entries.extend(files.chain(commits).map(|(address, id)| {
        // Addresses that only differ in what is not shown are told apart by their keys.
        let key = address.key().map(|key| format!(" ({})", key.short()));
        ((format!("{}{}", address.shown(), key.unwrap_or_default()), None), id)
    }));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;
    use crate::operations::lock::file::LockedImage;

    /// A name, its content, and the platforms with theirs.
    type Locked = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

    fn lock(images: &[Locked]) -> LockFile {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let mut lock = LockFile::default();
        for (name, content, platforms) in images {
            let manifests = platforms.iter().map(|(name, text)| ((*name).to_owned(), digest(text)));
            let image = LockedImage {
                digest: digest(content),
                manifests: manifests.collect(),
                is_of_trigger: false,
            };
            lock.images.insert(name.parse().unwrap(), image);
        }
        lock
    }

    #[test]
    fn entries_come_change_and_go() {
        let old = lock(&[("a:1", "old", &[("linux/amd64", "x")]), ("b:1", "b", &[])]);
        let new = lock(&[("a:1", "new", &[("linux/amd64", "y")]), ("c:1", "c", &[])]);
        let changes = difference(&old, &new);
        let told: Vec<_> = changes
            .iter()
            .map(|change| (change.name.as_str(), change.old.is_some(), change.new.is_some()))
            .collect();
        assert_eq!(told, [("a:1", true, true), ("b:1", true, false), ("c:1", false, true)]);
        assert_eq!(difference(&old, &old), []);
    }

    #[test]
    fn a_platform_more_is_a_change_of_its_own() {
        let old = lock(&[("a:1", "a", &[("linux/amd64", "x")])]);
        let new = lock(&[("a:1", "a", &[("linux/amd64", "x"), ("linux/arm64", "y")])]);
        let changes = difference(&old, &new);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].platform.as_deref(), Some("linux/arm64"));
        assert_eq!(changes[0].old, None);
    }
}
