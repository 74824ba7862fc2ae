//! References by docker's rules: `[registry/]repository[:tag][@digest]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Digest, Error};

/// The registry that a name without one belongs to.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag that a reference without tag and digest means.
pub const DEFAULT_TAG: &str = "latest";
/// Longest repository name with its registry (distribution: `reference.RepositoryNameTotalLengthMax`).
const MAX_NAME_LENGTH: usize = 255;
/// Longest tag (OCI distribution-spec, "Pulling manifests": `{0,127}` after the first character).
const MAX_TAG_LENGTH: usize = 128;

/// A registry's host name with its port, as in `docker.io` or `localhost:5000`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistryName(String);

impl RegistryName {
    /// Returns the text: host, and port when there is one.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the host without the port; brackets of an IPv6 address are kept.
    #[must_use]
    pub fn host(&self) -> &str {
        let end = self.0.find(']').map_or(0, |at| at + 1);
        match self.0[end..].find(':') {
            Some(at) => &self.0[..end + at],
            None => &self.0,
        }
    }

    /// Returns whether the host is this machine: `localhost`, 127.0.0.0/8 or `[::1]`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl FromStr for RegistryName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if is_domain(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(invalid(text, "the registry must be a host name or address, with an optional port"))
        }
    }
}

/// A repository's name within its registry, as in `library/alpine`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryName(String);

impl RepositoryName {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.chars().any(char::is_uppercase) {
            return Err(invalid(text, "the repository name must be lower case"));
        }
        if !text.split('/').all(is_path_component) {
            let reason = "a repository name is made of lower-case letters, digits and single \
                          separators (`.`, `_`, `__`, `-`) between them";
            return Err(invalid(text, reason));
        }
        if text.len() > MAX_NAME_LENGTH {
            return Err(invalid(text, "the repository name is longer than 255 characters"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A tag, as in `latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Tag {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let starts_well = text.bytes().next().is_some_and(word);
        let rest_is_well = text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if starts_well && rest_is_well && text.len() <= MAX_TAG_LENGTH {
            Ok(Self(text.to_owned()))
        } else {
            let reason = "a tag is up to 128 letters, digits, `_`, `.` and `-`, \
                          and does not start with `.` or `-`";
            Err(invalid(text, reason))
        }
    }
}

macro_rules! text_conversions {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    )*};
}
text_conversions!(RegistryName, RepositoryName, Tag);

/// A repository together with the registry that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Repository {
    /// The registry.
    pub registry: RegistryName,
    /// The name within it.
    pub name: RepositoryName,
}

impl Repository {
    /// Returns the short form people write: no `docker.io/`, no `library/`.
    #[must_use]
    pub fn familiar(&self) -> String {
        if self.registry.as_str() != DEFAULT_REGISTRY {
            return self.to_string();
        }
        let name = self.name.as_str();
        name.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(name).to_owned()
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.name)
    }
}

/// A normalised reference (distribution/reference, `ParseNormalizedNamed`).
///
/// The parser adds `docker.io/` and `library/` where docker does, but no tag: see
/// [`Reference::tag_or_latest`]. `Display` gives the full form.
///
/// ```
/// use rpub::image::Reference;
/// let reference: Reference = "alpine:3".parse().unwrap();
/// assert_eq!(reference.to_string(), "docker.io/library/alpine:3");
/// assert_eq!(reference.familiar(), "alpine:3");
/// assert!("Alpine".parse::<Reference>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    /// Registry and repository.
    pub repository: Repository,
    /// The tag, when the text had one.
    pub tag: Option<Tag>,
    /// The digest, when the text had one. It wins over the tag.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Returns the reference of `tag` in `repository`.
    #[must_use]
    pub fn tagged(repository: Repository, tag: Tag) -> Self {
        Self { repository, tag: Some(tag), digest: None }
    }

    /// Returns the reference of the manifest `digest` in `repository`.
    #[must_use]
    pub fn by_digest(repository: Repository, digest: Digest) -> Self {
        Self { repository, tag: None, digest: Some(digest) }
    }

    /// Returns the registry.
    #[must_use]
    pub fn registry(&self) -> &RegistryName {
        &self.repository.registry
    }

    /// Returns the reference with `latest` added when it has neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(Tag(DEFAULT_TAG.to_owned()));
        }
        self
    }

    /// Returns the tag, or `latest` when there is none.
    #[must_use]
    pub fn tag_or_latest(&self) -> Tag {
        self.tag.clone().unwrap_or_else(|| Tag(DEFAULT_TAG.to_owned()))
    }

    /// Returns what goes behind `/manifests/` in a request: the digest, else the tag, else `latest`.
    #[must_use]
    pub fn manifest_key(&self) -> String {
        match &self.digest {
            Some(digest) => digest.to_string(),
            None => self.tag_or_latest().0,
        }
    }

    /// Returns the short form people write: no `docker.io/`, no `library/`.
    #[must_use]
    pub fn familiar(&self) -> String {
        format!("{}{}", self.repository.familiar(), self.suffix())
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}"));
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}"));
        [tag, digest].into_iter().flatten().collect()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.repository, self.suffix())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|error| match error {
            Error::Reference { reason, .. } => invalid(text, reason),
            other => other,
        })
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

fn parse(text: &str) -> Result<Reference, Error> {
    if text.is_empty() {
        return Err(invalid(text, "it is empty"));
    }
    if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(invalid(text, "64 hexadecimal digits name an image id, not a repository"));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse()?)),
        None => (text, None),
    };
    let name_start = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[name_start..].find(':') {
        Some(at) => (&rest[..name_start + at], Some(rest[name_start + at + 1..].parse()?)),
        None => (rest, None),
    };
    let (domain, path) = split_domain(name);
    let registry: RegistryName = domain.parse()?;
    let is_official = registry.as_str() == DEFAULT_REGISTRY && !path.contains('/');
    let name: RepositoryName =
        if is_official { format!("library/{path}").parse()? } else { path.parse()? };
    if registry.as_str().len() + 1 + name.as_str().len() > MAX_NAME_LENGTH {
        return Err(invalid(text, "the name is longer than 255 characters"));
    }
    Ok(Reference { repository: Repository { registry, name }, tag, digest })
}

/// Splits a registry off, as distribution/reference's `splitDockerDomain` does: the first
/// component is one when it has a dot, a port or an upper-case letter, or is `localhost`.
fn split_domain(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", path)) => (DEFAULT_REGISTRY, path),
        Some((first, path))
            if first.contains(['.', ':', '['])
                || first == "localhost"
                || first.chars().any(char::is_uppercase) =>
        {
            (first, path)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rfind(']') {
        Some(end) => (&text[..=end], text[end + 1..].strip_prefix(':')),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port_is_well =
        port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let host_is_well = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
        None => host.split('.').all(is_domain_component),
    };
    let consumed = host.len() + port.map_or(0, |port| port.len() + 1);
    port_is_well && host_is_well && consumed == text.len()
}

fn is_domain_component(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Checks `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    bytes.split(|b| alphanumeric(*b)).all(|separator| match separator {
        [] | [b'.' | b'_'] | [b'_', b'_'] => true,
        run => run.iter().all(|b| *b == b'-'),
    })
}

fn invalid(text: &str, reason: &'static str) -> Error {
    Error::Reference { text: text.chars().take(300).collect(), reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

    /// Wire row H1: every name of Docker Hub is `docker.io`, and a single component is in `library`.
    #[test]
    fn normalises_as_docker_does() {
        let by_digest = format!("test:5000/repo@sha256:{HEX}");
        let both = format!("a/b:t@sha256:{HEX}");
        let both_full = format!("docker.io/a/b:t@sha256:{HEX}");
        let cases = [
            ("alpine", "docker.io/library/alpine"),
            ("docker.io/alpine", "docker.io/library/alpine"),
            ("index.docker.io/alpine:3", "docker.io/library/alpine:3"),
            ("team/app", "docker.io/team/app"),
            ("localhost/app", "localhost/app"),
            ("localhost:5000/x", "localhost:5000/x"),
            ("test.example/a/b/c:1.2-3_4", "test.example/a/b/c:1.2-3_4"),
            ("Uppercase/lower", "Uppercase/lower"),
            ("MYHOST/foo", "MYHOST/foo"),
            ("[2001:db8::1]:5000/repo:tag", "[2001:db8::1]:5000/repo:tag"),
            ("[::1]/repo", "[::1]/repo"),
            ("a__b/c.d/e---f", "docker.io/a__b/c.d/e---f"),
            (&by_digest, &by_digest),
            (&both, &both_full),
        ];
        for (text, expected) in cases {
            let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reference.to_string(), expected);
        }
    }

    #[test]
    fn refuses_what_the_grammar_refuses() {
        let upper_digest = format!("a@sha256:{}", HEX.to_uppercase());
        let long = format!("a/{}", "a".repeat(255));
        let long_tag = format!("a:{}", "a".repeat(129));
        let refused = [
            "",
            ":justtag",
            "@sha256:ff",
            "repo@sha256:ff",
            "Repo",
            "a//b",
            "a/",
            "/a",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "a:b:c",
            "a:",
            "a:.b",
            "[fe80::1%eth0]:5000/x",
            "[::1/x",
            "[::1]x/y",
            "-host.example/x",
            "host.example:port/x",
            "http://host.example/x",
            "a b",
            HEX,
            &upper_digest,
            &long,
            &long_tag,
            "registry.example/Upper",
        ];
        for text in refused {
            assert!(text.parse::<Reference>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn familiar_form_hides_defaults() {
        for text in ["alpine", "team/app:1", "localhost/app", "r.example/library/a:1"] {
            let reference: Reference = text.parse().expect("valid");
            assert_eq!(reference.familiar(), text);
        }
    }

    #[test]
    fn knows_loopback_hosts() {
        for (name, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:1", true),
            ("127.9.0.1", true),
            ("[::1]:5000", true),
            ("[::2]:5000", false),
            ("128.0.0.1", false),
            ("localhost.example", false),
        ] {
            let registry: RegistryName = name.parse().expect("valid");
            assert_eq!(registry.is_loopback(), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(text in "[a-z0-9.:/@_\\-\\[\\]A-Z]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                let printed = reference.to_string();
                prop_assert_eq!(printed.parse::<Reference>(), Ok(reference.clone()));
                prop_assert_eq!(reference.familiar().parse::<Reference>(), Ok(reference));
            }
        }
    }
}
