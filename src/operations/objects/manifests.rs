//! `manifest get|head|put|rm` and `digest`: exact bytes in and out.

use futures_util::stream::{self, StreamExt as _};

use crate::image::{
    Content, Descriptor, Digest, MAX_MANIFEST_BYTES, Manifest, Platform, Reference, Repository, Tag,
};
use crate::operations::{Error, Kind, Session};

/// How many questions about the parts of one manifest are under way at once.
const QUESTIONS: usize = 8;

/// A manifest to be pushed.
#[derive(Debug, Clone)]
pub struct ManifestToPut {
    /// The repository, and the digest that the bytes must have when one is given.
    pub name: Reference,
    /// The exact bytes.
    pub bytes: Vec<u8>,
    /// The media type, for bytes that do not say it.
    pub media_type: Option<String>,
    /// The tags to give; none to push by digest alone.
    pub tags: Vec<Tag>,
}

/// Returns the manifest or index that `name` stands for; of an index, the manifest for `platform`
/// when one is given.
///
/// # Errors
///
/// [`Kind::NotFound`] when there is no such manifest, or none for the platform; else whatever the
/// registry says.
pub async fn get_manifest(
    session: &Session,
    name: &Reference,
    platform: Option<&Platform>,
) -> Result<Manifest, Error> {
    let manifest = session.client.manifest(name).await?;
    match chosen(&manifest, name, platform)? {
        None => Ok(manifest),
        Some(entry) => {
            let entry = Reference::by_digest(name.repository.clone(), entry.digest.clone());
            Ok(session.client.manifest(&entry).await?)
        }
    }
}

/// Returns the descriptor of what [`get_manifest`] returns. Asks by `HEAD`, unless an index has to be
/// read for its platforms.
///
/// # Errors
///
/// Those of [`get_manifest`].
pub async fn head_manifest(
    session: &Session,
    name: &Reference,
    platform: Option<&Platform>,
) -> Result<Descriptor, Error> {
    let descriptor = session.client.resolve(name).await?;
    if platform.is_none() || !crate::image::media_type::is_index(&descriptor.media_type) {
        return Ok(descriptor);
    }
    let by_digest = Reference::by_digest(name.repository.clone(), descriptor.digest.clone());
    let index = session.client.manifest(&by_digest).await?;
    let entry = chosen(&index, name, platform)?.cloned();
    Ok(entry.map_or(descriptor, |entry| Descriptor { platform: None, ..entry }))
}

/// Returns the entry of an index that is wanted instead of it.
fn chosen<'a>(
    manifest: &'a Manifest,
    name: &Reference,
    platform: Option<&Platform>,
) -> Result<Option<&'a Descriptor>, Error> {
    let (Some(platform), Content::Index(index)) = (platform, &manifest.content) else {
        return Ok(None);
    };
    index.choose(platform).map(Some).ok_or_else(|| {
        let platforms: Vec<String> = index.platforms().map(ToString::to_string).collect();
        let message = format!("`{}` has no image for {platform}", name.familiar());
        Error::new(Kind::NotFound, message).hint(format!("it has {}", platforms.join(", ")))
    })
}

/// Pushes a manifest's exact bytes. Everything that it names must be in the repository.
///
/// # Errors
///
/// [`Kind::User`] for bytes that are no manifest, [`Kind::Integrity`] when they have not the digest
/// asked for, [`Kind::NotFound`] naming the first part that is missing; else whatever the registry
/// says.
pub async fn put_manifest(session: &Session, put: ManifestToPut) -> Result<Descriptor, Error> {
    let name = put.name.familiar();
    if put.bytes.len() > MAX_MANIFEST_BYTES {
        let message = format!("the manifest has more than {MAX_MANIFEST_BYTES} bytes");
        return Err(Error::new(Kind::User, message));
    }
    let mut manifest = Manifest::parse(put.bytes, put.media_type.as_deref())
        .map_err(|error| Error::from(error).about("the manifest cannot be pushed"))?;
    if let Some(expected) = &put.name.digest {
        let actual = expected.of_same_algorithm(&manifest.bytes);
        if actual != *expected {
            let message = format!("the manifest has the digest {actual}, not {expected}");
            return Err(Error::new(Kind::Integrity, message));
        }
        manifest.digest = actual;
    }
    let repository = &put.name.repository;
    check_parts(session, repository, &manifest).await?;
    let pushed = session.client.push_manifest_tags(repository, &manifest, &put.tags).await;
    pushed.map_err(|error| Error::from(error).about(format!("failed to push `{name}`")))?;
    Ok(manifest.descriptor())
}

/// Finds the first part of a manifest that the repository lacks.
pub(in crate::operations) async fn check_parts(
    session: &Session,
    repository: &Repository,
    manifest: &Manifest,
) -> Result<(), Error> {
    let is_index = matches!(manifest.content, Content::Index(_));
    let checks = manifest.parts().map(|part| check_part(session, repository, part, is_index));
    let mut checks = stream::iter(checks).buffered(QUESTIONS);
    while let Some(checked) = checks.next().await {
        checked?;
    }
    Ok(())
}

async fn check_part(
    session: &Session,
    repository: &Repository,
    part: &Descriptor,
    is_manifest: bool,
) -> Result<(), Error> {
    let digest = &part.digest;
    let size = if is_manifest {
        let name = Reference::by_digest(repository.clone(), digest.clone());
        match session.client.resolve_at_destination(&name).await.map_err(Error::from) {
            Ok(found) => Some(found.size),
            Err(error) if error.kind == Kind::NotFound => None,
            Err(error) => return Err(error),
        }
    } else {
        session.client.blob_exists_at_destination(repository, digest).await?
    };
    let (what, command) = if is_manifest { ("manifest", "manifest") } else { ("blob", "blob") };
    let repository = repository.familiar();
    match size {
        Some(size) if size == part.size => Ok(()),
        Some(size) => {
            let message = format!(
                "the {what} {digest} in `{repository}` has {size} bytes, not the {} that the \
                 manifest says",
                part.size
            );
            Err(Error::new(Kind::Integrity, message))
        }
        None => {
            let message = format!("the manifest needs {what} {digest}, which `{repository}` lacks");
            let hint = format!("push it first: `rpub {command} put {repository} FILE`");
            Err(Error::new(Kind::NotFound, message).hint(hint))
        }
    }
}

/// Removes a manifest, with all its tags, from its registry. Returns its digest.
///
/// # Errors
///
/// [`Kind::NotFound`] when there is no such manifest; else whatever the registry says.
pub async fn remove_manifest(session: &Session, name: &Reference) -> Result<Digest, Error> {
    let digest = match &name.digest {
        Some(digest) => digest.clone(),
        None => session.client.resolve(name).await?.digest,
    };
    let removed = session.client.delete_manifest(&name.repository, &digest).await;
    removed.map_err(|error| {
        Error::from(error).about(format!("failed to remove `{}`", name.familiar()))
    })?;
    Ok(digest)
}
