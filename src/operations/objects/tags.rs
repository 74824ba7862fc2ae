//! `tag rm`: tags go, images stay.
//!
//! The specification lets a tag be deleted; many registries cannot. The ladder, each step where the
//! one before is not understood:
//!
//! 1. `DELETE` of the tag.
//! 2. A stand-in, a small image of its own digest, gets the tag and is deleted by digest, with which
//!    its tag goes (distribution 2). Whether the registry deletes by digest at all is tried first on
//!    another stand-in without a tag, so that the tag does not end on a stand-in for nothing.
//! 3. Where the tag cannot be moved, the image itself is deleted, if no other tag stands for it or the
//!    user says so.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use serde_json::json;

use crate::blob::BytesSource;
use crate::event::TransferId;
use crate::image::{
    Descriptor, Digest, ImageManifest, Manifest, Reference, Repository, Tag, media_type,
};
use crate::operations::{Error, Kind, Session};
use crate::registry::Untagged;

/// How many tags are asked for their digest at once.
const QUESTIONS: usize = 8;
/// Most tags that are asked for their digest before an image is deleted.
const MAX_ASKED: usize = 5_000;

/// How a tag was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UntaggedBy {
    /// The registry deleted it.
    Tag,
    /// It was moved to a stand-in, which was deleted.
    StandIn,
    /// The image was deleted, with its tags.
    Digest,
}

/// Removes a tag from its registry. `force` lets an image be deleted that other tags stand for.
///
/// # Errors
///
/// [`Kind::NotFound`] when there is no such tag, [`Kind::User`] when the registry has no way; else
/// whatever the registry says. The tag then stands for what it stood for.
pub async fn remove_tag(
    session: &Session,
    name: &Reference,
    force: bool,
) -> Result<UntaggedBy, Error> {
    let what = format!("failed to remove the tag `{}`", name.familiar());
    remove(session, name, force).await.map_err(|error| error.about(what))
}

async fn remove(session: &Session, name: &Reference, force: bool) -> Result<UntaggedBy, Error> {
    let (repository, tag) = (&name.repository, name.tag_or_latest());
    let name = Reference::tagged(repository.clone(), tag.clone());
    let found = session.client.resolve(&name).await?;
    match session.client.delete_tag(repository, &tag).await? {
        Untagged::Done => Ok(UntaggedBy::Tag),
        Untagged::Unsupported => without_tags(session, &name, &tag, &found.digest, force).await,
    }
}

/// Steps 2 and 3 of the ladder.
async fn without_tags(
    session: &Session,
    name: &Reference,
    tag: &Tag,
    digest: &Digest,
    force: bool,
) -> Result<UntaggedBy, Error> {
    let repository = &name.repository;
    let original = session.client.manifest(name).await?;
    let probe = stand_in(session, repository, &original, "probe").await?;
    session.client.push_manifest_tags(repository, &probe, &[]).await?;
    if let Err(error) = session.client.delete_manifest(repository, &probe.digest).await {
        return Err(Error::from(error)
            .about("the registry deletes neither tags nor manifests")
            .hint("deletion may be off there: for distribution, `storage.delete.enabled`"));
    }
    let stand_in = stand_in(session, repository, &original, tag.as_str()).await?;
    let moved =
        session.client.push_manifest_tags(repository, &stand_in, std::slice::from_ref(tag)).await;
    if let Err(error) = moved {
        // After a failure of any other kind the tag may stand for either.
        if error.status().is_none_or(|status| !status.is_client_error()) {
            session
                .client
                .push_manifest_tags(repository, &original, std::slice::from_ref(tag))
                .await?;
            return Err(error.into());
        }
        tracing::debug!(%error, "the tag cannot be moved");
        return by_digest(session, repository, tag, digest, force).await;
    }
    if let Err(error) = session.client.delete_manifest(repository, &stand_in.digest).await {
        session.client.push_manifest_tags(repository, &original, std::slice::from_ref(tag)).await?;
        return Err(error.into());
    }
    Ok(UntaggedBy::StandIn)
}

/// Makes a small image that nobody else has, of the family of `like`; pushes its config.
async fn stand_in(
    session: &Session,
    repository: &Repository,
    like: &Manifest,
    purpose: &str,
) -> Result<Manifest, Error> {
    let is_docker = like.media_type.contains("docker");
    let (manifest_type, config_type) = if is_docker {
        (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG)
    } else {
        (media_type::OCI_MANIFEST, media_type::OCI_CONFIG)
    };
    let now = jiff::Timestamp::now().to_string();
    let note = format!("stand-in of process {} to remove a tag: {purpose}", std::process::id());
    let config = json!({
        "created": now,
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {"rpub.stand-in": note}},
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    let bytes = Bytes::from(config.to_string());
    let descriptor = Descriptor::of(config_type, &bytes);
    let source = Arc::new(BytesSource(bytes));
    session.client.push_blob(repository, &descriptor, source, &[], TransferId::next()).await?;
    Ok(Manifest::from_image(ImageManifest {
        schema_version: 2,
        media_type: Some(manifest_type.to_owned()),
        artifact_type: None,
        config: descriptor,
        layers: Vec::new(),
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    }))
}

/// Step 3: deletes the image, unless others need it.
async fn by_digest(
    session: &Session,
    repository: &Repository,
    tag: &Tag,
    digest: &Digest,
    force: bool,
) -> Result<UntaggedBy, Error> {
    if !force {
        let others = sharers(session, repository, tag, digest).await?;
        if !others.is_empty() {
            let others: Vec<&str> = others.iter().map(Tag::as_str).collect();
            let message = format!(
                "the registry can only delete the image {digest}, for which other tags stand too: {}",
                others.join(", ")
            );
            return Err(Error::new(Kind::User, message).hint("delete all of them with `--force`"));
        }
    }
    session.client.delete_manifest(repository, digest).await?;
    Ok(UntaggedBy::Digest)
}

/// Returns the other tags that stand for `digest`.
async fn sharers(
    session: &Session,
    repository: &Repository,
    tag: &Tag,
    digest: &Digest,
) -> Result<Vec<Tag>, Error> {
    let mut pages = session.client.tags(repository, None);
    let mut others: Vec<Tag> = Vec::new();
    while let Some(names) = pages.next().await? {
        let tags = names.iter().filter_map(|name| name.parse().ok());
        others.extend(tags.filter(|other| other != tag));
        if others.len() > MAX_ASKED {
            let message =
                format!("there are more than {MAX_ASKED} tags that may stand for {digest}");
            return Err(Error::new(Kind::User, message)
                .hint("delete the image whatever its tags are with `--force`"));
        }
    }
    let asked = others.into_iter().map(async |other| {
        let name = Reference::tagged(repository.clone(), other.clone());
        match session.client.resolve(&name).await.map_err(Error::from) {
            Ok(found) => Ok((found.digest == *digest).then_some(other)),
            // Somebody else was faster.
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    });
    let found: Vec<Result<Option<Tag>, Error>> =
        stream::iter(asked).buffered(QUESTIONS).collect().await;
    Ok(found.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}
