//! Where a repository is, apart from who may read it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use crate::credentials::Secret;
use crate::dockerfile::{GitReference, GitTransport};
use crate::remote::{Error, Fetcher, Result};

/// A repository's address, without credentials, and those that it came with.
pub(super) struct Address {
    /// What git is given.
    pub(super) remote: String,
    /// What people see.
    pub(super) shown: String,
    pub(super) transport: GitTransport,
    host: String,
    credentials: Option<Secret>,
}

impl Address {
    pub(super) fn of(reference: &GitReference) -> Result<Self> {
        let text = if reference.is_ambiguous {
            format!("https://{}", reference.remote)
        } else {
            reference.remote.clone()
        };
        let transport = reference.transport;
        if text.starts_with('-') || text.contains(|c: char| c.is_control()) {
            let (address, reason) = (text, "it is no address of a repository".to_owned());
            return Err(Error::Address { address, reason });
        }
        if !text.contains("://") {
            // `user@host:path`: only ssh, whose user is no secret.
            let host = text.split_once('@').map_or("", |(_, rest)| rest);
            let host = host.split(':').next().unwrap_or_default().to_owned();
            let shown = text.clone();
            return Ok(Self { remote: text, shown, transport, host, credentials: None });
        }
        let mut url = Url::parse(&text).map_err(|error| {
            let address = text.rsplit('@').next().unwrap_or_default().to_owned();
            Error::Address { address, reason: error.to_string() }
        })?;
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        if host.starts_with('-') {
            let (address, reason) = (text, "its host begins with a dash".to_owned());
            return Err(Error::Address { address, reason });
        }
        let is_http = matches!(transport, GitTransport::Https | GitTransport::Http);
        let credentials = is_http.then(|| basic(&url)).flatten();
        // Only URLs that cannot have them refuse.
        let _ = url.set_password(None);
        if transport != GitTransport::Ssh {
            let _ = url.set_username("");
        }
        let remote = url.to_string();
        Ok(Self { shown: remote.clone(), remote, transport, host, credentials })
    }

    /// Returns the key and value of git's configuration that authorise requests, when there is a
    /// credential: a secret of the build (BuildKit, `source/git`, "authSecretNames"), or the
    /// address's own.
    pub(super) fn authorization(&self, fetcher: &Fetcher<'_>) -> Result<Option<(String, Secret)>> {
        if !matches!(self.transport, GitTransport::Https | GitTransport::Http) {
            return Ok(None);
        }
        let host = &self.host;
        let mut found = None;
        for (name, is_token) in [
            (format!("GIT_AUTH_HEADER.{host}"), false),
            (format!("GIT_AUTH_TOKEN.{host}"), true),
            ("GIT_AUTH_HEADER".to_owned(), false),
            ("GIT_AUTH_TOKEN".to_owned(), true),
        ] {
            if let Some(secret) = fetcher.secret(&name)? {
                let user = "x-access-token";
                found = Some(if is_token { encode(user, secret.expose()) } else { secret.clone() });
                break;
            }
        }
        let value = found.or_else(|| self.credentials.clone());
        Ok(value.map(|value| {
            let header = Secret::new(format!("Authorization: {}", value.expose()));
            (format!("http.{}.extraHeader", self.scope()), header)
        }))
    }

    /// Returns where the credential goes: only to this repository, except that the submodules of one
    /// at GitHub are mostly there too (BuildKit, `tokenScope`).
    fn scope(&self) -> &str {
        let prefixes = ["https://github.com/", "https://www.github.com/"];
        let known = prefixes.into_iter().find(|prefix| self.remote.starts_with(prefix));
        known.unwrap_or(&self.remote)
    }
}

fn basic(url: &Url) -> Option<Secret> {
    let decode = |text: &str| {
        let pairs = format!("x={}", text.replace('+', "%2B"));
        let decoded = url::form_urlencoded::parse(pairs.as_bytes()).next();
        decoded.map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let has_some = !url.username().is_empty() || url.password().is_some();
    has_some.then(|| encode(&decode(url.username()), &decode(url.password().unwrap_or_default())))
}

fn encode(user: &str, password: &str) -> Secret {
    Secret::new(format!("basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::of(&GitReference::parse(text).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn credentials_leave_the_address() {
        let with = address("https://me:p%40ss@h.example:8443/a.git#main");
        assert_eq!(with.remote, "https://h.example:8443/a.git");
        assert_eq!(with.shown, with.remote);
        assert_eq!(with.host, "h.example:8443");
        assert_eq!(with.credentials.unwrap().expose(), "basic bWU6cEBzcw==");
        assert!(address("https://h.example/a.git").credentials.is_none());
        assert_eq!(address("ssh://git@h.example/a").remote, "ssh://git@h.example/a");
        assert_eq!(address("git@h.example:a/b.git").remote, "git@h.example:a/b.git");
        assert_eq!(address("github.com/a/b").remote, "https://github.com/a/b");
    }

    #[test]
    fn options_in_disguise_are_refused() {
        for text in ["ssh://-oProxyCommand=x/a", "git://-h/a"] {
            let parsed = GitReference::parse(text).unwrap().unwrap();
            assert!(Address::of(&parsed).is_err(), "{text}");
        }
    }
}
