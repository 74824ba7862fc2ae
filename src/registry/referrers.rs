//! What refers to a manifest: signatures, attestations, other artifacts (OCI distribution-spec,
//! "Listing Referrers", "Referrers Tag Schema").
//!
//! A registry with the referrers API lists them itself. For any other, clients keep an index under a
//! tag made of the subject's digest: whoever pushes a referrer adds it there, whoever deletes one
//! takes it off. Several may do so at once, so each change is read back, and made again when
//! somebody else's overwrote it; with an `ETag`, the registry is asked not to let that happen.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_MATCH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Answer;
use super::delete::delete;
use super::lists::{is_unknown, next_page, repeat, repeat_whole, too_large};
use super::location::redacted;
use super::retry::{self, Budget};
use super::session::{Body, Request, Session};
use super::{Client, Error, Quirks, Result, Support};
use crate::image::{
    Algorithm, Descriptor, Digest, MAX_MANIFEST_BYTES, Manifest, Repository, media_type,
};

/// The header by which a registry says that it lists a manifest among the subject's referrers.
pub(super) const OCI_SUBJECT: &str = "oci-subject";
/// The header by which a registry says which filters it has applied.
const OCI_FILTERS_APPLIED: &str = "oci-filters-applied";
/// Most referrers of one manifest that are listed.
const MAX_REFERRERS: usize = 20_000;
/// After so many pages the list is taken for endless.
const MAX_PAGES: usize = 1_000;
/// How often a change of the index is made again after somebody else's.
const MAX_RACES: u32 = 10;

/// Where a list of referrers came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferrersSource {
    /// The registry's referrers API.
    Api,
    /// The index under the fallback tag.
    Tag,
}

/// What refers to a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrers {
    /// The referrers' manifests, with their annotations and artifact types.
    pub manifests: Vec<Descriptor>,
    /// Who keeps the list.
    pub source: ReferrersSource,
}

impl Client {
    /// Returns what refers to the manifest `subject`, or only what has the artifact type given.
    ///
    /// A manifest that does not exist may have referrers, and one without any is no error.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Referrers> {
        list(&self.origin(repository), subject, artifact_type).await
    }

    /// Returns what the mirrors of `repository` know to refer to the manifest `subject`, which need not
    /// be all: for when the registry itself cannot be reached.
    pub async fn referrers_at_mirrors(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Vec<Descriptor> {
        let mut found: Vec<Descriptor> = Vec::new();
        for session in self.mirrors(repository) {
            match list(&session, subject, None).await {
                Ok(listed) => found.extend(listed.manifests),
                Err(error) => tracing::debug!(%error, "a mirror lists no referrers"),
            }
        }
        let mut seen = BTreeSet::new();
        found.retain(|referrer| seen.insert(referrer.digest.clone()));
        found
    }
}

/// Returns the tag of the index that lists the referrers of `subject` where there is no API.
pub(super) fn fallback_tag(subject: &Digest) -> String {
    let algorithm = match subject.algorithm() {
        Algorithm::Sha256 => "sha256",
        Algorithm::Sha512 => "sha512",
    };
    format!("{algorithm}-{}", &subject.hex()[..64])
}

/// A page of the API, or the index under the fallback tag.
#[derive(Deserialize)]
struct Page {
    manifests: Option<Vec<Descriptor>>,
}

async fn list(
    session: &Session,
    subject: &Digest,
    artifact_type: Option<&str>,
) -> Result<Referrers> {
    let mut budget = session.budget();
    let suits = |referrer: &Descriptor| {
        artifact_type.is_none_or(|wanted| referrer.artifact_type.as_deref() == Some(wanted))
    };
    if let Some(manifests) = from_api(session, subject, artifact_type, &mut budget).await? {
        return Ok(Referrers { manifests, source: ReferrersSource::Api });
    }
    let mut manifests = Vec::new();
    if let Some(kept) = Kept::read(session, subject, &mut budget).await? {
        let entries = kept.entries().iter();
        let read = |entry: &Value| serde_json::from_value::<Descriptor>(entry.clone()).ok();
        manifests.extend(entries.filter_map(read).filter(suits).take(MAX_REFERRERS));
    }
    Ok(Referrers { manifests, source: ReferrersSource::Tag })
}

/// Asks the API; `None` where there is none. A registry without it may answer 404, another error, or
/// a page for people.
async fn from_api(
    session: &Session,
    subject: &Digest,
    artifact_type: Option<&str>,
    budget: &mut Budget,
) -> Result<Option<Vec<Descriptor>>> {
    if Quirks::of_host(&session.host.name).referrers == Support::No {
        return Ok(None);
    }
    let mut url = session.url(&format!("referrers/{subject}")).await?;
    if let Some(wanted) = artifact_type {
        url.query_pairs_mut().append_pair("artifactType", wanted);
    }
    let mut found = Vec::new();
    for page in 0..MAX_PAGES {
        let is_read = |answer: &Answer| is_api(answer) || page > 0 && answer.status().is_success();
        let (answer, body) = ask(session, url, is_read, budget).await?;
        if page == 0 && !is_api(&answer) {
            return if answer.status().is_success() || is_unknown(answer.status()) {
                Ok(None)
            } else {
                Err(answer.into_error().await)
            };
        }
        let answer = answer.expect_success().await?;
        let is_filtered = has_filtered(answer.header(OCI_FILTERS_APPLIED));
        let next = next_page(answer.headers(), &answer.url);
        let referrers = read_page(&answer, &body)?;
        let wanted = artifact_type.filter(|_| !is_filtered);
        found.extend(referrers.into_iter().filter(|referrer| {
            wanted.is_none_or(|wanted| referrer.artifact_type.as_deref() == Some(wanted))
        }));
        match next {
            None => return Ok(Some(found)),
            Some(next) if found.len() <= MAX_REFERRERS && next != answer.url => url = next,
            Some(_) => return Err(answer.protocol("the pages of the list do not end")),
        }
    }
    Err(Error::Protocol {
        method: Method::GET,
        url: format!("{}/referrers/{subject}", session.repository),
        reason: "the pages of the list do not end",
    })
}

async fn ask(
    session: &Session,
    url: Url,
    is_read: impl Fn(&Answer) -> bool,
    budget: &mut Budget,
) -> Result<(Answer, Bytes)> {
    let mut request = Request::new(Method::GET, url, vec![session.scope("pull")]);
    request.headers.insert(ACCEPT, HeaderValue::from_static(media_type::OCI_INDEX));
    repeat_whole(session, &request, is_read, MAX_MANIFEST_BYTES as u64, budget).await
}

fn is_api(answer: &Answer) -> bool {
    let content_type = answer.header(CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    answer.status() == StatusCode::OK && content_type.eq_ignore_ascii_case(media_type::OCI_INDEX)
}

fn has_filtered(header: &str) -> bool {
    header.split(',').any(|filter| filter.trim().eq_ignore_ascii_case("artifactType"))
}

fn read_page(answer: &Answer, body: &[u8]) -> Result<Vec<Descriptor>> {
    let page: Page = serde_json::from_slice(body)
        .map_err(|_| answer.protocol("the list of referrers is no index"))?;
    Ok(page.manifests.unwrap_or_default())
}

/// Adds a manifest that was pushed to its subject's index, after a registry that did not say that it
/// lists it.
pub(super) async fn note(
    session: &Session,
    subject: &Digest,
    manifest: &Manifest,
    budget: &mut Budget,
) -> Result<()> {
    let entry = serde_json::to_value(manifest.as_referrer()).expect("a descriptor makes JSON");
    let digest = manifest.digest.to_string();
    let add = |entries: &mut Vec<Value>| {
        let is_missing = !entries.iter().any(|entry| entry["digest"] == digest.as_str());
        if is_missing {
            entries.push(entry.clone());
        }
        is_missing
    };
    change(session, subject, add, budget).await
}

/// Returns whether the registry lists referrers itself.
pub(super) async fn are_kept_by_registry(
    session: &Session,
    subject: &Digest,
    budget: &mut Budget,
) -> Result<bool> {
    Ok(from_api(session, subject, None, budget).await?.is_some())
}

/// Takes a manifest that was deleted off its subject's index, unless the registry keeps the list.
pub(super) async fn forget(session: &Session, subject: &Digest, digest: &Digest) -> Result<()> {
    let mut budget = session.budget();
    if are_kept_by_registry(session, subject, &mut budget).await? {
        return Ok(());
    }
    let digest = digest.to_string();
    let remove = |entries: &mut Vec<Value>| {
        let before = entries.len();
        entries.retain(|entry| entry["digest"] != digest.as_str());
        entries.len() < before
    };
    change(session, subject, remove, &mut budget).await
}

/// Makes `edit` until there is nothing left for it to do, which it says by returning false.
async fn change(
    session: &Session,
    subject: &Digest,
    edit: impl Fn(&mut Vec<Value>) -> bool,
    budget: &mut Budget,
) -> Result<()> {
    let failed = |source| Error::Referrers { subject: subject.clone(), source: Box::new(source) };
    for race in 0..MAX_RACES {
        let kept = Kept::read(session, subject, budget).await.map_err(failed)?;
        let mut kept = kept.unwrap_or_else(Kept::empty);
        if !edit(kept.entries_mut()) {
            return Ok(());
        }
        if race > 0 {
            // So that those who overwrite each other do not go on in step.
            let delay = session.shared.options.retry.first_delay;
            tokio::time::sleep(delay.mul_f64(retry::random() * f64::from(race))).await;
        }
        kept.write(session, subject, budget).await.map_err(failed)?;
    }
    Err(Error::Raced { subject: subject.clone() })
}

/// The index under the fallback tag. What it says beside the list stays as it was.
struct Kept {
    index: Value,
    /// By which the registry knows this state of it.
    tag: Option<HeaderValue>,
}

impl Kept {
    fn empty() -> Self {
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX});
        Self { index, tag: None }
    }

    async fn read(
        session: &Session,
        subject: &Digest,
        budget: &mut Budget,
    ) -> Result<Option<Self>> {
        let url = session.url(&format!("manifests/{}", fallback_tag(subject))).await?;
        let is_read = |answer: &Answer| answer.status().is_success();
        let (answer, body) = ask(session, url, is_read, budget).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = answer.expect_success().await?;
        let index = serde_json::from_slice::<Value>(&body).ok();
        let index =
            index.filter(|index| index["mediaType"].as_str().is_none_or(media_type::is_index));
        let index = index.filter(|index| {
            index.is_object() && (index["manifests"].is_array() || index["manifests"].is_null())
        });
        let index = index.ok_or_else(|| answer.protocol("the list of referrers is no index"))?;
        // A weak tag cannot be a condition (RFC 9110, section 13.1.1).
        let is_strong = |tag: &&HeaderValue| !tag.as_bytes().starts_with(b"W/");
        let tag = answer.headers().get(ETAG).filter(is_strong).cloned();
        Ok(Some(Self { index, tag }))
    }

    fn entries(&self) -> &[Value] {
        self.index["manifests"].as_array().map_or(&[], Vec::as_slice)
    }

    fn entries_mut(&mut self) -> &mut Vec<Value> {
        let list = &mut self.index["manifests"];
        if !list.is_array() {
            *list = json!([]);
        }
        list.as_array_mut().expect("it was made an array")
    }

    /// Writes the index back. An empty one goes, where the registry deletes tags.
    async fn write(&self, session: &Session, subject: &Digest, budget: &mut Budget) -> Result<()> {
        let path = format!("manifests/{}", fallback_tag(subject));
        if self.entries().is_empty() && delete(session, &path).await.is_ok() {
            return Ok(());
        }
        let url = session.url(&path).await?;
        let bytes = serde_json::to_vec(&self.index).expect("JSON makes bytes");
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(too_large(&url, MAX_MANIFEST_BYTES as u64));
        }
        let mut request = Request::new(Method::PUT, url, vec![session.scope("pull,push")]);
        let content_type = HeaderValue::from_static(media_type::OCI_INDEX);
        request.headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
        request.headers.extend(self.tag.clone().map(|tag| (IF_MATCH, tag)));
        request.body = Body::Bytes(Bytes::from(bytes));
        let answer = repeat(session, &request, budget).await?;
        if answer.status() == StatusCode::PRECONDITION_FAILED {
            tracing::debug!(url = redacted(&answer.url), "somebody else changed the referrers");
            return Ok(());
        }
        answer.expect_success().await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_cut_as_the_specification_says() {
        let short = Digest::of(b"x");
        assert_eq!(fallback_tag(&short), format!("sha256-{}", short.hex()));
        let long: Digest = format!("sha512:{}", "ab".repeat(64)).parse().unwrap();
        assert_eq!(fallback_tag(&long), format!("sha512-{}", "ab".repeat(32)));
    }

    #[test]
    fn filters_are_read() {
        assert!(has_filtered("artifactType"));
        assert!(has_filtered("name, ArtifactType"));
        assert!(!has_filtered(""));
        assert!(!has_filtered("artifactTypes"));
    }
}
