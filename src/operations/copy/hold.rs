//! What holds the parts of a copy: a repository, the store, an archive.

use crate::archive::{Name, Stored};
use crate::image::{Descriptor, Digest, Manifest, Reference, RegistryName, Repository, Tag};
use crate::operations::session::blocking;
use crate::operations::{Error, Session};

use super::archive::ArchiveTarget;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hold {
    Repository(Repository),
    Store,
    Archive(ArchiveTarget),
}

/// Where a blob has to be brought only once: holds of one site share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Site {
    Registry(RegistryName),
    Store,
    Archive(usize),
}

impl Hold {
    pub(super) fn site(&self) -> Site {
        match self {
            Self::Repository(repository) => Site::Registry(repository.registry.clone()),
            Self::Store => Site::Store,
            Self::Archive(target) => Site::Archive(target.id()),
        }
    }

    pub(super) fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Repository(repository) => Some(repository),
            Self::Store | Self::Archive(_) => None,
        }
    }

    /// Returns whether what refers to an image is kept here: the store has no place for what has
    /// no name.
    pub(super) fn keeps_companions(&self) -> bool {
        *self != Self::Store
    }

    /// Puts a manifest there by its digest.
    pub(super) async fn put(&self, session: &Session, manifest: &Manifest) -> Result<(), Error> {
        match self {
            Self::Repository(repository) => {
                let digest = manifest.digest.clone();
                let name = Reference::by_digest(repository.clone(), digest);
                Ok(session.client.push_manifest(&name, manifest).await?)
            }
            Self::Store => {
                let (store, manifest) = (session.store.clone(), manifest.clone());
                blocking(move || store.put_manifest(&manifest)).await
            }
            Self::Archive(target) => target.put(manifest).await,
        }
    }

    /// Puts what belongs to an image, which is found by its subject or by its tag.
    pub(super) async fn put_companion(
        &self,
        session: &Session,
        manifest: &Manifest,
        found_by: &FoundBy,
        image: Option<&Reference>,
    ) -> Result<(), Error> {
        match (self, found_by) {
            (Self::Repository(repository), FoundBy::Tag(tag)) => {
                let name = Reference::tagged(repository.clone(), tag.clone());
                Ok(session.client.push_manifest(&name, manifest).await?)
            }
            (Self::Archive(target), _) => {
                target.put(manifest).await?;
                target.add(found_by.stored(manifest.descriptor(), image));
                Ok(())
            }
            (Self::Repository(_) | Self::Store, _) => self.put(session, manifest).await,
        }
    }
}

/// By what something is found that belongs to an image.
#[derive(Debug, Clone)]
pub(super) enum FoundBy {
    /// By the manifest that it refers to.
    Subject(Digest),
    /// By a tag made of that manifest's digest.
    Tag(Tag),
}

impl FoundBy {
    fn stored(&self, descriptor: Descriptor, image: Option<&Reference>) -> Stored {
        match (self, image) {
            (Self::Subject(subject), _) => {
                Stored { descriptor, name: None, subject: Some(subject.clone()) }
            }
            (Self::Tag(tag), Some(image)) => {
                Stored::named(descriptor, Reference::tagged(image.repository.clone(), tag.clone()))
            }
            (Self::Tag(tag), None) => {
                Stored { descriptor, name: Some(Name::Tag(tag.to_string())), subject: None }
            }
        }
    }
}
