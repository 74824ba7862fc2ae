//! Lists: tags, repositories, referrers.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::StatusCode;
use http::header::LINK;
use serde_json::json;

use crate::image::{Descriptor, Digest, Index, Repository, RepositoryName, media_type};

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
    let candidates = Candidates::of(state, head, &name)?;
    let images = state.blocking(|state| Ok(state.content.images()?)).await?;
    let names = || images.iter().filter_map(|entry| entry.name.as_ref());
    let is_here = |repository: &&Repository| names().any(|name| name.repository == **repository);
    let Some(repository) = candidates.0.iter().find(is_here) else {
        let message = format!("there is no repository `{name}`");
        return Err(Failure::new(Code::NameUnknown, message));
    };
    let here = names().filter(|name| name.repository == *repository);
    let tags = here.filter_map(|name| Some(name.tag.as_ref()?.to_string())).collect();
    let (tags, link) = page(head, tags)?;
    Ok(listed(&json!({"name": name, "tags": tags}), link))
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
    let (repositories, link) = page(head, names)?;
    Ok(listed(&json!({ "repositories": repositories }), link))
}

/// The manifests that refer to `digest` (OCI distribution-spec, "Listing Referrers"). The
/// entries note their subjects, so only the referrers themselves are read, for their annotations.
pub(super) async fn referrers(
    state: &Arc<State>,
    head: &Head,
    name: RepositoryName,
    digest: Digest,
) -> Result<Reply, Failure> {
    let candidates = Candidates::of(state, head, &name)?;
    let wanted = head.query("artifactType").map(str::to_owned);
    let is_filtered = wanted.is_some();
    let manifests = state
        .blocking(move |state| {
            let mut found = Vec::new();
            let mut seen = BTreeSet::new();
            for entry in state.content.images()?.iter() {
                if entry.subject.as_ref() != Some(&digest)
                    || !candidates.holds(entry)
                    || !seen.insert(entry.descriptor.digest.clone())
                {
                    continue;
                }
                let manifest = content::manifest(&*state.content, &entry.descriptor.digest)?;
                let descriptor = manifest.map(|manifest| manifest.as_referrer());
                let suits = |found: &Descriptor| wanted.is_none() || found.artifact_type == wanted;
                found.extend(descriptor.filter(suits));
            }
            Ok(found)
        })
        .await?;
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        artifact_type: None,
        manifests,
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&index).map_err(|error| Failure::internal(&error))?;
    let reply = reply::json_reply(StatusCode::OK, media_type::OCI_INDEX, bytes);
    Ok(if is_filtered { reply.with(OCI_FILTERS_APPLIED, "artifactType") } else { reply })
}

/// Cuts the page out that `n` and `last` ask for. Returns the link to the next one.
fn page(head: &Head, all: BTreeSet<String>) -> Result<(Vec<String>, Option<String>), Failure> {
    let limit = match head.query("n") {
        None => usize::MAX,
        Some(text) => text.parse().map_err(|_| {
            let message = format!("`n` must be a number, not `{text}`");
            Failure::new(Code::PaginationInvalid, message)
        })?,
    };
    let last = head.query("last").unwrap_or("");
    let mut rest: Vec<_> = all.into_iter().filter(|name| name.as_str() > last).collect();
    if rest.len() <= limit {
        return Ok((rest, None));
    }
    rest.truncate(limit);
    let link = rest.last().map(|last| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("n", &limit.to_string()).append_pair("last", last);
        query.extend_pairs(head.query("ns").map(|host| ("ns", host)));
        format!("<{}?{}>; rel=\"next\"", head.path(), query.finish())
    });
    Ok((rest, link))
}

fn listed(value: &serde_json::Value, link: Option<String>) -> Reply {
    let bytes = value.to_string().into_bytes();
    let reply = reply::json_reply(StatusCode::OK, "application/json", bytes);
    link.into_iter().fold(reply, |reply, link| reply.with(LINK, &link))
}
