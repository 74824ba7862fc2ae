//! URLs that a registry gives: where they lead and whether to go there.

use std::net::IpAddr;

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
/// `host/path` without a scheme, which some registries send, counts as absolute.
pub(super) fn of(headers: &HeaderMap, url: &Url) -> Option<Url> {
    let text = headers.get(LOCATION)?.to_str().ok()?.trim();
    let first = text.split('/').next().unwrap_or_default();
    let names_host = !text.contains("://") && first.contains('.') && !first.starts_with('.');
    let joined = if names_host && !first.contains(['?', '=']) {
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

/// Returns whether the host is a literal address of this machine or of a private network. A
/// registry elsewhere that names one means a host that it should not know.
pub(super) fn is_inner(url: &Url) -> bool {
    let is_inner_v4 = |ip: std::net::Ipv4Addr| {
        ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified()
    };
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => is_inner_v4(ip),
        Some(Host::Ipv6(ip)) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || ip.to_ipv4_mapped().is_some_and(is_inner_v4)
        }
        None => false,
    }
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
        is("https://u:p@r.example/x", "https://r.example/x");
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
        assert!(check(&url("http://127.0.0.1:5/x"), &url("http://127.0.0.1:6/x")).is_ok());
        let shown = Error::Redirect {
            url: redacted(&url("https://u:p@r.example/x?secret=1#f")),
            target: String::new(),
            reason: "",
        };
        assert!(shown.to_string().starts_with("https://r.example/x "));
    }
}
