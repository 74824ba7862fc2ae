//! Images of an archive and their names: the entries of an `index.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::image::{Descriptor, Digest, Index, Reference, media_type};

/// The name of an image in a layout (OCI image-spec, annotations.md): for most tools a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The whole name, as containerd and docker write and read it.
const WHOLE_NAME: &str = "io.containerd.image.name";
/// The manifest that a nameless one refers to, so that no manifest has to be read to know it.
const SUBJECT: &str = "rpub.subject";

/// `oci-layout` (OCI image-spec, image-layout.md).
pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image of an archive under one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// The name; an image without one is found by its digest.
    pub name: Option<Name>,
    /// The manifest that this one refers to, as signatures do, where the archive notes it.
    pub subject: Option<Digest>,
}

/// The name of an image in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// A whole name, with a tag or a digest.
    Whole(Reference),
    /// A tag alone, or what else a tool wrote.
    Tag(String),
}

impl Name {
    /// Returns the whole name, when it is known.
    #[must_use]
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Whole(reference) => Some(reference),
            Self::Tag(_) => None,
        }
    }

    /// Returns the tag, when there is one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match self {
            Self::Whole(reference) => reference.tag.as_ref().map(crate::image::Tag::as_str),
            Self::Tag(text) => Some(text),
        }
    }

    /// Reads a name that some tool wrote.
    fn read(text: &str) -> Self {
        let is_whole = text.contains(['/', ':', '@']);
        match text.parse::<Reference>() {
            Ok(reference) if is_whole => Self::Whole(reference.or_latest()),
            _ => Self::Tag(text.to_owned()),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(reference) => formatter.write_str(&reference.familiar()),
            Self::Tag(text) => formatter.write_str(text),
        }
    }
}

impl Stored {
    /// Returns an image with a whole name; without tag and digest it is `latest`.
    #[must_use]
    pub fn named(descriptor: Descriptor, name: Reference) -> Self {
        Self { descriptor, name: Some(Name::Whole(name.or_latest())), subject: None }
    }

    /// Returns an image without a name.
    #[must_use]
    pub fn nameless(descriptor: Descriptor) -> Self {
        Self { descriptor, name: None, subject: None }
    }

    /// Reads an entry of an `index.json`.
    pub(super) fn of_entry(entry: &Descriptor) -> Self {
        let mut descriptor = entry.clone();
        let mut take = |key| descriptor.annotations.remove(key);
        let (short, whole, subject) = (take(REF_NAME), take(WHOLE_NAME), take(SUBJECT));
        let whole = whole.and_then(|text| text.parse::<Reference>().ok());
        let name = match (whole, short) {
            (Some(whole), _) => Some(Name::Whole(whole.or_latest())),
            (None, Some(short)) => Some(Name::read(&short)),
            (None, None) => None,
        };
        Self { descriptor, name, subject: subject.and_then(|text| text.parse().ok()) }
    }

    fn entry(&self, short: Option<String>) -> Descriptor {
        let mut entry = self.descriptor.clone();
        let whole = self.name.as_ref().and_then(Name::reference).map(ToString::to_string);
        let subject = self.subject.as_ref().map(ToString::to_string);
        for (key, value) in [(REF_NAME, short), (WHOLE_NAME, whole), (SUBJECT, subject)] {
            entry.annotations.extend(value.map(|value| (key.to_owned(), value)));
        }
        entry
    }
}

/// Returns what a user who writes `text` means, each image once: a whole name, a tag, a digest.
pub(super) fn find<'a>(images: &'a [Stored], text: &str) -> Vec<&'a Stored> {
    let whole = text.parse::<Reference>().ok().map(Reference::or_latest);
    let is_whole = |image: &Stored| {
        let reference = image.name.as_ref().and_then(Name::reference);
        reference.is_some() && reference == whole.as_ref()
    };
    let has_tag = |image: &Stored| image.name.as_ref().and_then(Name::tag) == Some(text);
    let digest = text.rsplit_once('@').map_or(text, |(_, digest)| digest);
    let has_digest = |image: &Stored| image.descriptor.digest.to_string() == digest;
    let meanings: [&dyn Fn(&Stored) -> bool; 3] = [&has_tag, &is_whole, &has_digest];
    for is_meant in meanings {
        let found = distinct(images.iter().filter(|image| is_meant(image)));
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// Returns each image once, whatever its names.
pub(super) fn distinct<'a>(images: impl Iterator<Item = &'a Stored>) -> Vec<&'a Stored> {
    let mut seen = BTreeSet::new();
    images.filter(|image| seen.insert(&image.descriptor.digest)).collect()
}

/// Returns the names of images, for messages.
pub(super) fn names<'a>(images: impl Iterator<Item = &'a Stored>) -> Vec<String> {
    images.filter_map(|image| image.name.as_ref().map(ToString::to_string)).collect()
}

/// What other tools find images by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShortNames {
    /// Tags, unless two images have the same.
    Tags,
    /// Whole names.
    Whole,
}

/// Returns the images of both, without earlier ones whose name a fresh one has.
pub(super) fn merged(earlier: &[Stored], fresh: &[Stored]) -> Vec<Stored> {
    let key = |image: &Stored| match &image.name {
        Some(Name::Whole(reference)) => reference.to_string(),
        Some(Name::Tag(tag)) => tag.clone(),
        None => image.descriptor.digest.to_string(),
    };
    let mut by_key: BTreeMap<String, usize> = BTreeMap::new();
    let mut images: Vec<Stored> = Vec::new();
    for image in earlier.iter().chain(fresh) {
        let at = *by_key.entry(key(image)).or_insert(images.len());
        if at == images.len() {
            images.push(image.clone());
        } else {
            images[at] = image.clone();
        }
    }
    // Whoever asks for a bare tag means the one that was written last under it.
    let is_taken =
        |tag: &str| fresh.iter().any(|image| image.name.as_ref().and_then(Name::tag) == Some(tag));
    let named: BTreeSet<Digest> = (images.iter().filter(|image| image.name.is_some()))
        .map(|image| image.descriptor.digest.clone())
        .collect();
    images.retain(|image| match &image.name {
        Some(Name::Tag(tag)) => fresh.contains(image) || !is_taken(tag),
        Some(Name::Whole(_)) => true,
        None => image.subject.is_some() || !named.contains(&image.descriptor.digest),
    });
    images
}

/// Returns the bytes of the `index.json` of these images.
pub(super) fn index_json(images: &[Stored], style: ShortNames) -> Vec<u8> {
    let mut tags: BTreeMap<&str, BTreeSet<&Digest>> = BTreeMap::new();
    for image in images {
        if let Some(tag) = image.name.as_ref().and_then(Name::tag) {
            tags.entry(tag).or_default().insert(&image.descriptor.digest);
        }
    }
    let short = |name: &Name| match (name, name.tag()) {
        (Name::Tag(text), _) => text.clone(),
        (_, Some(tag)) if style == ShortNames::Tags && tags[tag].len() == 1 => tag.to_owned(),
        (Name::Whole(reference), _) => reference.to_string(),
    };
    let entries = images.iter().map(|image| image.entry(image.name.as_ref().map(short)));
    to_json(&Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        artifact_type: None,
        manifests: entries.collect(),
        subject: None,
        annotations: BTreeMap::new(),
    })
}

/// Returns the path of a blob in a layout.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

pub(super) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("these types serialise to JSON")
}
