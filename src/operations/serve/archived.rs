//! Archives, bundles and layouts as what is served.

use std::path::Path;
use std::sync::Arc;

use crate::archive::{Archive, Name, Stored};
use crate::blob::Source;
use crate::image::{
    DEFAULT_REGISTRY, Descriptor, Digest, Reference, RegistryName, Repository, RepositoryName, Tag,
};
use crate::operations::Error;
use crate::serve::{Content, ContentError};
use crate::store::ImageEntry;

/// What a file is called that has no usable name of its own.
const NAMELESS: &str = "image";

/// The images of an archive.
pub(super) struct Archived {
    archive: Archive,
    images: Arc<[ImageEntry]>,
}

impl Archived {
    /// Opens what is at `path`. Images that have a tag but no whole name, as those of layouts, are
    /// of the repository that the file's name makes, in `own`. Blocks.
    pub(super) fn open(path: &Path, own: &RegistryName) -> Result<Self, Error> {
        let archive = Archive::open(path)?;
        let own = Repository { registry: own.clone(), name: repository_of(path) };
        let images = archive.images().iter().map(|image| entry(&archive, image, &own)).collect();
        Ok(Self { archive, images })
    }

    /// Returns the registries that a name without one may be of: `own`, docker's, and the others by
    /// their names.
    pub(super) fn registries(&self, own: RegistryName, hub: RegistryName) -> Vec<RegistryName> {
        let named = self.images.iter().filter_map(|image| image.name.as_ref());
        let mut others: Vec<_> = named.map(|name| name.registry().clone()).collect();
        others.sort();
        others.dedup();
        others.retain(|registry| *registry != own && registry.as_str() != DEFAULT_REGISTRY);
        [vec![own, hub], others].concat()
    }
}

impl Content for Archived {
    fn images(&self) -> Result<Arc<[ImageEntry]>, ContentError> {
        Ok(Arc::clone(&self.images))
    }

    fn blob(&self, digest: &Digest) -> Result<Option<Arc<dyn Source>>, ContentError> {
        let Some(size) = self.archive.size_of(digest) else { return Ok(None) };
        Ok(Some(self.archive.source(&Descriptor::new("", digest.clone(), size))?))
    }
}

fn entry(archive: &Archive, image: &Stored, own: &Repository) -> ImageEntry {
    let name = match &image.name {
        Some(Name::Whole(reference)) => Some(reference.clone()),
        Some(Name::Tag(tag)) => {
            let tag = tag.parse::<Tag>().ok();
            tag.map(|tag| Reference::tagged(own.clone(), tag))
        }
        None => None,
    };
    let subject = image.subject.clone().or_else(|| {
        // What cannot be read, as in a delta bundle, refers to nothing that one could know of.
        let manifest = archive.manifest(&image.descriptor.digest, None).ok()?;
        manifest.subject().map(|subject| subject.digest.clone())
    });
    let descriptor = image.descriptor.clone();
    ImageEntry { name, descriptor, tagged: None, subject, index: None, evictable: false }
}

/// Makes a repository's name of a file's: `My App.tar.gz` is `my-app`.
fn repository_of(path: &Path) -> RepositoryName {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let name = absolute.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let stem = name.split('.').next().unwrap_or_default();
    let words: Vec<_> =
        stem.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let name = if words.is_empty() { NAMELESS.to_owned() } else { words.join("-") };
    name.parse().expect("words of letters and digits with hyphens between them make a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_name_to_what_has_none() {
        for (path, expected) in [
            ("/a/app", "app"),
            ("/a/My App.tar.gz", "my-app"),
            ("/a/._x", "image"),
            ("/a/--app__2--.tar", "app-2"),
            ("/", "image"),
        ] {
            assert_eq!(repository_of(Path::new(path)).as_str(), expected, "{path}");
        }
    }
}
