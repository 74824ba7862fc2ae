//! Lists that come in pages: tags and repositories (OCI distribution-spec, "Listing Tags").

use std::collections::HashSet;

use bytes::Bytes;
use http::header::LINK;
use http::{HeaderMap, Method, StatusCode};
use reqwest::Url;
use serde::Deserialize;

use super::answer::Answer;
use super::location::redacted;
use super::retry::Budget;
use super::session::{Request, Session, may_pass};
use super::{Client, Error, Result};
use crate::image::{RegistryName, Repository, RepositoryName};

/// How many names are asked for at once. ECR refuses more than 1000.
const PAGE: &str = "1000";
/// Largest page that is read: a registry that knows no pages sends everything at once, and a
/// hundred thousand tags of the greatest length are 13 MB.
const MAX_PAGE_BYTES: u64 = 32 << 20;
/// After so many pages a list is taken for endless.
const MAX_PAGES: usize = 100_000;

/// What a page lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tags,
    Repositories,
}

/// A page. Some registries say `null` for none.
#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
    repositories: Option<Vec<String>>,
}

/// A list that is asked for page by page.
pub struct Pages {
    session: Session,
    kind: Kind,
    /// What to ask for next; `None` after the last page.
    next: Option<Url>,
    /// Whether the first page is still to come.
    is_first: bool,
    last: Option<String>,
    seen: HashSet<String>,
}

impl Client {
    /// Returns the tags of `repository`, those after `last` when it is given.
    #[must_use]
    pub fn tags(&self, repository: &Repository, last: Option<String>) -> Pages {
        Pages::new(self.origin(repository), Kind::Tags, last)
    }

    /// Returns the names of the repositories of `registry`, those after `last` when it is given.
    ///
    /// # Panics
    ///
    /// Never: the name of the repository that stands in is valid.
    #[must_use]
    pub fn repositories(&self, registry: &RegistryName, last: Option<String>) -> Pages {
        // The name only stands in for the repository that credentials are looked up for.
        let name: RepositoryName = "catalog".parse().expect("a valid name");
        let repository = Repository { registry: registry.clone(), name };
        Pages::new(self.origin(&repository), Kind::Repositories, last)
    }
}

impl Pages {
    fn new(session: Session, kind: Kind, last: Option<String>) -> Self {
        Self { session, kind, next: None, is_first: true, last, seen: HashSet::new() }
    }

    /// Returns the next page, which may be empty, or `None` after the last.
    ///
    /// # Errors
    ///
    /// Of kind `NotFound` where there is no such repository; [`Error::Protocol`] for a list that
    /// makes no sense, or does not end.
    pub async fn next(&mut self) -> Result<Option<Vec<String>>> {
        let mut budget = self.session.budget();
        let (answer, body) = match (self.is_first, self.next.take()) {
            (true, _) => self.first(&mut budget).await?,
            (false, Some(url)) => self.ask(url, &mut budget).await?,
            (false, None) => return Ok(None),
        };
        self.is_first = false;
        let answer = answer.expect_success().await?;
        let names = self.names(&answer, &body)?;
        self.next = next_page(answer.headers(), &answer.url);
        if let Some(next) = &self.next
            && (self.seen.len() >= MAX_PAGES || !self.seen.insert(next.to_string()))
        {
            return Err(answer.protocol("the pages of the list do not end"));
        }
        Ok(Some(names))
    }

    /// Asks for the first page, with a size; without one when the registry does not like that.
    async fn first(&self, budget: &mut Budget) -> Result<(Answer, Bytes)> {
        let mut sizes = [Some(PAGE), None].into_iter();
        loop {
            let size = sizes.next().flatten();
            let (answer, body) = self.ask(self.url(size).await?, budget).await?;
            let is_refused = matches!(answer.status().as_u16(), 400 | 405 | 416 | 422 | 501);
            if size.is_none() || !is_refused {
                return Ok((answer, body));
            }
            tracing::debug!(status = %answer.status(), "the registry refuses a page's size");
        }
    }

    async fn url(&self, size: Option<&str>) -> Result<Url> {
        let mut url = match self.kind {
            Kind::Tags => self.session.url("tags/list").await?,
            Kind::Repositories => self.session.registry_url("_catalog").await?,
        };
        if size.is_some() || self.last.is_some() {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(size.map(|size| ("n", size)));
            query.extend_pairs(self.last.as_deref().map(|last| ("last", last)));
        }
        Ok(url)
    }

    async fn ask(&self, url: Url, budget: &mut Budget) -> Result<(Answer, Bytes)> {
        let scope = match self.kind {
            Kind::Tags => self.session.scope("pull"),
            // Docker's token authentication, spec/auth/scope.md.
            Kind::Repositories => "registry:catalog:*".to_owned(),
        };
        let request = Request::new(Method::GET, url, vec![scope]);
        let is_read = |answer: &Answer| answer.status().is_success();
        repeat_whole(&self.session, &request, is_read, MAX_PAGE_BYTES, budget).await
    }

    fn names(&self, answer: &Answer, body: &[u8]) -> Result<Vec<String>> {
        let page: Page = serde_json::from_slice(body)
            .map_err(|_| answer.protocol("the answer is no list that the protocol knows"))?;
        let names = match self.kind {
            Kind::Tags => page.tags,
            Kind::Repositories => page.repositories,
        };
        Ok(names.unwrap_or_default())
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pages").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Sends a request until there is an answer that no repetition would change, or the budget is spent.
pub(super) async fn repeat(
    session: &Session,
    request: &Request,
    budget: &mut Budget,
) -> Result<Answer> {
    loop {
        let error = match session.send(request).await {
            Ok(answer) if may_pass(&answer) => answer.into_error().await,
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        session.wait(request, error, budget).await?;
    }
}

/// Like [`repeat`], and returns the body of an answer that is to be read, `limit` bytes at most: one
/// that breaks off is asked for again.
pub(super) async fn repeat_whole(
    session: &Session,
    request: &Request,
    is_read: impl Fn(&Answer) -> bool,
    limit: u64,
    budget: &mut Budget,
) -> Result<(Answer, Bytes)> {
    loop {
        let mut answer = repeat(session, request, budget).await?;
        if !is_read(&answer) {
            return Ok((answer, Bytes::new()));
        }
        match answer.read(limit).await {
            Ok(body) => return Ok((answer, body)),
            Err(error) => session.wait(request, error, budget).await?,
        }
    }
}

/// Returns the page after the one that came from `url`, when its `Link` says that there is one
/// (RFC 8288). The link's path and query count; it is asked for where this page was, because
/// registries behind a proxy often do not know their own scheme, host and port.
pub(super) fn next_page(headers: &HeaderMap, url: &Url) -> Option<Url> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let target = links.flat_map(links_of).find(|(_, relation)| *relation == Some("next"));
    let (target, _) = target.or_else(|| {
        // A link without a relation can mean nothing else here.
        let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
        links.flat_map(links_of).find(|(_, relation)| relation.is_none())
    })?;
    let target = url.join(target).ok()?;
    let mut next = url.clone();
    next.set_path(target.path());
    next.set_query(target.query());
    Some(next)
}

/// Returns the targets of a `Link` header, with their first `rel`.
fn links_of(header: &str) -> Vec<(&str, Option<&str>)> {
    let mut links = Vec::new();
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let Some((target, parameters)) = after.split_once('>') else { break };
        let end = parameters.find('<').unwrap_or(parameters.len());
        let relation = parameters[..end]
            .split([';', ','])
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("rel"))
            .map(|(_, value)| value.trim().trim_matches('"'));
        links.push((target.trim(), relation));
        rest = &parameters[end..];
    }
    links
}

/// Returns an error for a document that is larger than rpub handles.
pub(super) fn too_large(url: &Url, limit: u64) -> Error {
    Error::TooLarge { url: redacted(url), limit }
}

/// Returns whether an answer of that status says that the registry does not know the request, rather
/// than that it refuses it.
pub(super) fn is_unknown(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 404 | 405 | 406 | 415 | 501)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn links_are_followed_at_home() {
        let url: Url = "https://r.example:5000/v2/a/tags/list?n=2".parse().unwrap();
        let next = |header: &'static str| {
            let headers = HeaderMap::from_iter([(LINK, HeaderValue::from_static(header))]);
            next_page(&headers, &url).map(|url| url.to_string())
        };
        let there = |path: &str| Some(format!("https://r.example:5000{path}"));
        let cases = [
            (r#"</v2/a/tags/list?last=b&n=2>; rel="next""#, there("/v2/a/tags/list?last=b&n=2")),
            ("<http://other/v2/a/tags/list?x=1%2F2>;rel=next", there("/v2/a/tags/list?x=1%2F2")),
            (r#"<list?last=c>; rel="next""#, there("/v2/a/tags/list?last=c")),
            (r#"<?last=c>; rel="next""#, there("/v2/a/tags/list?last=c")),
            (r#"</first>; rel="prev", </v2/x?last=a,b>; REL="next""#, there("/v2/x?last=a,b")),
            ("</v2/x>", there("/v2/x")),
            (r#"</first>; rel="prev""#, None),
            ("nonsense", None),
            ("<unclosed", None),
        ];
        for (header, expected) in cases {
            assert_eq!(next(header), expected, "{header}");
        }
    }
}
