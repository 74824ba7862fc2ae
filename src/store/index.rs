//! Images: the entries of index.json.

use std::sync::{Arc, OnceLock, PoisonError};

use fs_err as fs;
use jiff::{Timestamp, Unit};
use rustix::fs::FlockOperation;

use crate::image::{Content, Descriptor, Digest, Index, Reference, media_type};

use super::write::Durability;
use super::{Error, Result, Store, lock};

/// index.json of a store without images.
pub(super) const EMPTY: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// OCI image-spec, annotations.md: the name of an entry; other tools address images by it.
const NAME: &str = "org.opencontainers.image.ref.name";
const TAGGED: &str = "rpub.tagged";
const SUBJECT: &str = "rpub.subject";
/// The index that the name stands for in its registry, which is kept to be compared next time.
pub(super) const INDEX: &str = "rpub.index";
/// The image may be taken away when room is needed.
pub(super) const EVICTABLE: &str = "rpub.evictable";
/// The image stays when its tag moves: then its name is its digest.
const KEPT: &str = "rpub.kept";

/// index.json as read.
#[derive(Debug)]
pub(super) struct Loaded {
    bytes: Vec<u8>,
    pub(super) index: Index,
    images: OnceLock<Arc<[ImageEntry]>>,
}

/// One image of the store under one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageEntry {
    /// The name, with a tag or a digest; `None` for a dangling image.
    pub name: Option<Reference>,
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// When the name was given.
    pub tagged: Option<Timestamp>,
    /// The manifest that this one refers to, as signatures do.
    pub subject: Option<Digest>,
    /// Whether it may be taken away when room is needed: see [`Store::tag_evictable`].
    pub evictable: bool,
    /// The index in the registry that it was chosen from.
    pub index: Option<Digest>,
}

impl ImageEntry {
    fn of(entry: &Descriptor) -> Self {
        let mut descriptor = entry.clone();
        let mut take = |key| descriptor.annotations.remove(key);
        let (name, tagged, subject) = (take(NAME), take(TAGGED), take(SUBJECT));
        let evictable = take(EVICTABLE).is_some();
        let index = take(INDEX);
        take(KEPT);
        Self {
            name: name.and_then(|text| parse_name(&text)),
            tagged: tagged.and_then(|text| text.parse().ok()),
            subject: subject.and_then(|text| text.parse().ok()),
            evictable,
            index: index.and_then(|text| text.parse().ok()),
            descriptor,
        }
    }
}

impl Store {
    /// Returns all images, one entry per name, oldest name first. Reads one file.
    pub fn images(&self) -> Result<Vec<ImageEntry>> {
        Ok(self.shared_images()?.to_vec())
    }

    /// Like [`Store::images`], for who asks often: entries are read anew only when they changed.
    pub fn shared_images(&self) -> Result<Arc<[ImageEntry]>> {
        let loaded = self.load()?;
        let read = || loaded.index.manifests.iter().map(ImageEntry::of).collect();
        Ok(Arc::clone(loaded.images.get_or_init(read)))
    }

    /// Returns the manifest or index that `reference` names; `None` when the store has it not.
    ///
    /// A digest in it wins over its tag, and finds every manifest in the store.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let loaded = self.load()?;
        let entries = &loaded.index.manifests;
        let found = match &reference.digest {
            Some(digest) => entries.iter().find(|entry| entry.digest == *digest),
            None => position(entries, &stored_name(reference)).map(|at| &entries[at]),
        };
        match (found, &reference.digest) {
            (Some(entry), _) => Ok(Some(ImageEntry::of(entry).descriptor)),
            (None, Some(digest)) => Ok(self.manifest(digest)?.map(|manifest| {
                let size = manifest.bytes.len() as u64;
                Descriptor::new(manifest.media_type, digest.clone(), size)
            })),
            (None, None) => Ok(None),
        }
    }

    /// Returns the image that has exactly this name.
    pub fn named(&self, reference: &Reference) -> Result<Option<ImageEntry>> {
        let loaded = self.load()?;
        let entries = &loaded.index.manifests;
        Ok(position(entries, &stored_name(reference)).map(|at| ImageEntry::of(&entries[at])))
    }

    /// Gives the name `reference` to an image. See [`Store::tag_all`].
    pub fn tag(&self, reference: &Reference, descriptor: &Descriptor) -> Result<()> {
        self.tag_all(&[(Some(reference.clone()), descriptor.clone())])
    }

    /// Like [`Store::tag`], for an image that was chosen from `index`, which is in the store too and
    /// stays as long as the name does.
    pub fn tag_of(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        index: Option<&Digest>,
    ) -> Result<()> {
        let mut descriptor = descriptor.clone();
        descriptor.annotations.extend(index.map(|index| (INDEX.to_owned(), index.to_string())));
        self.tag_all(&[(Some(reference.clone()), descriptor)])
    }

    /// Names images, each chosen from an index or not, as [`Store::tag_of`] does, that must not go when
    /// the name comes to mean another: they then have their digest as their name, until somebody
    /// removes that.
    pub fn keep(&self, images: Vec<(Reference, Descriptor, Option<Digest>)>) -> Result<()> {
        let images = images.into_iter().map(|(reference, mut descriptor, index)| {
            let index = index.map(|index| (INDEX.to_owned(), index.to_string()));
            descriptor.annotations.extend(index);
            descriptor.annotations.insert(KEPT.to_owned(), "true".to_owned());
            (Some(reference), descriptor)
        });
        self.tag_all(&images.collect::<Vec<_>>())
    }

    /// Gives names to images, all or none. Without a name the image is kept as a dangling one,
    /// unless it has a name already.
    ///
    /// A name that another image had moves; the image that loses its last name so becomes
    /// dangling. A name without tag and digest gets `latest`; one with a digest loses its tag.
    pub fn tag_all(&self, names: &[(Option<Reference>, Descriptor)]) -> Result<()> {
        let now = Timestamp::now().round(Unit::Second).unwrap_or_default().to_string();
        let fresh = names
            .iter()
            .map(|(name, descriptor)| {
                let name = name.as_ref().map(stored_name);
                Ok((name.clone(), self.entry(name, descriptor, &now)?))
            })
            .collect::<Result<Vec<_>>>()?;
        self.update(|entries| {
            for (name, entry) in fresh {
                place(entries, name.as_deref(), entry);
            }
        })
    }

    /// Takes a name away. Returns what it named; `None` when there was no such name.
    ///
    /// The image does not become dangling: without another name the next garbage collection
    /// takes it.
    pub fn remove_name(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let name = stored_name(reference);
        self.update(|entries| {
            let at = position(entries, &name)?;
            Some(ImageEntry::of(&entries.remove(at)).descriptor)
        })
    }

    /// Takes all names of the manifest or index `digest` away, its dangling entry included.
    /// Returns how many entries that were.
    pub fn remove_image(&self, digest: &Digest) -> Result<usize> {
        self.update(|entries| {
            let before = entries.len();
            entries.retain(|entry| entry.digest != *digest);
            before - entries.len()
        })
    }

    /// Changes the entries by `change` of an [`ImageEntry`]'s fate: those it returns false for go.
    /// Returns how many went.
    pub fn retain_images(&self, mut keep: impl FnMut(&ImageEntry) -> bool) -> Result<usize> {
        self.update(|entries| {
            let before = entries.len();
            entries.retain(|entry| keep(&ImageEntry::of(entry)));
            before - entries.len()
        })
    }

    pub(super) fn load(&self) -> Result<Arc<Loaded>> {
        let path = self.index_path();
        let bytes = fs::read(&path)?;
        let mut cached = self.loaded().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = cached.as_ref().filter(|loaded| loaded.bytes == bytes) {
            return Ok(Arc::clone(loaded));
        }
        let index: Index =
            serde_json::from_slice(&bytes).map_err(|source| Error::Corrupt { path, source })?;
        let loaded = Arc::new(Loaded { bytes, index, images: OnceLock::new() });
        *cached = Some(Arc::clone(&loaded));
        Ok(loaded)
    }

    /// Changes the entries of index.json under its lock. Writes only when something changed.
    fn update<T>(&self, change: impl FnOnce(&mut Vec<Descriptor>) -> T) -> Result<T> {
        let guard = lock::open(&self.index_lock_path())?;
        lock::acquire(&guard, FlockOperation::LockExclusive)?;
        let loaded = self.load()?;
        let mut index = loaded.index.clone();
        let result = change(&mut index.manifests);
        if index != loaded.index {
            let bytes = serde_json::to_vec(&index).expect("an index serialises to JSON");
            self.replace(&self.index_path(), &bytes, Durability::Synced)?;
        }
        Ok(result)
    }

    fn entry(&self, name: Option<String>, from: &Descriptor, now: &str) -> Result<Descriptor> {
        let mut entry = from.clone();
        let annotations = &mut entry.annotations;
        annotations.remove(NAME);
        annotations.extend(name.map(|name| (NAME.to_owned(), name)));
        annotations.insert(TAGGED.to_owned(), now.to_owned());
        // Noted here so that finding the referrers of a manifest reads no other manifest.
        if let Some(manifest) = self.manifest(&from.digest)? {
            let (subject, artifact_type) = match manifest.content {
                Content::Image(image) => {
                    let config = image.config.media_type;
                    let is_image =
                        config == media_type::OCI_CONFIG || config == media_type::DOCKER_CONFIG;
                    let by_config = Some(config).filter(|_| !is_image);
                    (image.subject, image.artifact_type.or(by_config))
                }
                Content::Index(index) => (index.subject, index.artifact_type),
            };
            entry.artifact_type = entry.artifact_type.or(artifact_type);
            annotations
                .extend(subject.map(|subject| (SUBJECT.to_owned(), subject.digest.to_string())));
        }
        Ok(entry)
    }
}

/// Returns the text under which a reference is kept.
fn stored_name(reference: &Reference) -> String {
    match &reference.digest {
        Some(digest) => format!("{}@{digest}", reference.repository),
        None => reference.clone().or_latest().to_string(),
    }
}

/// Reads a name. Other tools write short ones, such as `app`.
fn parse_name(text: &str) -> Option<Reference> {
    text.parse().ok().map(Reference::or_latest)
}

fn name_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations.get(NAME).map(String::as_str)
}

fn position(entries: &[Descriptor], wanted: &str) -> Option<usize> {
    let exactly = entries.iter().position(|entry| name_of(entry) == Some(wanted));
    exactly.or_else(|| {
        let is_wanted = |text: &str| parse_name(text).is_some_and(|r| stored_name(&r) == wanted);
        entries.iter().position(|entry| name_of(entry).is_some_and(is_wanted))
    })
}

fn place(entries: &mut Vec<Descriptor>, name: Option<&str>, mut fresh: Descriptor) {
    let has_image = |entries: &[Descriptor], digest: &Digest| {
        entries.iter().any(|entry| entry.digest == *digest)
    };
    let Some(name) = name else {
        if !has_image(entries, &fresh.digest) {
            entries.push(fresh);
        }
        return;
    };
    let repository = repository_of(name);
    let in_repository =
        |entry: &Descriptor| name_of(entry).is_some_and(|name| repository_of(name) == repository);
    if name.contains('@') {
        let is_there =
            |entry: &&mut Descriptor| entry.digest == fresh.digest && in_repository(entry);
        if let Some(there) = entries.iter_mut().find(is_there) {
            keep_purpose(there, &mut fresh);
            inherit(there, &fresh, &[INDEX, KEPT]);
            return;
        }
    }
    if let Some(at) = position(entries, name) {
        keep_purpose(&mut entries[at], &mut fresh);
        if entries[at].digest == fresh.digest {
            // The same image may be in a new index.
            inherit(&mut entries[at], &fresh, &[INDEX, KEPT]);
            return;
        }
        let mut loser = entries.remove(at);
        if loser.annotations.contains_key(KEPT) {
            let name = format!("{repository}@{}", loser.digest);
            loser.annotations.insert(NAME.to_owned(), name);
            entries.push(loser);
        } else if !has_image(entries, &loser.digest) {
            loser.annotations.remove(NAME);
            entries.push(loser);
        }
    }
    // A name ends being dangling, and being kept by digest in the same repository.
    entries.retain(|entry| {
        let is_lesser = entry.digest == fresh.digest
            && match name_of(entry) {
                None => true,
                Some(other) => other.contains('@') && in_repository(entry),
            };
        if is_lesser {
            inherit(&mut fresh, entry, &[KEPT]);
        }
        !is_lesser
    });
    entries.push(fresh);
}

/// Sees to it that what was or is named on purpose is not taken away.
fn keep_purpose(earlier: &mut Descriptor, fresh: &mut Descriptor) {
    let is_evictable = |entry: &Descriptor| entry.annotations.contains_key(EVICTABLE);
    if is_evictable(earlier) != is_evictable(fresh) {
        earlier.annotations.remove(EVICTABLE);
        fresh.annotations.remove(EVICTABLE);
    }
}

/// Takes over what annotations another entry of the same image has.
fn inherit(entry: &mut Descriptor, other: &Descriptor, keys: &[&str]) {
    for key in keys {
        if let Some(value) = other.annotations.get(*key) {
            entry.annotations.insert((*key).to_owned(), value.clone());
        }
    }
}

/// Returns the part of a stored name before the tag or digest.
fn repository_of(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(before, _)| before);
    let path = name.rfind('/').map_or(0, |at| at + 1);
    name[path..].find(':').map_or(name, |at| &name[..path + at])
}
