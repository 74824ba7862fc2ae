//! `registries.conf` of the containers tools (containers-registries.conf(5), version 2).

use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::Deserialize;
use toml::Spanned;

use super::HostsError;
use super::error::Source;
use crate::image::{Reference, RegistryName, Repository};

/// What all `registries.conf` files together say.
#[derive(Debug, Clone, Default)]
pub(super) struct Registries {
    entries: Vec<Entry>,
    credential_helpers: Option<Vec<String>>,
}

/// A `[[registry]]` table.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) prefix: String,
    /// Where the prefix really is; a prefix with a wildcard may have none.
    pub(super) location: Option<String>,
    pub(super) access: PlaceAccess,
    pub(super) is_blocked: bool,
    pub(super) mirrors: Vec<Mirror>,
    pub(super) path: PathBuf,
    pub(super) line: usize,
}

/// A `[[registry.mirror]]` table.
#[derive(Debug, Clone)]
pub(super) struct Mirror {
    pub(super) location: String,
    pub(super) access: PlaceAccess,
    pulls: Pulls,
}

/// How a place is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PlaceAccess {
    pub(super) is_insecure: bool,
    pub(super) proxy: Option<String>,
}

/// Which pulls a mirror is for (`pull-from-mirror`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pulls {
    All,
    ByDigest,
    ByTag,
}

/// What is wanted of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullTarget<'a> {
    /// The manifest that the reference names.
    Manifest(&'a Reference),
    /// A blob, or whatever else the digest makes certain.
    Content(&'a Repository),
}

impl PullTarget<'_> {
    /// Returns the repository.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        match self {
            Self::Manifest(reference) => &reference.repository,
            Self::Content(repository) => repository,
        }
    }

    /// Returns whether it is asked for by nothing but a tag.
    pub(super) fn is_by_tag(&self) -> bool {
        matches!(self, Self::Manifest(reference) if reference.digest.is_none())
    }

    /// Returns the text that prefixes are compared with.
    fn text(&self) -> String {
        match self {
            Self::Manifest(reference) => {
                let mut named = (*reference).clone();
                if named.digest.is_some() {
                    named.tag = None;
                } else {
                    named = named.or_latest();
                }
                named.to_string()
            }
            Self::Content(repository) => repository.to_string(),
        }
    }
}

impl<'a> From<&'a Reference> for PullTarget<'a> {
    fn from(reference: &'a Reference) -> Self {
        Self::Manifest(reference)
    }
}

impl<'a> From<&'a Repository> for PullTarget<'a> {
    fn from(repository: &'a Repository) -> Self {
        Self::Content(repository)
    }
}

/// An entry that is about what is wanted.
pub(super) struct Match<'a> {
    pub(super) entry: &'a Entry,
    /// What follows the prefix in the repository's name, with its `/`.
    rest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawFile {
    #[serde(default)]
    registry: Vec<Spanned<RawEntry>>,
    credential_helpers: Option<Vec<Spanned<String>>>,
    /// Only in the format's first version.
    registries: Option<Spanned<toml::Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawEntry {
    prefix: Option<Spanned<String>>,
    location: Option<Spanned<String>>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    proxy: Option<Spanned<String>>,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<RawMirror>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMirror {
    location: Spanned<String>,
    #[serde(default)]
    insecure: bool,
    proxy: Option<Spanned<String>>,
    pull_from_mirror: Option<Spanned<String>>,
}

impl Registries {
    /// Parses the text of the file at `path`. Keys that rpub does not know are passed over.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, HostsError> {
        let source = Source { path, text };
        let raw: RawFile = toml::from_str(text).map_err(|error| source.syntax(&error))?;
        if let Some(old) = raw.registries {
            let reason = "this is the format's version 1, which rpub does not read: \
                          write a `[[registry]]` table for each registry instead";
            return Err(source.invalid(&old.span(), reason));
        }
        let names = raw.credential_helpers.map(|names| {
            names.into_iter().map(|name| helper_name(&source, name)).collect::<Result<_, _>>()
        });
        let mut registries = Self { credential_helpers: names.transpose()?, ..Self::default() };
        for entry in raw.registry {
            registries.add(&source, entry)?;
        }
        Ok(registries)
    }

    fn add(&mut self, source: &Source<'_>, raw: Spanned<RawEntry>) -> Result<(), HostsError> {
        let span = raw.span();
        let entry = entry(source, raw)?;
        let same = |other: &&Entry| other.prefix == entry.prefix;
        if let Some(other) = self.entries.iter().find(same) {
            let is_same = (other.is_blocked, &other.access) == (entry.is_blocked, &entry.access);
            if !is_same {
                let (prefix, line) = (&entry.prefix, other.line);
                let reason = format!("the prefix `{prefix}` has another meaning in line {line}");
                return Err(source.invalid(&span, reason));
            }
        } else {
            self.entries.push(entry);
        }
        Ok(())
    }

    /// Puts what `later` says over what is said here.
    pub(super) fn merge(&mut self, later: Self) {
        for entry in later.entries {
            self.entries.retain(|earlier| earlier.prefix != entry.prefix);
            self.entries.push(entry);
        }
        if later.credential_helpers.is_some() {
            self.credential_helpers = later.credential_helpers;
        }
    }

    /// Returns the entry with the longest prefix of what is wanted.
    pub(super) fn find(&self, wanted: &PullTarget<'_>) -> Option<Match<'_>> {
        let (text, name) = (wanted.text(), wanted.repository().to_string());
        let lengths = self
            .entries
            .iter()
            .filter_map(|entry| prefix_length(&entry.prefix, &text).map(|length| (length, entry)));
        // Of two that take as much, the one that says more of it.
        let specificity = |(length, entry): &(usize, &Entry)| {
            (*length, !entry.prefix.starts_with('*'), entry.prefix.len())
        };
        let (length, entry) = lengths.max_by_key(specificity)?;
        // A prefix that names a tag or digest leaves nothing of the repository.
        let rest = name.get(length..).unwrap_or_default().to_owned();
        Some(Match { entry, rest })
    }

    pub(super) fn credential_helpers(&self) -> &[String] {
        self.credential_helpers.as_deref().unwrap_or_default()
    }
}

impl Match<'_> {
    /// Returns the mirrors for what is wanted, and the repository that it is there.
    pub(super) fn mirrors(
        &self,
        wanted: &PullTarget<'_>,
    ) -> impl Iterator<Item = (&Mirror, Repository)> {
        let is_for = |mirror: &&Mirror| match (mirror.pulls, wanted) {
            (Pulls::All, _) | (_, PullTarget::Content(_)) => true,
            (Pulls::ByDigest, _) => !wanted.is_by_tag(),
            (Pulls::ByTag, _) => wanted.is_by_tag(),
        };
        let mirrors: Vec<&Mirror> = self.entry.mirrors.iter().filter(is_for).collect();
        mirrors.into_iter().filter_map(|mirror| Some((mirror, self.moved(&mirror.location)?)))
    }

    /// Returns the repository where it really is; `None` when that is where it seems to be.
    pub(super) fn moved_by_location(&self) -> Option<Repository> {
        self.moved(self.entry.location.as_deref()?)
    }

    fn moved(&self, location: &str) -> Option<Repository> {
        let full = format!("{location}{}", self.rest);
        let (registry, name) = full.split_once('/')?;
        Some(Repository { registry: registry.parse().ok()?, name: name.parse().ok()? })
    }
}

/// Returns how many bytes of `text` the prefix takes, when it ends where a component ends.
/// `*.example.com` takes any host below `example.com`, with its port.
fn prefix_length(prefix: &str, text: &str) -> Option<usize> {
    let length = if let Some(domain) = prefix.strip_prefix('*') {
        let place = text.split('/').next().unwrap_or_default();
        let host = place.split(':').next().unwrap_or_default();
        let is_below = host.len() > domain.len() && host.ends_with(domain);
        is_below.then_some(place.len())?
    } else {
        text.starts_with(prefix).then_some(prefix.len())?
    };
    let next = text.as_bytes().get(length);
    next.is_none_or(|byte| matches!(byte, b'/' | b':' | b'@')).then_some(length)
}

fn entry(source: &Source<'_>, raw: Spanned<RawEntry>) -> Result<Entry, HostsError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let Some(prefix) = raw.prefix.as_ref().or(raw.location.as_ref()) else {
        let reason = "a `[[registry]]` table needs a `prefix` or a `location`";
        return Err(source.invalid(&span, reason));
    };
    let prefix = prefix_text(source, prefix)?;
    let location = match &raw.location {
        Some(location) if !location.get_ref().is_empty() && *location.get_ref() != prefix => {
            Some(location_text(source, location)?)
        }
        _ => None,
    };
    let mut mirrors = Vec::new();
    for mirror in raw.mirror {
        mirrors.push(self::mirror(source, mirror, raw.mirror_by_digest_only)?);
    }
    let proxy = raw.proxy.map(|proxy| proxy_text(source, &proxy)).transpose()?;
    Ok(Entry {
        prefix,
        location,
        access: PlaceAccess { is_insecure: raw.insecure, proxy },
        is_blocked: raw.blocked,
        mirrors,
        path: source.path.to_owned(),
        line: source.line(&span),
    })
}

fn mirror(
    source: &Source<'_>,
    raw: RawMirror,
    is_by_digest_only: bool,
) -> Result<Mirror, HostsError> {
    let pulls = match &raw.pull_from_mirror {
        None if is_by_digest_only => Pulls::ByDigest,
        None => Pulls::All,
        Some(text) if is_by_digest_only && !text.get_ref().is_empty() => {
            let reason = "`pull-from-mirror` and `mirror-by-digest-only` exclude each other";
            return Err(source.invalid(&text.span(), reason));
        }
        Some(text) => match text.get_ref().as_str() {
            "" | "all" => Pulls::All,
            "digest-only" => Pulls::ByDigest,
            "tag-only" => Pulls::ByTag,
            _ => {
                let reason = "`pull-from-mirror` is `all`, `digest-only` or `tag-only`";
                return Err(source.invalid(&text.span(), reason));
            }
        },
    };
    let location = location_text(source, &raw.location)?;
    let proxy = raw.proxy.map(|proxy| proxy_text(source, &proxy)).transpose()?;
    Ok(Mirror { location, access: PlaceAccess { is_insecure: raw.insecure, proxy }, pulls })
}

fn prefix_text(source: &Source<'_>, prefix: &Spanned<String>) -> Result<String, HostsError> {
    let text = prefix.get_ref().trim_end_matches('/');
    match text.strip_prefix("*.") {
        Some(domain) if !domain.is_empty() && !domain.contains(['/', ':', '@', '*']) => {
            Ok(text.to_owned())
        }
        Some(_) => {
            let reason = format!("the prefix `{text}` is not of the form `*.example.com`");
            Err(source.invalid(&prefix.span(), reason))
        }
        None => {
            check_place(source, prefix, text)?;
            Ok(text.to_owned())
        }
    }
}

fn location_text(source: &Source<'_>, location: &Spanned<String>) -> Result<String, HostsError> {
    let text = location.get_ref().trim_end_matches('/');
    check_place(source, location, text)?;
    // A location is where repositories are; of a tag or digest, the repository.
    let start = text.find('/').unwrap_or(text.len());
    let end = text[start..].find([':', '@']).map_or(text.len(), |at| start + at);
    Ok(text[..end].to_owned())
}

/// Checks that a text begins with a registry's name.
fn check_place(source: &Source<'_>, at: &Spanned<String>, text: &str) -> Result<(), HostsError> {
    let host = text.split('/').next().unwrap_or_default();
    let reason = match host.parse::<RegistryName>() {
        Ok(_) => return Ok(()),
        Err(_) if text.contains("://") => {
            format!("`{text}` is a URL; only `host[:port][/path]` is meant")
        }
        Err(error) => error.to_string(),
    };
    Err(source.invalid(&at.span(), reason))
}

/// Reads the URL of a proxy.
pub(super) fn proxy_text(
    source: &Source<'_>,
    proxy: &Spanned<String>,
) -> Result<String, HostsError> {
    const SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];
    let text = proxy.get_ref();
    if Url::parse(text).is_ok_and(|url| url.has_host() && SCHEMES.contains(&url.scheme())) {
        return Ok(text.clone());
    }
    let reason = "a `proxy` is a URL with the scheme http, https, socks5 or socks5h";
    Err(source.invalid(&proxy.span(), reason))
}

/// Checks that a text names a program beside others, and no path.
fn helper_name(source: &Source<'_>, name: Spanned<String>) -> Result<String, HostsError> {
    let text = name.get_ref();
    if !text.is_empty() && !text.contains(|c: char| c == '/' || c.is_whitespace() || c == '\0') {
        return Ok(name.into_inner());
    }
    let reason = "a credential helper is the NAME of a program `docker-credential-NAME`";
    Err(source.invalid(&name.span(), reason))
}
