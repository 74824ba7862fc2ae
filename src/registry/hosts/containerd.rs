//! `hosts.toml` of containerd: the hosts that stand in for a registry (containerd, docs/hosts.md).

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use indexmap::IndexMap;
use reqwest::Url;
use serde::Deserialize;
use toml::Spanned;

use super::certificates::{IdentityFiles, TlsFiles};
use super::containers::proxy_text;
use super::error::Source;
use super::{Headers, HostsError};

/// What one `hosts.toml` says.
#[derive(Debug, Clone)]
pub(super) struct Namespace {
    pub(super) path: PathBuf,
    /// The hosts in the order in which they are tried.
    pub(super) hosts: Vec<Upstream>,
    /// The one that is tried last; without a URL, the registry itself.
    pub(super) server: Upstream,
}

/// A host of a `hosts.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upstream {
    pub(super) url: Option<Url>,
    pub(super) capabilities: Capabilities,
    pub(super) tls: TlsFiles,
    pub(super) is_unverified: bool,
    pub(super) headers: Headers,
    /// The URL's path is the API's root, without `/v2` behind it.
    pub(super) overrides_path: bool,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) proxy: Option<String>,
}

/// What a host may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) pull: bool,
    pub(super) resolve: bool,
    pub(super) push: bool,
}

impl Capabilities {
    const ALL: Self = Self { pull: true, resolve: true, push: true };
}

impl Upstream {
    /// Returns the path of the API's root, with a `/` at its end.
    pub(super) fn root(&self) -> String {
        let path = self.url.as_ref().map_or("", |url| url.path().trim_matches('/'));
        match path {
            "" if self.overrides_path => "/".to_owned(),
            "" => "/v2/".to_owned(),
            path if self.overrides_path || path == "v2" || path.ends_with("/v2") => {
                format!("/{path}/")
            }
            path => format!("/{path}/v2/"),
        }
    }
}

/// The keys beside those of the server, which are a [`RawHost`]'s.
#[derive(Deserialize)]
struct RawFile {
    server: Option<Spanned<String>>,
    #[serde(default)]
    host: IndexMap<Spanned<String>, RawHost>,
}

#[derive(Deserialize)]
struct RawHost {
    capabilities: Option<Vec<Spanned<String>>>,
    ca: Option<OneOrMany>,
    client: Option<Spanned<RawClient>>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    header: IndexMap<Spanned<String>, Spanned<OneOrMany>>,
    #[serde(default)]
    override_path: bool,
    dial_timeout: Option<Spanned<String>>,
    proxy: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a path, or a list of paths or of pairs of paths")]
enum RawClient {
    One(String),
    Many(Vec<RawIdentity>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawIdentity {
    One(String),
    Pair(Vec<String>),
}

impl OneOrMany {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(list) => list,
        }
    }
}

/// Parses the text of the `hosts.toml` at `path`. Keys that rpub does not know are passed over.
pub(super) fn parse(path: &Path, text: &str) -> Result<Namespace, HostsError> {
    let source = Source { path, text };
    let syntax = |error: toml::de::Error| source.syntax(&error);
    let file: RawFile = toml::from_str(text).map_err(syntax)?;
    let server: RawHost = toml::from_str(text).map_err(syntax)?;
    let url = file.server.as_ref().map(|server| read_url(&source, server)).transpose()?;
    let server = upstream(&source, url, server)?;
    let mut hosts = Vec::new();
    for (key, raw) in file.host {
        let url = Some(read_url(&source, &key)?);
        hosts.push(upstream(&source, url, raw)?);
    }
    Ok(Namespace { path: path.to_owned(), hosts, server })
}

/// Reads the URL of a host; one without a scheme is meant to be `https`.
fn read_url(source: &Source<'_>, at: &Spanned<String>) -> Result<Url, HostsError> {
    let text = at.get_ref();
    let has_scheme = text.contains("://");
    let full = if has_scheme { text.clone() } else { format!("https://{text}") };
    let parsed = Url::parse(&full).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    });
    parsed.ok_or_else(|| {
        let reason = "a host is a URL of the form `https://host[:port][/path]`";
        source.invalid(&at.span(), reason)
    })
}

fn upstream(source: &Source<'_>, url: Option<Url>, raw: RawHost) -> Result<Upstream, HostsError> {
    let directory = source.path.parent().unwrap_or(Path::new(""));
    let authorities = raw.ca.map(OneOrMany::into_list).unwrap_or_default();
    let tls = TlsFiles {
        authorities: authorities.into_iter().map(|path| directory.join(path)).collect(),
        identities: raw
            .client
            .map(|client| identities(source, directory, client))
            .transpose()?
            .unwrap_or_default(),
    };
    let connect_timeout = raw.dial_timeout.map(|text| {
        parse_duration(text.get_ref()).ok_or_else(|| {
            source.invalid(&text.span(), "`dial_timeout` is a duration such as `1s` or `500ms`")
        })
    });
    let proxy = raw.proxy.map(|text| proxy_text(source, &text));
    Ok(Upstream {
        url,
        capabilities: capabilities(source, raw.capabilities)?,
        tls,
        is_unverified: raw.skip_verify,
        headers: headers(source, raw.header)?,
        overrides_path: raw.override_path,
        connect_timeout: connect_timeout.transpose()?,
        proxy: proxy.transpose()?,
    })
}

fn capabilities(
    source: &Source<'_>,
    raw: Option<Vec<Spanned<String>>>,
) -> Result<Capabilities, HostsError> {
    let Some(raw) = raw else { return Ok(Capabilities::ALL) };
    let mut found = Capabilities { pull: false, resolve: false, push: false };
    for word in raw {
        match word.get_ref().to_ascii_lowercase().as_str() {
            "pull" => found.pull = true,
            "resolve" => found.resolve = true,
            "push" => found.push = true,
            // Newer versions of containerd have more of them.
            "referrers" => {}
            other => {
                let reason = format!("`{other}` is not a capability: pull, resolve or push");
                return Err(source.invalid(&word.span(), reason));
            }
        }
    }
    Ok(found)
}

fn identities(
    source: &Source<'_>,
    directory: &Path,
    raw: Spanned<RawClient>,
) -> Result<Vec<IdentityFiles>, HostsError> {
    let span = raw.span();
    let both = |path: &str| IdentityFiles { certificate: directory.join(path), key: None };
    let list = match raw.into_inner() {
        RawClient::One(path) => return Ok(vec![both(&path)]),
        RawClient::Many(list) => list,
    };
    let one = |identity: RawIdentity| match identity {
        RawIdentity::One(path) => Ok(both(&path)),
        RawIdentity::Pair(pair) => match pair.as_slice() {
            [path] => Ok(both(path)),
            [path, key] if key.is_empty() => Ok(both(path)),
            [path, key] => Ok(IdentityFiles {
                certificate: directory.join(path),
                key: Some(directory.join(key)),
            }),
            _ => {
                let reason = "a client certificate is a pair: `[\"certificate\", \"key\"]`";
                Err(source.invalid(&span, reason))
            }
        },
    };
    list.into_iter().map(one).collect()
}

fn headers(
    source: &Source<'_>,
    raw: IndexMap<Spanned<String>, Spanned<OneOrMany>>,
) -> Result<Headers, HostsError> {
    let mut headers = Headers::default();
    for (name, values) in raw {
        let span = values.span();
        let parsed: HeaderName = name.get_ref().parse().map_err(|_| {
            source.invalid(&name.span(), format!("`{}` is not a header's name", name.get_ref()))
        })?;
        for value in values.into_inner().into_list() {
            // The value may be a secret: it is not shown.
            let value = HeaderValue::from_str(&value).map_err(|_| {
                source.invalid(&span, format!("the value of `{parsed}` makes no header"))
            })?;
            headers.add(parsed.clone(), value).map_err(|reason| source.invalid(&span, reason))?;
        }
    }
    Ok(headers)
}

/// Reads a duration in Go's form, as in `1m30s`.
fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let (mut rest, mut seconds) = (text.trim(), 0.0);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let length = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, factor) = UNITS.iter().find(|(unit, _)| *unit == &rest[..length])?;
        seconds += number * factor;
        rest = &rest[length..];
    }
    // None of all that is too long; nothing is no time-out.
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = r#"
server = "https://registry-1.docker.io"
skip_verify = true
[header]
x-team = "a"

[host."https://zone.example/us"]
capabilities = ["pull"]
ca = "zone.crt"
client = [["/c/client.cert", "client.key"], ["both.pem", ""]]
dial_timeout = "1m1.5s"
[host."https://zone.example/us".header]
x-custom = ["one", "two"]

[host."http://127.0.0.1:5000"]
capabilities = ["pull", "resolve", "push"]

[host."a.example/v2/upstream"]
override_path = true
client = "/c/client.pem"
proxy = "socks5://proxy.example:1080"
"#;

    fn parsed(text: &str) -> Result<Namespace, HostsError> {
        parse(Path::new("/etc/d/docker.io/hosts.toml"), text)
    }

    #[test]
    fn hosts_keep_their_order_and_their_settings() {
        let found = parsed(TEXT).unwrap();
        assert!(found.server.is_unverified);
        assert_eq!(found.server.headers.names(), ["x-team"]);
        let roots: Vec<String> = found.hosts.iter().map(Upstream::root).collect();
        assert_eq!(roots, ["/us/v2/", "/v2/", "/v2/upstream/"]);
        let [zone, local, path] = found.hosts.as_slice() else { panic!("three hosts") };
        assert_eq!(zone.capabilities, Capabilities { pull: true, resolve: false, push: false });
        assert_eq!(zone.tls.authorities, [PathBuf::from("/etc/d/docker.io/zone.crt")]);
        assert_eq!(zone.tls.identities[0].certificate, PathBuf::from("/c/client.cert"));
        let key = PathBuf::from("/etc/d/docker.io/client.key");
        assert_eq!(zone.tls.identities[0].key, Some(key));
        assert_eq!(zone.tls.identities[1].key, None);
        assert_eq!(zone.connect_timeout, Some(Duration::from_millis(61_500)));
        assert_eq!(zone.headers.names(), ["x-custom", "x-custom"]);
        assert_eq!(local.capabilities, Capabilities::ALL);
        assert_eq!(path.url.as_ref().unwrap().as_str(), "https://a.example/v2/upstream");
        assert_eq!(path.proxy.as_deref(), Some("socks5://proxy.example:1080"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let cases = [
            ("server = 7", "line 1: "),
            ("\n[host.\"ftp://x\"]\n", "line 2: a host is a URL"),
            ("[host.\"https://x/?a=1\"]\n", "line 1: a host is a URL"),
            ("\n\ncapabilities = [\"fly\"]", "line 3: `fly` is not a capability"),
            ("dial_timeout = \"soon\"", "line 1: `dial_timeout` is a duration"),
            ("proxy = \"proxy:3128\"", "line 1: a `proxy` is a URL"),
            ("client = [[\"a\", \"b\", \"c\"]]", "line 1: a client certificate is a pair"),
            ("[header]\n\"a b\" = \"c\"", "line 2: `a b` is not a header's name"),
            ("[header]\nauthorization = \"secret\\n\"", "line 2: the value of `authorization`"),
            ("[header]\nhost = \"x\"", "line 2: `host` is a header that rpub sets itself"),
            ("[host", "line 1: "),
        ];
        for (text, expected) in cases {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".*", duration in "[0-9.hmsnuµ]{0,12}") {
            let _ = parsed(&text);
            let _ = parsed(&format!("[host.\"{duration}\"]\ndial_timeout = \"{text}\""));
            let _ = parse_duration(&duration);
        }
    }
}
