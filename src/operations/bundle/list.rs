//! `bundle ls` and `bundle verify`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::archive::{Archive, Form, Stored};
use crate::image::{Content, Descriptor, Digest};
use crate::operations::session::blocking;
use crate::operations::{Error, Kind};

use super::closure::Closure;

/// One image of a bundle under one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundledImage {
    /// The name; an image without one is found by its digest.
    pub name: Option<String>,
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// Its platforms, as far as an index says.
    pub platforms: Vec<String>,
    /// Bytes of everything that it needs, left out or not.
    pub size_bytes: u64,
    /// How many signatures, attestations and the like refer to it or to its images.
    pub referrers: usize,
}

/// What is in a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleContent {
    /// The images, without what refers to others.
    pub images: Vec<BundledImage>,
    /// How many blobs it has, manifests too.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Of a delta, the inventory that it was made against.
    pub against: Option<String>,
    /// How many blobs a delta leaves out.
    pub left_out: usize,
    /// Their bytes.
    pub left_out_bytes: u64,
    /// Whether an addition was not finished.
    pub is_interrupted: bool,
}

/// Opens a bundle, or any other archive.
pub(super) fn open(path: &Path) -> Result<Archive, Error> {
    Archive::open(path)
        .map_err(|error| Error::from(error).about(format!("failed to read `{}`", path.display())))
}

/// Lists a bundle. Reads its manifests, no layer.
///
/// # Errors
///
/// When it cannot be read.
pub async fn list_bundle(path: PathBuf) -> Result<BundleContent, Error> {
    blocking(move || content(&open(&path)?)).await
}

fn content(archive: &Archive) -> Result<BundleContent, Error> {
    let subjects = subjects(archive);
    let mut images = Vec::new();
    for image in archive.images().iter().filter(|image| image.subject.is_none()) {
        images.push(describe(archive, image, &subjects)?);
    }
    let blobs = archive.blobs()?;
    let delta = archive.delta();
    Ok(BundleContent {
        images,
        blobs: blobs.len(),
        bytes: blobs.values().sum(),
        against: delta.map(|delta| delta.against.clone()),
        left_out: delta.map_or(0, |delta| delta.left_out.len()),
        left_out_bytes: delta.map_or(0, |it| it.left_out.iter().map(|blob| blob.size).sum()),
        is_interrupted: archive.is_interrupted(),
    })
}

fn subjects(archive: &Archive) -> BTreeMap<Digest, usize> {
    let mut subjects = BTreeMap::new();
    for subject in archive.images().iter().filter_map(|image| image.subject.as_ref()) {
        *subjects.entry(subject.clone()).or_default() += 1;
    }
    subjects
}

fn describe(
    archive: &Archive,
    image: &Stored,
    subjects: &BTreeMap<Digest, usize>,
) -> Result<BundledImage, Error> {
    let closure = Closure::of(archive, vec![image.descriptor.clone()])?;
    let manifest =
        archive.manifest(&image.descriptor.digest, Some(&image.descriptor.media_type))?;
    let platforms = match &manifest.content {
        Content::Index(index) => index.platforms().map(ToString::to_string).collect(),
        Content::Image(_) => Vec::new(),
    };
    let of = |digest: &Digest| subjects.get(digest).copied().unwrap_or(0);
    let left_out: u64 = closure.left_out.values().map(|it| it.size).sum();
    Ok(BundledImage {
        name: image.name.as_ref().map(ToString::to_string),
        descriptor: image.descriptor.clone(),
        platforms,
        size_bytes: closure.bytes() + left_out,
        referrers: closure.here.keys().map(of).sum(),
    })
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many names it has.
    pub images: usize,
    /// How many blobs were read.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong, each in one line.
    pub faults: Vec<String>,
    /// How many blobs it leaves out on purpose.
    pub left_out: usize,
    /// Whether an addition was not finished.
    pub is_interrupted: bool,
}

/// Reads everything in a bundle or other archive, and compares it with its digest; of a bundle, also
/// every byte in between. Looks whether anything that an image needs is missing. All faults are found.
///
/// # Errors
///
/// When it cannot be opened at all.
pub async fn verify_bundle(path: PathBuf) -> Result<Verified, Error> {
    blocking(move || verify(&open(&path)?)).await
}

fn verify(archive: &Archive) -> Result<Verified, Error> {
    let blobs = archive.blobs()?;
    let mut faults = Vec::new();
    for (digest, size) in &blobs {
        let descriptor = Descriptor::new("", digest.clone(), *size);
        if let Err(error) = archive.verify_blob(&descriptor) {
            faults.push(text(error.into())?);
        }
    }
    if let Err(error) = archive.verify_frame() {
        faults.push(text(error.into())?);
    }
    let mut left_out = 0;
    for image in archive.images() {
        match Closure::of(archive, vec![image.descriptor.clone()]) {
            Ok(closure) => {
                let name = image.name.as_ref().map(ToString::to_string);
                let name = name.unwrap_or_else(|| image.descriptor.digest.to_string());
                let missing = closure.missing.keys();
                faults.extend(missing.map(|digest| format!("`{name}` lacks {digest}")));
            }
            Err(error) => faults.push(text(error)?),
        }
    }
    left_out += archive.delta().map_or(0, |delta| delta.left_out.len());
    faults.dedup();
    Ok(Verified {
        images: archive.images().len(),
        blobs: blobs.len(),
        bytes: blobs.values().sum(),
        faults,
        left_out,
        is_interrupted: archive.is_interrupted() && archive.form() == Form::Bundle,
    })
}

/// Returns what an error says is wrong with the archive; gives back one that is not about it.
fn text(error: Error) -> Result<String, Error> {
    match error.kind {
        Kind::Integrity | Kind::NotFound => Ok(error.to_string()),
        _ => Err(error),
    }
}
