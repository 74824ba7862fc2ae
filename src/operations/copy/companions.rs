//! What belongs to an image without being part of it: signatures, attestations, software bills.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::image::{Digest, Manifest, Reference, Repository, Tag};
use crate::operations::Error;
use crate::operations::place::Place;
use crate::registry::ReferrersSource;

use super::carrier::Carrier;
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
    /// The tag by which it is found; one that refers to the image is found by that.
    pub(super) tag: Option<Tag>,
}

/// Finds everything that belongs to the manifests of `tree`.
pub(super) async fn find(
    carrier: &Carrier,
    place: &Place,
    tree: &Tree,
    options: &CopyOptions,
) -> Result<Vec<Companion>, Error> {
    let Place::Repository(repository) = place else { return Ok(Vec::new()) };
    let mut found: Vec<Companion> = Vec::new();
    let mut subjects: Vec<Digest> =
        tree.manifests().map(|manifest| manifest.digest.clone()).collect();
    let mut seen: BTreeSet<Digest> = subjects.iter().cloned().collect();
    for _ in 0..MAX_DEPTH {
        let asked = subjects.iter().map(|subject| about(carrier, repository, subject, options));
        let answers: Vec<Vec<(Manifest, Option<Tag>)>> =
            stream::iter(asked).buffered(QUESTIONS).try_collect().await?;
        subjects.clear();
        for (manifest, tag) in answers.into_iter().flatten() {
            let is_new = seen.insert(manifest.digest.clone());
            if !is_new && tag.is_none() {
                continue;
            }
            if is_new {
                subjects.push(manifest.digest.clone());
            }
            let session = &carrier.session;
            let tree = Tree::load(session, place, manifest, &[], options.foreign).await?;
            found.push(Companion { tree, tag });
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
    repository: &Repository,
    subject: &Digest,
    options: &CopyOptions,
) -> Result<Vec<(Manifest, Option<Tag>)>, Error> {
    let mut found = Vec::new();
    if options.referrers == Carry::Yes {
        for manifest in referrers(carrier, repository, subject, options).await? {
            found.push((manifest, None));
        }
    }
    if options.digest_tags == Carry::Yes {
        found.extend(digest_tags(carrier, repository, subject).await?);
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
    let client = &carrier.session.client;
    let listed = client.referrers(repository, subject, None).await?;
    if listed.source == ReferrersSource::Tag {
        carrier.note_lack_of_api(&repository.registry);
    }
    let is_wanted = |kind: Option<&str>| {
        let wanted = &options.artifact_types;
        wanted.is_empty() || wanted.iter().any(|wanted| Some(wanted.as_str()) == kind)
    };
    let mut manifests = Vec::new();
    for entry in listed.manifests {
        if is_wanted(entry.artifact_type.as_deref()) {
            let place = Place::Repository(repository.clone());
            let read = place.manifest(&carrier.session, &entry.digest, Some(&entry.media_type));
            let what = format!("failed to read what refers to {subject}");
            manifests.push(read.await.map_err(|error| error.about(what))?);
        }
    }
    Ok(manifests)
}

async fn digest_tags(
    carrier: &Carrier,
    repository: &Repository,
    subject: &Digest,
) -> Result<Vec<(Manifest, Option<Tag>)>, Error> {
    let mut found = Vec::new();
    for ending in DIGEST_TAGS {
        let text = format!("{}.{ending}", digest_tag(subject));
        if !carrier.may_have_tag(repository, &text) {
            continue;
        }
        let Ok(tag) = text.parse::<Tag>() else { continue };
        let name = Reference::tagged(repository.clone(), tag.clone());
        let client = &carrier.session.client;
        if client.peek(&name).await?.is_none() {
            continue;
        }
        found.push((client.manifest(&name).await?, Some(tag)));
    }
    Ok(found)
}

/// Returns whether a tag is made of a digest: what is under it belongs to another image.
#[must_use]
pub fn is_digest_tag(tag: &Tag) -> bool {
    let tag = tag.as_str();
    let ending = DIGEST_TAGS.iter().find_map(|it| tag.strip_suffix(it)?.strip_suffix('.'));
    let digest = ending.unwrap_or(tag).replacen('-', ":", 1);
    digest.parse::<Digest>().is_ok()
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
        let digest = digest_tag(&Digest::of(b""));
        let is = |text: &str| is_digest_tag(&text.parse().expect("a tag"));
        assert!(is(&digest) && is(&format!("{digest}.sig")) && is(&format!("{digest}.sbom")));
        for text in ["latest", "sha256-abc.sig", "1.0.sig", &format!("{digest}.other")] {
            assert!(!is(text), "{text}");
        }
    }
}
