//! URLs that a registry gives: where they lead and whether to go there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderMap;
use http::header::LOCATION;
use reqwest::Url;
use url::Host;

use super::{Error, Result};

/// Returns the URL without user, query and fragment, for people to see.
pub(super) fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    // Only URLs that cannot have them refuse.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.to_string()
}

/// Returns where `Location` leads, its query kept; relative ones count from `url`.
///
/// `host/path` and `host:port/path` without a scheme, which some registries send, count as absolute.
pub(super) fn of(headers: &HeaderMap, url: &Url) -> Option<Url> {
    let text = headers.get(LOCATION)?.to_str().ok()?.trim();
    let joined = if names_host(text) {
        Url::parse(&format!("{}://{text}", url.scheme()))
    } else {
        url.join(text)
    };
    let mut target = joined.ok()?;
    // Only URLs that cannot have them refuse.
    let _ = target.set_username("");
    let _ = target.set_password(None);
    matches!(target.scheme(), "http" | "https").then_some(target)
}

/// Returns whether a text without a scheme begins with a host: a name with a dot, or anything with a
/// port, which no relative URL has in its first component (RFC 3986, section 4.2).
fn names_host(text: &str) -> bool {
    let first = text.split('/').next().unwrap_or_default();
    if text.contains("://") || first.starts_with('.') || first.contains(['?', '=']) {
        return false;
    }
    let port = first.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let has_port = port.is_some_and(|(_, port)| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
    });
    first.contains('.') || has_port
}

/// Returns whether both have the same scheme, host and port: only there credentials go.
pub(super) fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// Checks that a request to `from` may go on to `target`.
pub(super) fn check(from: &Url, target: &Url) -> Result<()> {
    let refuse =
        |reason| Err(Error::Redirect { url: redacted(from), target: redacted(target), reason });
    if from.scheme() == "https" && target.scheme() != "https" {
        return refuse("rpub does not go from https to http");
    }
    if is_inner(target) && from.host() != target.host() && !is_inner(from) {
        return refuse("rpub does not follow a registry to a private address of another host");
    }
    Ok(())
}

/// Returns whether the host is an address of this machine or of a private network, or a name that
/// always means this machine (RFC 6761, section 6.3). A registry elsewhere that names one means a
/// host that it should not know.
pub(super) fn is_inner(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(ip)) => is_inner_v4(ip),
        Some(Host::Ipv6(ip)) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || is_local_nat64(ip)
                || embedded_v4(ip).is_some_and(is_inner_v4)
        }
        None => false,
    }
}

fn is_inner_v4(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    // Between a provider and its customers (RFC 6598); clouds have services there.
    let is_shared = first == 100 && second & 0b1100_0000 == 64;
    ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified() || is_shared
}

/// Returns whether a network's own translator reaches IPv4 by the address, wherever in it that is
/// (RFC 8215).
fn is_local_nat64(ip: Ipv6Addr) -> bool {
    matches!(ip.segments(), [0x64, 0xff9b, 1, ..])
}

/// Returns the IPv4 address that is meant by a mapped one (RFC 4291, section 2.5.5.2), or behind a
/// translator (RFC 6052, section 2.1).
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = ip.octets();
    let is_translated = matches!(ip.segments(), [0x64, 0xff9b, 0, 0, 0, 0, ..]);
    ip.to_ipv4_mapped().or_else(|| is_translated.then(|| Ipv4Addr::new(a, b, c, d)))
}

/// Returns whether the host is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Wire row U6: a location is absolute, relative, or lacks the scheme; its query stays.
    #[test]
    fn resolves_every_form() {
        let base = Url::parse("https://r.example/v2/a/blobs/uploads/").unwrap();
        let to = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_str(text).unwrap());
            of(&headers, &base).map(|url| url.to_string())
        };
        let is = |text: &str, expected: &str| assert_eq!(to(text).as_deref(), Some(expected));
        is("https://r.example/x?a=b%3D", "https://r.example/x?a=b%3D");
        is("https://r.example:443/x", "https://r.example/x");
        is("/v2/u/1?_state=x", "https://r.example/v2/u/1?_state=x");
        is("1?s=/x", "https://r.example/v2/a/blobs/uploads/1?s=/x");
        is("up.example:5000/x", "https://up.example:5000/x");
        is("localhost:5000/x?a=b", "https://localhost:5000/x?a=b");
        is("registry:5000/v2/u/1", "https://registry:5000/v2/u/1");
        is("[2001:db8::1]:5000/x", "https://[2001:db8::1]:5000/x");
        is("localhost:5000", "https://localhost:5000/");
        is("uploads/1", "https://r.example/v2/a/blobs/uploads/uploads/1");
        is("./1:2/x", "https://r.example/v2/a/blobs/uploads/1:2/x");
        is("https://u:p@r.example/x", "https://r.example/x");
        assert_eq!(to("registry:70000/x"), None);
        assert_eq!(to("mailto:someone"), None);
        assert_eq!(to("file:///etc/passwd"), None);
        assert_eq!(to("http://[broken"), None);
    }

    /// Wire row P6: nothing leads from https to http.
    /// Wire row U7: nothing leads to a private address of another host.
    #[test]
    fn refuses_downgrades_and_private_addresses() {
        let url = |text: &str| Url::parse(text).unwrap();
        let public = url("https://r.example/x");
        assert!(check(&public, &url("http://r.example/x")).is_err());
        assert!(check(&public, &url("https://10.0.0.1/x")).is_err());
        assert!(check(&public, &url("https://169.254.169.254/x")).is_err());
        assert!(check(&public, &url("https://[::ffff:127.0.0.1]/x")).is_err());
        assert!(check(&public, &url("https://cdn.example/x")).is_ok());
        let inner = [
            "localhost",
            "a.localhost",
            "a.LOCALHOST.",
            "100.64.0.1",
            "100.127.255.255",
            "[::ffff:100.100.100.200]",
            "[::ffff:10.0.0.1]",
            "[64:ff9b::169.254.169.254]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::808:808]",
            "[fd00::1]",
            "0.0.0.0",
        ];
        for host in inner {
            assert!(check(&public, &url(&format!("https://{host}/x"))).is_err(), "{host}");
        }
        let outer = [
            "localhost.example",
            "notlocalhost",
            "100.63.255.255",
            "100.128.0.1",
            "[::ffff:8.8.8.8]",
            "[64:ff9b::8.8.8.8]",
            "[2001:db8::1]",
        ];
        for host in outer {
            assert!(check(&public, &url(&format!("https://{host}/x"))).is_ok(), "{host}");
        }
        let scheme_less = {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_static("localhost:5000/x"));
            of(&headers, &public).unwrap()
        };
        assert!(check(&public, &scheme_less).is_err());
        assert!(check(&url("http://127.0.0.1:5/x"), &url("http://127.0.0.1:6/x")).is_ok());
        let shown = Error::Redirect {
            url: redacted(&url("https://u:p@r.example/x?secret=1#f")),
            target: String::new(),
            reason: "",
        };
        assert!(shown.to_string().starts_with("https://r.example/x "));
    }
}
