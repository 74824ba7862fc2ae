//! Manifests and indexes in and out (OCI distribution-spec, "Pulling manifests", "Pushing
//! manifests", "Deleting"). Always the exact bytes.

use std::sync::Arc;

use http::StatusCode;
use http::header::{CONTENT_TYPE, ETAG, LOCATION};
use hyper::body::Incoming;

use crate::event::Event;
use crate::image::{
    Content, DEFAULT_REGISTRY, Descriptor, MAX_MANIFEST_BYTES, Manifest, Reference, Repository,
    RepositoryName, Tag,
};

use super::body;
use super::content;
use super::handler::Head;
use super::names::Candidates;
use super::reply::With as _;
use super::reply::{self, Code, DOCKER_CONTENT_DIGEST, Failure, OCI_SUBJECT, OCI_TAG, Reply};
use super::route::Key;
use super::state::State;

pub(super) async fn get(
    state: &Arc<State>,
    head: &Head,
    name: RepositoryName,
    key: Key,
) -> Result<Reply, Failure> {
    let candidates = Candidates::of(state, head, &name)?;
    let stale = match state.upstream(head, &candidates).await? {
        Some((cache, repository)) => cache.bring_manifest(state, &repository, &key).await?,
        None => None,
    };
    let (descriptor, bytes) = state
        .blocking(move |state| {
            let unknown = || unknown(&name, &key);
            let found = candidates.find_manifest(state, &key)?.ok_or_else(unknown)?;
            if let Some(cache) = &state.cache {
                cache.note_use(&found.root)?;
            }
            let bytes = content::manifest_bytes(&*state.content, &found.descriptor.digest)?;
            Ok((found.descriptor, bytes.ok_or_else(unknown)?))
        })
        .await?;
    let digest = descriptor.digest.to_string();
    let reply = if head.has_already(&descriptor.digest) {
        reply::not_modified()
    } else {
        reply::json_reply(StatusCode::OK, &descriptor.media_type, bytes)
    };
    let reply = reply.with(ETAG, &format!("\"{digest}\"")).with(DOCKER_CONTENT_DIGEST, &digest);
    Ok(stale.iter().fold(reply, |reply, stale| stale.mark(reply)))
}

/// Takes a manifest. By digest it may get tags too, as `?tag=` parameters.
pub(super) async fn put(
    state: &Arc<State>,
    head: &Head,
    name: RepositoryName,
    key: Key,
    body: &mut Incoming,
) -> Result<Reply, Failure> {
    let bytes = body::read(body, MAX_MANIFEST_BYTES).await?;
    let declared = head.header(CONTENT_TYPE).map(str::to_owned);
    let mut manifest = Manifest::parse(bytes, declared.as_deref())
        .map_err(|error| Failure::because(Code::ManifestInvalid, &error))?;
    let mut tags = tags_of(head)?;
    match &key {
        Key::Invalid(text) => {
            let message = format!("`{text}` is neither a tag nor a digest");
            return Err(Failure::new(Code::ManifestInvalid, message));
        }
        Key::Tag(tag) => tags = vec![tag.clone()],
        Key::Digest(digest) => {
            let actual = digest.of_same_algorithm(&manifest.bytes);
            if actual != *digest {
                let message = format!("the manifest's digest is {actual}, not {digest}");
                return Err(Failure::new(Code::DigestInvalid, message));
            }
            manifest.digest = digest.clone();
        }
    }
    let repository = own(state, &name);
    let digest = manifest.digest.clone();
    let subject = manifest.subject().cloned();
    let references: Vec<_> = if tags.is_empty() {
        vec![Reference::by_digest(repository, digest.clone())]
    } else {
        tags.iter().map(|tag| Reference::tagged(repository.clone(), tag.clone())).collect()
    };
    let named = references.clone();
    state.blocking(move |state| keep(state, &manifest, &named)).await?;
    for reference in references {
        state.events.emit(Event::Tagged { reference, digest: digest.clone() });
    }
    let mut reply = reply::empty(StatusCode::CREATED)
        .with(LOCATION, &format!("/v2/{name}/manifests/{digest}"))
        .with(DOCKER_CONTENT_DIGEST, &digest.to_string());
    if let Some(subject) = subject {
        reply = reply.with(OCI_SUBJECT, &subject.digest.to_string());
    }
    if matches!(key, Key::Digest(_)) {
        reply = tags.iter().fold(reply, |reply, tag| reply.with(OCI_TAG, tag.as_str()));
    }
    Ok(reply)
}

/// Takes a tag away, or by digest a manifest with all its tags in this repository.
///
/// Only in what was pushed here: what the store has from other registries is not this one's.
pub(super) async fn delete(
    state: &Arc<State>,
    name: RepositoryName,
    key: Key,
) -> Result<Reply, Failure> {
    let own = own(state, &name);
    state
        .blocking(move |state| {
            let removed = match &key {
                Key::Invalid(_) => 0,
                Key::Tag(tag) => {
                    let reference = Reference::tagged(own, tag.clone());
                    usize::from(state.store()?.remove_name(&reference)?.is_some())
                }
                Key::Digest(digest) => {
                    let own = Candidates(vec![own]);
                    state.store()?.retain_images(|entry| {
                        entry.descriptor.digest != *digest || !own.holds(entry)
                    })?
                }
            };
            if removed == 0 { Err(unknown(&name, &key)) } else { Ok(()) }
        })
        .await?;
    Ok(reply::empty(StatusCode::ACCEPTED))
}

fn keep(state: &State, manifest: &Manifest, references: &[Reference]) -> Result<(), Failure> {
    // Not the subject, which may come later or never (OCI distribution-spec, "Pushing Manifests
    // with Subject").
    for part in manifest.parts() {
        check_part(state, part)?;
    }
    state.store()?.put_manifest(manifest)?;
    let names: Vec<_> = references
        .iter()
        .map(|reference| (Some(reference.clone()), manifest.descriptor()))
        .collect();
    state.store()?.tag_all(&names)?;
    if let (Content::Index(index), Some(reference)) = (&manifest.content, references.first()) {
        // The index keeps its manifests from now on; they need no entries of their own.
        state.store()?.retain_images(|entry| {
            let Some(name) = &entry.name else { return true };
            let is_listed = index.manifests.iter().any(|d| Some(&d.digest) == name.digest.as_ref());
            name.repository != reference.repository || !is_listed || entry.subject.is_some()
        })?;
    }
    Ok(())
}

fn check_part(state: &State, part: &Descriptor) -> Result<(), Failure> {
    match state.store()?.blob_size(&part.digest)? {
        None => {
            let message = format!("the manifest needs {}, which is not here", part.digest);
            Err(Failure::new(Code::ManifestBlobUnknown, message))
        }
        Some(size) if size != part.size => {
            let (digest, said) = (&part.digest, part.size);
            let message = format!("{digest} has {size} bytes; the manifest says {said}");
            Err(Failure::new(Code::SizeInvalid, message))
        }
        Some(_) => Ok(()),
    }
}

fn tags_of(head: &Head) -> Result<Vec<Tag>, Failure> {
    head.query_all("tag")
        .map(|tag| tag.parse().map_err(|error| Failure::because(Code::ManifestInvalid, &error)))
        .collect()
}

fn unknown(name: &RepositoryName, key: &Key) -> Failure {
    Failure::new(Code::ManifestUnknown, format!("`{name}` has no manifest `{key}`"))
}

/// Returns the repository that pushes to `name` go to.
fn own(state: &State, name: &RepositoryName) -> Repository {
    let registry = state.registries.first().cloned();
    let registry = registry.unwrap_or_else(|| DEFAULT_REGISTRY.parse().expect("a valid name"));
    Repository { registry, name: name.clone() }
}
