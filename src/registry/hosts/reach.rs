//! How one host is reached.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::certificates::TlsFiles;
use crate::image::{DEFAULT_REGISTRY, RegistryName};
use crate::registry::connections::Security;

/// Where Docker's registry answers.
pub(in crate::registry) const DOCKER_HUB_HOST: &str = "registry-1.docker.io";
/// The names of Docker's registry.
const DOCKER_HUB_NAMES: [&str; 3] = [DEFAULT_REGISTRY, "index.docker.io", DOCKER_HUB_HOST];

/// How one host is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reach {
    /// How connections are secured.
    pub transport: TransportRule,
    /// Authorities and client certificates of its own.
    pub tls: TlsFiles,
    /// Headers that every request to it carries, and none to another origin.
    pub headers: Headers,
    /// How long a connection may take.
    pub connect_timeout: Option<Duration>,
    /// The proxy's URL, instead of that of the environment.
    pub proxy: Option<String>,
    /// The registry that it stands in for: it is told so with each request (OCI
    /// distribution-spec, "Registry Proxying").
    pub namespace: Option<RegistryName>,
    /// Where its API is, when not where the registry's name says.
    pub(in crate::registry) base: Option<Base>,
}

/// Where an API is: `https://AUTHORITY/ROOT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::registry) struct Base {
    /// Host and port.
    pub(in crate::registry) authority: String,
    /// The path, with a `/` at both ends.
    pub(in crate::registry) root: String,
}

/// How connections are secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportRule {
    /// By TLS whose certificate is verified.
    Verified,
    /// By TLS with any certificate.
    Unverified,
    /// Not at all: plain HTTP.
    Plain,
    /// Docker's insecure registry: TLS with any certificate, or plain HTTP.
    Insecure,
    /// This machine: plain HTTP, or TLS that is verified.
    Local,
}

impl TransportRule {
    /// Returns the ways to secure a connection in the order in which they are tried.
    pub(in crate::registry) fn ways(self, is_loopback: bool) -> &'static [Security] {
        match self {
            Self::Verified => &[Security::Verified],
            Self::Unverified => &[Security::Unverified],
            Self::Plain => &[Security::Plain],
            // Servers of this machine mostly speak plain HTTP.
            Self::Insecure if is_loopback => &[Security::Plain, Security::Unverified],
            Self::Insecure => &[Security::Unverified, Security::Plain],
            Self::Local => &[Security::Plain, Security::Verified],
        }
    }

    /// Returns whether another one than the host itself may read what is sent.
    pub(in crate::registry) fn may_be_plain(self) -> bool {
        matches!(self, Self::Plain | Self::Insecure)
    }
}

impl fmt::Display for TransportRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Verified => "verified TLS",
            Self::Unverified => "unverified TLS",
            Self::Plain => "plain HTTP",
            Self::Insecure => "unverified TLS or plain HTTP",
            Self::Local => "plain HTTP or verified TLS",
        })
    }
}

/// Returns host and port at which the registry of that name answers.
pub(in crate::registry) fn authority(name: &RegistryName) -> &str {
    if name.as_str() == DEFAULT_REGISTRY { DOCKER_HUB_HOST } else { name.as_str() }
}

/// Returns whether both names are of one registry.
pub(super) fn is_same(one: &RegistryName, other: &RegistryName) -> bool {
    let is_hub = |name: &RegistryName| DOCKER_HUB_NAMES.contains(&name.as_str());
    one == other || (is_hub(one) && is_hub(other))
}

/// Headers that requests carry beside those of the protocol. Values may be secrets: they are not
/// shown.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

impl Headers {
    /// Adds the header `text`, as in `Name: value`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without the value.
    pub fn parse(&mut self, text: &str) -> Result<(), String> {
        let Some((name, value)) = text.split_once(':') else {
            return Err("a header is of the form `NAME: VALUE`".to_owned());
        };
        self.insert(name.trim(), value.trim())
    }

    /// Adds a header.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without the value.
    pub fn insert(&mut self, name: &str, value: &str) -> Result<(), String> {
        let parsed: HeaderName =
            name.parse().map_err(|_| format!("`{name}` is not a header's name"))?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| format!("the value of `{name}` makes no header"))?;
        self.add(parsed, value)
    }

    pub(super) fn add(&mut self, name: HeaderName, mut value: HeaderValue) -> Result<(), String> {
        if [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, TE, UPGRADE].contains(&name) {
            return Err(format!("`{name}` is a header that rpub sets itself"));
        }
        value.set_sensitive(true);
        self.0.push((name, value));
        Ok(())
    }

    /// Returns the names.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub(super) fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    pub(in crate::registry) fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in &self.0 {
            map.append(name, value.clone());
        }
        map
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.names()).finish()
    }
}

/// Where a host's name leads instead of to what the system's resolver says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resolve {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) addresses: Vec<SocketAddr>,
}

impl FromStr for Resolve {
    type Err = &'static str;

    /// Reads `HOST:PORT:ADDRESS[:PORT]`, with commas between several addresses.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "the form is `HOST:PORT:ADDRESS[:PORT]`, an IPv6 address in brackets";
        let mut parts = text.splitn(3, ':');
        let (host, port, rest) = (parts.next(), parts.next(), parts.next());
        let (Some(host), Some(port), Some(rest)) = (host, port, rest) else { return Err(FORM) };
        let port: u16 = port.parse().map_err(|_| FORM)?;
        let is_name = host.parse::<RegistryName>().is_ok() && host.parse::<IpAddr>().is_err();
        if !is_name {
            return Err(FORM);
        }
        let address = |text: &str| {
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            let with_port = || Some(SocketAddr::new(bare.parse().ok()?, port));
            text.parse().ok().or_else(with_port).ok_or(FORM)
        };
        let addresses = rest.split(',').map(address).collect::<Result<_, _>>()?;
        Ok(Self { host: host.to_ascii_lowercase(), port, addresses })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn resolve_takes_curls_and_orass_forms() {
        let read = |text: &str| text.parse::<Resolve>().map(|resolve| resolve.addresses);
        let is = |text: &str, expected: &[&str]| {
            let expected: Vec<SocketAddr> = expected.iter().map(|a| a.parse().unwrap()).collect();
            assert_eq!(read(text), Ok(expected), "{text}");
        };
        is("r.example:443:10.0.0.1", &["10.0.0.1:443"]);
        is("r.example:443:10.0.0.1:5000", &["10.0.0.1:5000"]);
        is("R.example:443:[::1],10.0.0.2", &["[::1]:443", "10.0.0.2:443"]);
        is("r.example:443:[::1]:5000", &["[::1]:5000"]);
        for wrong in ["", "r.example", "r.example:x:10.0.0.1", "r:1:host", "10.0.0.1:1:10.0.0.2"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn headers_are_read_and_their_values_hidden() {
        let mut headers = Headers::default();
        headers.parse("X-Key: s3cret").unwrap();
        assert_eq!(headers.names(), ["x-key"]);
        assert_eq!(format!("{headers:?}"), r#"["x-key"]"#);
        assert!(!format!("{:?}", headers.0).contains("s3cret"));
        let errors = ["X-Key", "a b: s3cret", "x: s3\ncret", "Host: s3cret"].map(|text| {
            let error = headers.clone().parse(text).unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
            error
        });
        assert_eq!(errors[0], "a header is of the form `NAME: VALUE`");
        assert_eq!(errors[3], "`host` is a header that rpub sets itself");
    }

    proptest! {
        #[test]
        fn never_panics(text in ".*") {
            let _ = text.parse::<Resolve>();
            let _ = Headers::default().parse(&text);
        }
    }
}
