//! `tag ls` and `repo ls`: names as they come, page by page.

use regex::{Regex, RegexBuilder};

use crate::image::{RegistryName, Repository, by_version};
use crate::operations::{Error, Kind, Session};
use crate::registry::Pages;

/// Largest compiled regular expression.
const MAX_REGEX_BYTES: usize = 1 << 20;
/// Most names that are held to be sorted.
const MAX_SORTED: usize = 1_000_000;

/// Which names of a list are wanted, and how many.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// Regular expressions, one of which must match a whole name; all names when there are none.
    pub include: Vec<String>,
    /// Regular expressions, none of which may match a whole name.
    pub exclude: Vec<String>,
    /// The name after which the list begins.
    pub last: Option<String>,
    /// How many names are wanted at most.
    pub limit: Option<usize>,
    /// The order; none for the registry's, in which names are given out as they come.
    pub order: Option<TagOrder>,
}

/// An order of tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagOrder {
    /// By name.
    Name,
    /// By version, the lowest first; before them those that are no version, by name.
    Version,
}

/// Gives the tags of a repository to `each`.
///
/// # Errors
///
/// [`Kind::Settings`] for a regular expression that is none, [`Kind::NotFound`] when there is no such
/// repository; else whatever the registry or `each` says.
pub async fn list_tags(
    session: &Session,
    repository: &Repository,
    request: &ListRequest,
    each: impl FnMut(&str) -> Result<(), Error>,
) -> Result<(), Error> {
    let pages = session.client.tags(repository, request.last.clone());
    let what = format!("failed to list the tags of `{}`", repository.familiar());
    list(pages, request, each).await.map_err(|error| error.about(what))
}

/// Gives the names of a registry's repositories to `each`.
///
/// # Errors
///
/// As [`list_tags`]. Many registries have no such list for everybody.
pub async fn list_repositories(
    session: &Session,
    registry: &RegistryName,
    request: &ListRequest,
    each: impl FnMut(&str) -> Result<(), Error>,
) -> Result<(), Error> {
    let pages = session.client.repositories(registry, request.last.clone());
    list(pages, request, each).await.map_err(|error| {
        let is_missing = error.kind == Kind::NotFound;
        let error = error.about(format!("failed to list the repositories of `{registry}`"));
        if is_missing { error.hint("this registry has no such list") } else { error }
    })
}

async fn list(
    mut pages: Pages,
    request: &ListRequest,
    mut each: impl FnMut(&str) -> Result<(), Error>,
) -> Result<(), Error> {
    let filter = Filter::new(request)?;
    let limit = request.limit.unwrap_or(usize::MAX);
    let mut held: Vec<String> = Vec::new();
    let mut given = 0;
    while given < limit
        && let Some(names) = pages.next().await?
    {
        let wanted = names.into_iter().filter(|name| filter.wants(name));
        if request.order.is_some() {
            held.extend(wanted);
            if held.len() > MAX_SORTED {
                let message = format!("there are more than {MAX_SORTED} names to sort");
                return Err(Error::new(Kind::User, message).hint("list them without `--sort`"));
            }
            continue;
        }
        for name in wanted.take(limit - given) {
            each(&name)?;
            given += 1;
        }
    }
    match request.order {
        Some(TagOrder::Name) => held.sort(),
        Some(TagOrder::Version) => held.sort_by(|a, b| by_version(a, b)),
        None => {}
    }
    held.iter().take(limit).try_for_each(|name| each(name))
}

/// The compiled regular expressions.
struct Filter {
    include: Vec<Regex>,
    exclude: Vec<Regex>,
}

impl Filter {
    fn new(request: &ListRequest) -> Result<Self, Error> {
        let compile = |flag: &str, texts: &[String]| {
            let whole = |text: &String| {
                let mut builder = RegexBuilder::new(&format!("^(?:{text})$"));
                builder.size_limit(MAX_REGEX_BYTES).build().map_err(|error| {
                    Error::new(Kind::Settings, format!("invalid `--{flag} {text}`")).because(error)
                })
            };
            texts.iter().map(whole).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            include: compile("include", &request.include)?,
            exclude: compile("exclude", &request.exclude)?,
        })
    }

    fn wants(&self, name: &str) -> bool {
        let matches = |expressions: &[Regex]| expressions.iter().any(|regex| regex.is_match(name));
        (self.include.is_empty() || matches(&self.include)) && !matches(&self.exclude)
    }
}
