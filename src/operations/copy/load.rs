//! `load`: the images of an archive into the store.

use std::io;
use std::path::PathBuf;

use crate::archive::{Archive, Name, Stored};
use crate::image::{Digest, Platform, media_type};
use crate::operations::place::{Place, Top};
use crate::operations::session::blocking;
use crate::operations::{Error, Kind, Session};

use super::carrier::Carrier;
use super::delivery::CopyTarget;
use super::image::{CopiedImage, CopyOptions, copy_top_to};

/// Where an archive is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadSource {
    /// A file or a layout's directory.
    Path(PathBuf),
    /// Standard input.
    Stdin,
}

/// One image that was loaded.
#[derive(Debug)]
pub struct LoadedImage {
    /// What the archive calls it.
    pub name: Option<Name>,
    /// What became of it.
    pub outcome: Result<CopiedImage, Error>,
}

/// Copies every image of an archive into the store, under its name where that is a whole one. Of an
/// index, only the images for `platforms`, if any are given.
///
/// # Errors
///
/// When the archive cannot be read. What is wrong with one image harms no other.
pub async fn load(
    session: &Session,
    source: &LoadSource,
    platforms: &[Platform],
) -> Result<Vec<LoadedImage>, Error> {
    let (label, archive) = open(source).await?;
    let carrier = Carrier::new(session);
    let options = CopyOptions { platforms: platforms.to_vec(), ..CopyOptions::default() };
    let mut loaded = Vec::new();
    for image in archive.images().iter().filter(|image| is_loaded(image)) {
        let Stored { descriptor, name, .. } = image;
        let about = |error: Error| match name {
            Some(name) => error.about(format!("failed to load `{name}`")),
            None => error.about(format!("failed to load {}", descriptor.digest)),
        };
        let place = Place::Archive(archive.clone());
        let kind = Some(descriptor.media_type.as_str());
        let outcome = match place.manifest(session, &descriptor.digest, kind).await {
            Ok(manifest) => {
                let top = Top { name: label.clone(), place, manifest };
                let whole = name.as_ref().and_then(Name::reference).cloned();
                let target = CopyTarget::Store(whole.filter(|name| name.digest.is_none()));
                copy_top_to(&carrier, &top, target, &options).await
            }
            Err(error) => Err(error),
        };
        loaded.push(LoadedImage { name: name.clone(), outcome: outcome.map_err(about) });
    }
    if loaded.is_empty() {
        return Err(Error::new(Kind::NotFound, format!("`{label}` has no image")));
    }
    Ok(loaded)
}

/// Returns whether it is an image, rather than something about one.
fn is_loaded(image: &Stored) -> bool {
    let kind = &image.descriptor.media_type;
    let is_tag_of_digest = |name: &Name| name.tag().and_then(Digest::of_tag).is_some();
    image.subject.is_none()
        && (media_type::is_index(kind) || media_type::is_manifest(kind))
        && !image.name.as_ref().is_some_and(is_tag_of_digest)
}

async fn open(source: &LoadSource) -> Result<(String, Archive), Error> {
    let source = source.clone();
    let label = match &source {
        LoadSource::Path(path) => path.display().to_string(),
        LoadSource::Stdin => "standard input".to_owned(),
    };
    let opened = blocking(move || match source {
        LoadSource::Path(path) => Archive::open(&path),
        LoadSource::Stdin => Archive::from_reader(io::stdin(), "standard input".as_ref()),
    });
    match opened.await {
        Ok(archive) => Ok((label, archive)),
        Err(error) => Err(error.about(format!("failed to read `{label}`"))),
    }
}
