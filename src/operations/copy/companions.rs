//! What belongs to an image without being part of it: signatures, attestations, software bills.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::archive::{Archive, Stored};
use crate::image::{Descriptor, Digest, Manifest, Reference, Repository, Tag};
use crate::operations::Error;
use crate::operations::place::Place;
use crate::operations::session::blocking;
use crate::registry::ReferrersSource;

use super::carrier::Carrier;
use super::hold::FoundBy;
use super::image::{Carry, CopyOptions};
use super::tree::Tree;

/// The endings of the tags by which cosign finds what it has stored about a digest.
const DIGEST_TAGS: [&str; 3] = ["sig", "att", "sbom"];
/// How many are asked for at once.
const QUESTIONS: usize = 8;
/// How far referrers of referrers are followed: a signature of an attestation of an image.
const MAX_DEPTH: usize = 4;
/// How many belong to one image at most.
const MAX_COMPANIONS: usize = 2048;

/// One of them.
#[derive(Debug)]
pub(super) struct Companion {
    pub(super) tree: Tree,
    pub(super) found_by: FoundBy,
}

impl Companion {
    pub(super) fn is_tagged(&self) -> bool {
        matches!(self.found_by, FoundBy::Tag(_))
    }
}

/// A manifest that belongs to another one.
type Found = (Manifest, FoundBy);

/// Finds everything that belongs to the manifests of `tree`.
pub(super) async fn find(
    carrier: &Carrier,
    place: &Place,
    tree: &Tree,
    options: &CopyOptions,
) -> Result<Vec<Companion>, Error> {
    let mut found: Vec<Companion> = Vec::new();
    let mut subjects: Vec<Digest> =
        tree.manifests().map(|manifest| manifest.digest.clone()).collect();
    let mut seen: BTreeSet<Digest> = subjects.iter().cloned().collect();
    for _ in 0..MAX_DEPTH {
        let asked = subjects.iter().map(|subject| about(carrier, place, subject, options));
        let answers: Vec<Vec<Found>> =
            stream::iter(asked).buffered(QUESTIONS).try_collect().await?;
        subjects.clear();
        for (manifest, found_by) in answers.into_iter().flatten() {
            let is_new = seen.insert(manifest.digest.clone());
            if !is_new && matches!(found_by, FoundBy::Subject(_)) {
                continue;
            }
            if is_new {
                subjects.push(manifest.digest.clone());
            }
            let session = &carrier.session;
            let tree = Tree::load(session, place, manifest, &[], options.foreign).await?;
            found.push(Companion { tree, found_by });
        }
        if subjects.is_empty() || found.len() > MAX_COMPANIONS {
            break;
        }
    }
    found.truncate(MAX_COMPANIONS);
    Ok(found)
}

/// Returns what belongs to one manifest.
async fn about(
    carrier: &Carrier,
    place: &Place,
    subject: &Digest,
    options: &CopyOptions,
) -> Result<Vec<Found>, Error> {
    let repository = match place {
        Place::Repository(repository) => repository,
        Place::Archive(archive) => {
            let (archive, subject, options) = (archive.clone(), subject.clone(), options.clone());
            return blocking(move || in_archive(&archive, &subject, &options)).await;
        }
        Place::Store => return Ok(Vec::new()),
    };
    let mut found = Vec::new();
    if options.referrers == Carry::Yes {
        for manifest in referrers(carrier, repository, subject, options).await? {
            found.push((manifest, FoundBy::Subject(subject.clone())));
        }
    }
    if options.digest_tags == Carry::Yes {
        found.extend(digest_tags(carrier, repository, subject).await?);
    }
    Ok(found)
}

/// Finds in an archive what belongs to one manifest. Blocks.
fn in_archive(
    archive: &Archive,
    subject: &Digest,
    options: &CopyOptions,
) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for image in archive.images() {
        let Stored { descriptor, name, subject: noted } = image;
        let tag = name.as_ref().and_then(|name| name.tag()?.parse::<Tag>().ok());
        let tag = tag.filter(|tag| tag_about(tag).as_ref() == Some(subject));
        let may_refer = noted.as_ref().map_or(name.is_none(), |noted| noted == subject);
        let found_by = match tag {
            Some(tag) if options.digest_tags == Carry::Yes => FoundBy::Tag(tag),
            None if may_refer && options.referrers == Carry::Yes => {
                FoundBy::Subject(subject.clone())
            }
            _ => continue,
        };
        let manifest = archive.manifest(&descriptor.digest, Some(&descriptor.media_type))?;
        let is_wanted = match &found_by {
            FoundBy::Tag(_) => true,
            FoundBy::Subject(subject) => {
                manifest.subject().is_some_and(|it| it.digest == *subject)
                    && options.wants_type(manifest.as_referrer().artifact_type.as_deref())
            }
        };
        if is_wanted {
            found.push((manifest, found_by));
        }
    }
    Ok(found)
}

async fn referrers(
    carrier: &Carrier,
    repository: &Repository,
    subject: &Digest,
    options: &CopyOptions,
) -> Result<Vec<Manifest>, Error> {
    let tag = digest_tag(subject);
    if carrier.lacks_api(&repository.registry) && !carrier.may_have_tag(repository, &tag) {
        return Ok(Vec::new());
    }
    let mut manifests = Vec::new();
    for entry in listed(carrier, repository, subject).await? {
        if options.wants_type(entry.artifact_type.as_deref()) {
            let place = Place::Repository(repository.clone());
            let read = place.manifest(&carrier.session, &entry.digest, Some(&entry.media_type));
            let what = format!("failed to read what refers to {subject}");
            manifests.push(read.await.map_err(|error| error.about(what))?);
        }
    }
    Ok(manifests)
}

/// Returns what refers to `subject`, as its registry says, or its mirrors while it cannot be reached.
async fn listed(
    carrier: &Carrier,
    repository: &Repository,
    subject: &Digest,
) -> Result<Vec<Descriptor>, Error> {
    let client = &carrier.session.client;
    if !carrier.is_unreachable(&repository.registry) {
        match client.referrers(repository, subject, None).await {
            Ok(listed) => {
                if listed.source == ReferrersSource::Tag {
                    carrier.note_lack_of_api(&repository.registry);
                }
                return Ok(listed.manifests);
            }
            Err(error) => carrier.do_without(repository, error)?,
        }
    }
    Ok(client.referrers_at_mirrors(repository, subject).await)
}

/// Returns whether there is such a tag, as [`listed`] does.
async fn has_tag(carrier: &Carrier, name: &Reference) -> Result<bool, Error> {
    let client = &carrier.session.client;
    if !carrier.is_unreachable(name.registry()) {
        match client.peek(name).await {
            Ok(found) => return Ok(found.is_some()),
            Err(error) => carrier.do_without(&name.repository, error)?,
        }
    }
    Ok(client.peek_at_mirrors(name).await.is_some())
}

async fn digest_tags(
    carrier: &Carrier,
    repository: &Repository,
    subject: &Digest,
) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for ending in DIGEST_TAGS {
        let text = format!("{}.{ending}", digest_tag(subject));
        if !carrier.may_have_tag(repository, &text) {
            continue;
        }
        let Ok(tag) = text.parse::<Tag>() else { continue };
        let name = Reference::tagged(repository.clone(), tag.clone());
        if has_tag(carrier, &name).await? {
            let manifest = carrier.session.client.manifest(&name).await?;
            found.push((manifest, FoundBy::Tag(tag)));
        }
    }
    Ok(found)
}

/// Returns which digest a tag of cosign's is about.
fn tag_about(tag: &Tag) -> Option<Digest> {
    let (digest, ending) = Digest::of_tag(tag.as_str())?;
    DIGEST_TAGS.contains(&ending).then_some(digest)
}

/// Returns a digest as the beginning of a tag (OCI distribution-spec, "Referrers Tag Schema").
fn digest_tag(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_digests_are_known() {
        let digest = Digest::of(b"");
        let about = |text: &str| tag_about(&text.parse().expect("a tag"));
        for ending in DIGEST_TAGS {
            assert_eq!(about(&format!("{}.{ending}", digest_tag(&digest))), Some(digest.clone()));
        }
        for text in ["latest", "sha256-abc.sig", "1.0.sig", &digest_tag(&digest)] {
            assert_eq!(about(text), None, "{text}");
        }
    }
}
