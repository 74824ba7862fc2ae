//! What a request's path means (OCI distribution-spec, "Endpoints"). Pure.

use crate::image::{Digest, RepositoryName, Tag};

use super::reply::{Code, Failure};

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(RepositoryName),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(RepositoryName, Key),
    /// `/v2/<name>/blobs/<digest>`
    Blob(RepositoryName, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(RepositoryName),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(RepositoryName, String),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(RepositoryName, Digest),
}

/// How a manifest is named within its repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Tag(Tag),
    Digest(Digest),
    /// Neither: there can be no such manifest.
    Invalid(String),
}

impl Key {
    fn parse(text: &str) -> Self {
        let tag = || text.parse::<Tag>().map(Self::Tag).ok();
        let key = text.parse::<Digest>().map(Self::Digest).ok().or_else(tag);
        key.unwrap_or_else(|| Self::Invalid(text.to_owned()))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(formatter),
            Self::Digest(digest) => digest.fmt(formatter),
            Self::Invalid(text) => formatter.write_str(text),
        }
    }
}

/// Reads a path.
pub(super) fn parse(path: &str) -> Result<Route, Failure> {
    let unknown = || Failure::new(Code::NotFound, format!("there is nothing at `{path}`"));
    let rest = match path {
        "/v2" | "/v2/" => return Ok(Route::Base),
        "/v2/_catalog" => return Ok(Route::Catalog),
        _ => path.strip_prefix("/v2/").ok_or_else(unknown)?,
    };
    // A repository may be called anything, `blobs` too, so paths are read from their end.
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Ok(Route::Tags(repository(name)?));
    }
    let uploads = rest.strip_suffix("/blobs/uploads").or(rest.strip_suffix("/blobs/uploads/"));
    if let Some(name) = uploads {
        return Ok(Route::Uploads(repository(name)?));
    }
    let (before, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
    if let Some(name) = before.strip_suffix("/blobs/uploads") {
        return Ok(Route::Upload(repository(name)?, last.to_owned()));
    }
    let (name, kind) = before.rsplit_once('/').ok_or_else(unknown)?;
    let last = decode(last);
    match kind {
        "manifests" => Ok(Route::Manifest(repository(name)?, Key::parse(&last))),
        "blobs" => Ok(Route::Blob(repository(name)?, digest(&last)?)),
        "referrers" => Ok(Route::Referrers(repository(name)?, digest(&last)?)),
        _ => Err(unknown()),
    }
}

/// Reads a digest that a client sent.
pub(super) fn digest(text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|error| Failure::because(Code::DigestInvalid, &error))
}

fn repository(name: &str) -> Result<RepositoryName, Failure> {
    name.parse().map_err(|error| Failure::because(Code::NameInvalid, &error))
}

/// Undoes percent-encoding: some clients write the colon of a digest as `%3A`. That a plus sign
/// becomes a space does no harm, as neither is valid here.
fn decode(text: &str) -> String {
    let decoded = url::form_urlencoded::parse(text.as_bytes()).next();
    decoded.map_or_else(String::new, |(key, _)| key.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_endpoint() {
        let digest = Digest::of(b"x");
        let name = |text: &str| text.parse::<RepositoryName>().unwrap();
        let tag = Key::Tag("1".parse().unwrap());
        let cases = [
            ("/v2/".to_owned(), Route::Base),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/b/tags/list".to_owned(), Route::Tags(name("a/b"))),
            ("/v2/a/manifests/1".to_owned(), Route::Manifest(name("a"), tag.clone())),
            (
                "/v2/blobs/uploads/manifests/1".to_owned(),
                Route::Manifest(name("blobs/uploads"), tag),
            ),
            (format!("/v2/a/blobs/{digest}"), Route::Blob(name("a"), digest.clone())),
            (
                format!("/v2/a/blobs/{}", digest.to_string().replace(':', "%3A")),
                Route::Blob(name("a"), digest.clone()),
            ),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads/00ff".to_owned(), Route::Upload(name("a"), "00ff".to_owned())),
            (format!("/v2/a/referrers/{digest}"), Route::Referrers(name("a"), digest)),
        ];
        for (path, expected) in cases {
            assert_eq!(parse(&path).map_err(|failure| failure.code), Ok(expected), "{path}");
        }
    }

    #[test]
    fn refuses_the_rest_by_code() {
        let cases = [
            ("/", Code::NotFound),
            ("/v1/", Code::NotFound),
            ("/v2/a", Code::NotFound),
            ("/v2/a/other/1", Code::NotFound),
            ("/v2/A/manifests/1", Code::NameInvalid),
            ("/v2/../manifests/1", Code::NameInvalid),
            ("/v2/a/blobs/sha256:1", Code::DigestInvalid),
        ];
        for (path, code) in cases {
            assert_eq!(parse(path).map_err(|failure| failure.code), Err(code), "{path}");
        }
    }
}
