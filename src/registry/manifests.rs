//! Manifests (OCI distribution-spec, "Pulling manifests", "Pushing Manifests").

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::answer::Answer;
use super::lists::is_unknown;
use super::location::redacted;
use super::referrers::{self, OCI_SUBJECT};
use super::retry::Budget;
use super::session::{Body, Request, Session, may_pass};
use super::{Error, Quirks, Result, Support};
use crate::image::{Descriptor, Digest, MAX_MANIFEST_BYTES, Manifest, Reference, Tag, media_type};

/// The registry's word for the digest of what it sends.
const CONTENT_DIGEST: &str = "docker-content-digest";
/// The header by which a registry confirms a tag of `?tag=`.
const OCI_TAG: &str = "oci-tag";

/// Returns the descriptor of the manifest, by `HEAD` where that tells enough.
pub(super) async fn resolve(session: &Session, reference: &Reference) -> Result<Descriptor> {
    let mut budget = session.budget();
    let answer = ask(session, Method::HEAD, &reference.manifest_key(), &mut budget).await?;
    if answer.status() == StatusCode::NOT_FOUND {
        return Err(answer.into_error().await);
    }
    if let Some(descriptor) = described(&answer, reference) {
        return Ok(descriptor);
    }
    // `HEAD` may be switched off, or say too little; and its errors have no body.
    fetch(session, reference, &mut budget).await.map(|manifest| descriptor_of(&manifest, reference))
}

/// Returns the descriptor of the manifest when a `HEAD` tells it, which counts for no quota.
pub(super) async fn peek(session: &Session, reference: &Reference) -> Result<Option<Descriptor>> {
    let mut budget = session.budget();
    let answer = ask(session, Method::HEAD, &reference.manifest_key(), &mut budget).await?;
    Ok(described(&answer, reference))
}

/// Returns the manifest, its digest verified when the reference has one.
pub(super) async fn get(session: &Session, reference: &Reference) -> Result<Manifest> {
    fetch(session, reference, &mut session.budget()).await
}

/// Sends the manifest's bytes to `key`, a tag or digest, and checks that they are there. The list of
/// its subject's referrers is brought up to date where the registry does not do that.
pub(super) async fn put(session: &Session, key: &str, manifest: &Manifest) -> Result<()> {
    let mut budget = session.budget();
    let answer = match send(session, key, key, manifest, &mut budget).await? {
        Some(answer) => {
            let answer = answer.expect_success().await?;
            read_back(session, key, manifest, &mut budget).await?;
            Some(answer)
        }
        None => None,
    };
    list_as_referrer(session, manifest, answer.as_ref(), &mut budget).await
}

/// Sends the manifest's bytes once for all of `tags` (OCI distribution-spec, "Pushing Manifests",
/// `?tag=`). Tags that the answer's `OCI-Tag` does not confirm are pushed one by one.
pub(super) async fn put_tags(session: &Session, manifest: &Manifest, tags: &[Tag]) -> Result<()> {
    let digest = manifest.digest.to_string();
    let rest: Vec<&Tag> = match tags {
        [] => return put(session, &digest, manifest).await,
        [tag] => vec![tag],
        tags if Quirks::of_host(&session.host.name).tags_by_digest == Support::No => {
            tags.iter().collect()
        }
        tags => {
            let path = format!("{digest}?");
            let start = path.len();
            let mut query = url::form_urlencoded::Serializer::for_suffix(path, start);
            query.extend_pairs(tags.iter().map(|tag| ("tag", tag.as_str())));
            let mut budget = session.budget();
            match send(session, &query.finish(), &digest, manifest, &mut budget).await? {
                // Nobody has said which tags were given.
                None => tags.iter().collect(),
                // Whatever is wrong with it otherwise, the next request is told too.
                Some(answer) if is_unknown(answer.status()) => tags.iter().collect(),
                Some(answer) => {
                    let answer = answer.expect_success().await?;
                    read_back(session, &digest, manifest, &mut budget).await?;
                    list_as_referrer(session, manifest, Some(&answer), &mut budget).await?;
                    let confirmed = confirmed(answer.headers());
                    tags.iter().filter(|tag| !confirmed.contains(&tag.as_str())).collect()
                }
            }
        }
    };
    for tag in rest {
        put(session, tag.as_str(), manifest).await?;
    }
    Ok(())
}

/// Returns the tags that an answer says were given: each in a header of its own, or with commas.
fn confirmed(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(OCI_TAG).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).collect()
}

/// Sends the manifest's bytes to `path` until there is an answer that no repetition would change.
///
/// `None` when the answer that counts was lost, or was a failure of the registry's own, and the
/// manifest is there under `key` all the same: it was stored, and whatever was said afterwards, as by
/// a registry whose tags never change, is about a repetition.
async fn send(
    session: &Session,
    path: &str,
    key: &str,
    manifest: &Manifest,
    budget: &mut Budget,
) -> Result<Option<Answer>> {
    let request = request(session, path, manifest, budget).await?;
    let mut is_doubtful = false;
    let last = loop {
        let error = match session.send(&request).await {
            Ok(answer) => {
                is_doubtful |= leaves_doubt(answer.status());
                if !may_pass(&answer) {
                    break Ok(answer);
                }
                answer.into_error().await
            }
            Err(error) => {
                is_doubtful |= matches!(error, Error::Transport { .. } | Error::Stalled { .. });
                error
            }
        };
        if let Err(error) = session.wait(&request, error, budget).await {
            break Err(error);
        }
    };
    let is_taken = last.as_ref().is_ok_and(|answer| answer.status().is_success());
    // In a box, because few pushes get here and all would carry its size.
    if is_doubtful && !is_taken && Box::pin(is_there(session, key, manifest)).await {
        return Ok(None);
    }
    last.map(Some)
}

/// Returns whether a request that got such an answer may have been done all the same.
fn leaves_doubt(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT
}

/// Returns whether `key` names the manifest's very bytes, as far as one try tells.
async fn is_there(session: &Session, key: &str, manifest: &Manifest) -> bool {
    let mut budget = Budget::of_one_try(session.shared.options.retry);
    let found = read_back(session, key, manifest, &mut budget).await;
    found.inspect_err(|error| tracing::debug!(%error, key, "the manifest is not there")).is_ok()
}

/// Returns the request that pushes the manifest.
async fn request(
    session: &Session,
    path: &str,
    manifest: &Manifest,
    budget: &mut Budget,
) -> Result<Request> {
    let path = format!("manifests/{path}");
    let url = loop {
        match session.url(&path).await {
            Ok(url) => break url,
            Err(error) => {
                let what = format!("PUT {}/{path}", session.repository);
                budget.wait(&what, error, &*session.shared.options.events).await?;
            }
        }
    };
    let mut request = Request::new(Method::PUT, url, vec![session.scope("pull,push")]);
    let content_type = HeaderValue::from_str(&manifest.media_type);
    let content_type = content_type.map_err(|_| Error::Manifest {
        url: redacted(&request.url),
        source: crate::image::Error::MediaType(manifest.media_type.clone()),
    })?;
    request.headers.insert(CONTENT_TYPE, content_type);
    request.body = Body::Bytes(Bytes::from(manifest.bytes.clone()));
    Ok(request)
}

/// Returns whether `key` stands for the manifest `digest`, as far as one `HEAD` tells. With the
/// rights of a push, so that one token does for both.
pub(super) async fn is_at(session: &Session, key: &str, digest: &Digest) -> bool {
    let (path, mut budget) = (format!("manifests/{key}"), session.budget());
    let sent =
        session.send_with_retries(Method::HEAD, &path, accept(), "pull,push", &mut budget).await;
    sent.is_ok_and(|answer| {
        answer.status() == StatusCode::OK && answer.header(CONTENT_DIGEST) == digest.to_string()
    })
}

async fn list_as_referrer(
    session: &Session,
    manifest: &Manifest,
    answer: Option<&Answer>,
    budget: &mut Budget,
) -> Result<()> {
    let Some(subject) = manifest.subject().map(|subject| &subject.digest) else { return Ok(()) };
    let is_listed = match answer {
        Some(answer) => answer.header(OCI_SUBJECT) == subject.to_string(),
        // What the lost answer said can be asked for.
        None => referrers::are_kept_by_registry(session, subject, budget).await?,
    };
    if is_listed { Ok(()) } else { referrers::note(session, subject, manifest, budget).await }
}

async fn read_back(
    session: &Session,
    key: &str,
    manifest: &Manifest,
    budget: &mut Budget,
) -> Result<()> {
    let answer = ask(session, Method::HEAD, key, budget).await?;
    if answer.status() == StatusCode::OK
        && answer.header(CONTENT_DIGEST) == manifest.digest.to_string()
    {
        return Ok(());
    }
    // The header is missing or wrong with some registries; the bytes decide.
    let answer = ask(session, Method::GET, key, budget).await?;
    if answer.status() == StatusCode::NOT_FOUND {
        let url = redacted(&answer.url);
        return Err(Error::NotKept { url, source: Box::new(answer.into_error().await) });
    }
    let mut answer = answer.expect_success().await?;
    let bytes = answer.read(MAX_MANIFEST_BYTES as u64).await?;
    if bytes == manifest.bytes {
        return Ok(());
    }
    Err(Error::ManifestDigest {
        url: redacted(&answer.url),
        expected: manifest.digest.clone(),
        actual: manifest.digest.of_same_algorithm(&bytes),
    })
}

async fn fetch(session: &Session, reference: &Reference, budget: &mut Budget) -> Result<Manifest> {
    let key = reference.manifest_key();
    loop {
        let answer = ask(session, Method::GET, &key, budget).await?.expect_success().await?;
        match read(session, answer, reference).await {
            Ok(manifest) => return Ok(manifest),
            Err(error) => {
                let what = format!("GET {}/manifests/{key}", session.repository);
                budget.wait(&what, error, &*session.shared.options.events).await?;
            }
        }
    }
}

async fn read(session: &Session, mut answer: Answer, reference: &Reference) -> Result<Manifest> {
    let bytes = answer.read(MAX_MANIFEST_BYTES as u64).await?;
    let url = redacted(&answer.url);
    if let Some(expected) = &reference.digest {
        let actual = expected.of_same_algorithm(&bytes);
        if actual != *expected {
            return Err(Error::ManifestDigest { url, expected: expected.clone(), actual });
        }
    }
    let declared = Some(answer.header(CONTENT_TYPE)).filter(|text| !text.is_empty());
    let manifest = Manifest::parse(bytes.to_vec(), declared)
        .map_err(|source| Error::Manifest { url, source })?;
    let said = answer.header(CONTENT_DIGEST);
    if reference.digest.is_none() && !said.is_empty() && said != manifest.digest.to_string() {
        // Many registries get this header wrong, so it only counts when a digest was asked for.
        let host = &session.host.name;
        session.shared.warn_once(format!(
            "registry `{host}` names a manifest by a digest that it does not have; the digest \
             computed of its bytes is used"
        ));
    }
    Ok(manifest)
}

async fn ask(session: &Session, method: Method, key: &str, budget: &mut Budget) -> Result<Answer> {
    session.send_with_retries(method, &format!("manifests/{key}"), accept(), "pull", budget).await
}

/// Returns the header that asks for every kind of manifest.
fn accept() -> HeaderMap {
    let accept = HeaderValue::from_str(&media_type::MANIFESTS.join(", "));
    HeaderMap::from_iter([(ACCEPT, accept.expect("media types make a header"))])
}

/// Returns what a `HEAD` says, when it says all of it and it can be used.
fn described(answer: &Answer, reference: &Reference) -> Option<Descriptor> {
    if answer.status() != StatusCode::OK {
        return None;
    }
    let digest: Digest = answer.header(CONTENT_DIGEST).parse().ok()?;
    let content_type = answer.header(CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    let is_known = media_type::is_index(content_type) || media_type::is_manifest(content_type);
    let size = answer.content_length().filter(|size| *size > 0)?;
    let is_asked_for = reference.digest.as_ref().is_none_or(|asked| *asked == digest);
    (is_known && is_asked_for).then(|| Descriptor::new(content_type, digest, size))
}

/// Returns the manifest's descriptor under the digest that it was asked for by.
fn descriptor_of(manifest: &Manifest, reference: &Reference) -> Descriptor {
    let mut descriptor = manifest.descriptor();
    if let Some(asked) = &reference.digest {
        descriptor.digest = asked.clone();
    }
    descriptor
}
