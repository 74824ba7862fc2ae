//! Images of layouts, archives and bundles as bases.

use std::io;
use std::path::PathBuf;

use crate::archive::Archive;
use crate::blob::VerifyingReader;
use crate::build::{Base, BaseImage};
use crate::image::{Content, Descriptor, ImageConfig, Platform, Reference};
use crate::store::Store;

use super::build::LayoutImage;
use super::place::top_of;
use super::resolve::{MAX_CONFIG_BYTES, Resolved};
use super::session::blocking;
use super::{Error, Kind, Session};

/// Resolves `wanted` in the layout, and brings all of it into the store, verified on its way. The
/// result's reference has no tag: it is not where the image came from.
pub(super) async fn resolve_in_layout(
    session: &Session,
    path: PathBuf,
    image: LayoutImage,
    wanted: &BaseImage,
) -> Result<Base, Error> {
    let (store, platform) = (session.store.clone(), wanted.platform.clone());
    let resolved = blocking(move || {
        let about = format!("failed to read the image layout `{}`", path.display());
        let opened = Archive::open(&path).map_err(Error::from);
        let brought = opened.and_then(|archive| bring(&archive, &store, &image, &platform));
        brought.map_err(|error| error.about(about))
    })
    .await?;
    let reference =
        Reference::by_digest(wanted.reference.repository.clone(), resolved.manifest.digest.clone());
    Ok(Base {
        reference,
        manifest: resolved.descriptor(),
        layers: resolved.layers()?,
        config: resolved.config,
    })
}

/// Brings one image of an archive into the store.
fn bring(
    archive: &Archive,
    store: &Store,
    image: &LayoutImage,
    platform: &Platform,
) -> Result<Resolved, Error> {
    let name = match image {
        LayoutImage::Tag(tag) => tag.clone(),
        LayoutImage::Digest(digest) => digest.to_string(),
    };
    let mut manifest = top_of(archive, Some(&name))?;
    if let Content::Index(index) = &manifest.content {
        let Some(entry) = index.choose(platform) else {
            let platforms: Vec<String> = index.platforms().map(ToString::to_string).collect();
            let message = format!("it has no image for {platform}");
            return Err(Error::new(Kind::NotFound, message)
                .hint(format!("it has {}", platforms.join(", "))));
        };
        manifest = archive.manifest(&entry.digest, Some(&entry.media_type))?;
    }
    let Some(image) = manifest.as_image().cloned() else {
        return Err(Error::new(Kind::Integrity, "it has an index inside an index"));
    };
    let config = archive.read(&image.config.digest, MAX_CONFIG_BYTES)?;
    let parsed = ImageConfig::parse(&config)?;
    for blob in image.layers.iter().chain([&image.config]) {
        copy(archive, store, blob)?;
    }
    store.put_manifest(&manifest)?;
    Ok(Resolved { index: None, manifest, image, config: parsed })
}

/// Brings a blob into the store.
fn copy(archive: &Archive, store: &Store, blob: &Descriptor) -> Result<(), Error> {
    if store.has_blob(&blob.digest) {
        return Ok(());
    }
    let unreadable = |error: crate::archive::Error| {
        Error::from(error).about(format!("its blob {} cannot be read", blob.digest))
    };
    let reader = archive.source(blob).and_then(|source| Ok(source.open(0)?)).map_err(unreadable)?;
    let mut reader = VerifyingReader::new(reader, blob.clone());
    let ingest = store.ingest_file()?;
    let mut output = ingest.file();
    io::copy(&mut reader, &mut output).map_err(|error| unreadable(error.into()))?;
    Ok(store.adopt(ingest, &blob.digest, blob.size)?)
}
