//! Lists: tags, repositories, referrers.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::StatusCode;
use http::header::LINK;
use serde_json::json;

use crate::image::{Descriptor, Digest, Index, Repository, RepositoryName, media_type};

use super::cache::{Answer, Fallback};
use super::content;
use super::handler::Head;
use super::names::{self, Candidates};
use super::reply::With as _;
use super::reply::{self, Code, Failure, OCI_FILTERS_APPLIED, Reply};
use super::state::State;

/// The tags of a repository (OCI distribution-spec, "Listing Tags").
pub(super) async fn tags(
    state: &Arc<State>,
    head: &Head,
    name: RepositoryName,
) -> Result<Reply, Failure> {
    let page = Page::of(head)?;
    let candidates = Candidates::of(state, head, &name)?;
    let images = state.blocking(|state| Ok(state.content.images()?)).await?;
    let names = || images.iter().filter_map(|entry| entry.name.as_ref());
    let is_here = |repository: &&Repository| names().any(|name| name.repository == **repository);
    let here = candidates.0.iter().find(is_here);
    let mut stale = None;
    if let Some((cache, repository)) = state.upstream(head, &candidates).await? {
        let fallback = if here.is_some() { Fallback::There } else { Fallback::None };
        let limit = page.limit.unwrap_or(MAX_NAMES).min(MAX_NAMES);
        // One more tells whether there are more.
        match cache.tags(&repository, page.last, limit + 1, fallback).await? {
            Answer::Fresh(tags) => {
                let (tags, link) = linked(head, tags, limit);
                return Ok(listed(&json!({"name": name, "tags": tags}), link));
            }
            Answer::Stale(reason) => stale = Some(reason),
        }
    }
    let Some(repository) = here else {
        let message = format!("there is no repository `{name}`");
        return Err(Failure::new(Code::NameUnknown, message));
    };
    let here = names().filter(|name| name.repository == *repository);
    let tags = here.filter_map(|name| Some(name.tag.as_ref()?.to_string())).collect();
    let (tags, link) = page.cut(head, tags);
    let reply = listed(&json!({"name": name, "tags": tags}), link);
    Ok(stale.iter().fold(reply, |reply, stale| stale.mark(reply)))
}

/// The repositories that can be named without `?ns=`, or those of the registry it names.
///
/// Each by the shortest name that finds it.
pub(super) async fn catalog(state: &Arc<State>, head: &Head) -> Result<Reply, Failure> {
    let images = state.blocking(|state| Ok(state.content.images()?)).await?;
    let namespace = head.query("ns").map(names::registry).transpose()?;
    let all: BTreeSet<&Repository> =
        images.iter().filter_map(|entry| Some(&entry.name.as_ref()?.repository)).collect();
    let name = |repository: &&Repository| match &namespace {
        Some(wanted) => (repository.registry == *wanted).then(|| repository.name.clone()),
        None => names::shortest(&state.registries, repository, |other| all.contains(other)),
    };
    let names = all.iter().filter_map(name).map(|name| name.to_string()).collect();
    let (repositories, link) = Page::of(head)?.cut(head, names);
    Ok(listed(&json!({ "repositories": repositories }), link))
}

/// The manifests that refer to `digest` (OCI distribution-spec, "Listing Referrers").
pub(super) async fn referrers(
    state: &Arc<State>,
    head: &Head,
    name: RepositoryName,
    digest: Digest,
) -> Result<Reply, Failure> {
    let candidates = Candidates::of(state, head, &name)?;
    let (here, subject) = (candidates.clone(), digest.clone());
    let mut found = state.blocking(move |state| referrers_here(state, &here, &subject)).await?;
    let mut stale = None;
    if let Some((cache, repository)) = state.upstream(head, &candidates).await? {
        match cache.referrers(&repository, digest).await? {
            Answer::Fresh(referrers) => found = referrers,
            Answer::Stale(reason) => stale = Some(reason),
        }
    }
    let wanted = head.query("artifactType");
    found.retain(|referrer| wanted.is_none() || referrer.artifact_type.as_deref() == wanted);
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        artifact_type: None,
        manifests: found,
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&index).map_err(|error| Failure::internal(&error))?;
    let reply = reply::json_reply(StatusCode::OK, media_type::OCI_INDEX, bytes);
    let reply = match wanted {
        Some(_) => reply.with(OCI_FILTERS_APPLIED, "artifactType"),
        None => reply,
    };
    Ok(stale.iter().fold(reply, |reply, stale| stale.mark(reply)))
}

/// Finds referrers among what is here. The entries note their subjects, so only the referrers
/// themselves are read, for their annotations.
fn referrers_here(
    state: &State,
    candidates: &Candidates,
    subject: &Digest,
) -> Result<Vec<Descriptor>, Failure> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in state.content.images()?.iter() {
        if entry.subject.as_ref() == Some(subject)
            && candidates.holds(entry)
            && seen.insert(entry.descriptor.digest.clone())
        {
            let manifest = content::manifest(&*state.content, &entry.descriptor.digest)?;
            found.extend(manifest.map(|manifest| manifest.as_referrer()));
        }
    }
    Ok(found)
}

/// Most names of a list that is asked of upstream; more come by the link to the next page.
const MAX_NAMES: usize = 10_000;

/// The page of a list that is asked for by `n` and `last`.
#[derive(Clone, Copy)]
struct Page<'a> {
    limit: Option<usize>,
    last: Option<&'a str>,
}

impl<'a> Page<'a> {
    fn of(head: &'a Head) -> Result<Self, Failure> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                let message = format!("`n` must be a number, not `{text}`");
                Failure::new(Code::PaginationInvalid, message)
            })
        };
        let limit = head.query("n").map(parse).transpose()?;
        Ok(Self { limit, last: head.query("last") })
    }

    /// Cuts the page out. Returns the link to the next one too.
    fn cut(self, head: &Head, all: BTreeSet<String>) -> (Vec<String>, Option<String>) {
        let last = self.last.unwrap_or_default();
        let rest = all.into_iter().filter(|name| name.as_str() > last).collect();
        linked(head, rest, self.limit.unwrap_or(usize::MAX))
    }
}

/// Returns so many names at most, and when there are more the link to the next page.
fn linked(head: &Head, mut names: Vec<String>, limit: usize) -> (Vec<String>, Option<String>) {
    if names.len() <= limit {
        return (names, None);
    }
    names.truncate(limit);
    let link = names.last().map(|last| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("n", &limit.to_string()).append_pair("last", last);
        query.extend_pairs(head.query("ns").map(|host| ("ns", host)));
        format!("<{}?{}>; rel=\"next\"", head.path(), query.finish())
    });
    (names, link)
}

fn listed(value: &serde_json::Value, link: Option<String>) -> Reply {
    let bytes = value.to_string().into_bytes();
    let reply = reply::json_reply(StatusCode::OK, "application/json", bytes);
    link.into_iter().fold(reply, |reply, link| reply.with(LINK, &link))
}
