//! Reading docker's `config.json` and the containers tools' `auth.json`.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde_json::{Map, Value};
use zeroize::Zeroize as _;

use super::{Credential, Error, Result, Secret};
use crate::image::{DEFAULT_REGISTRY, RegistryName, Repository};

/// The key that docker uses for its own registry.
pub(super) const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The other hosts that are Docker's registry.
const DOCKER_HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USERNAME: &str = "<token>";

/// A credentials file's JSON.
#[derive(Debug, Clone, Default)]
pub(super) struct ConfigFile {
    pub(super) json: Map<String, Value>,
}

impl ConfigFile {
    /// Reads `path`; a file that does not exist, or is empty, says nothing.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut text = match fs_err::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => {
                return Err(Error::File { action: "read", path: path.to_owned(), source });
            }
        };
        let parsed = parse_object(&text);
        text.zeroize();
        let json = parsed.map_err(|source| Error::Json { path: path.to_owned(), source })?;
        Ok(Self { json })
    }

    /// Reads the old `~/.dockercfg`, which is nothing but the entries of `auths`.
    pub(super) fn read_legacy(path: &Path) -> Result<Self> {
        let entries = Self::read(path)?.json;
        Ok(Self { json: Map::from_iter([("auths".to_owned(), Value::Object(entries))]) })
    }

    /// Reads the value of `DOCKER_AUTH_CONFIG`: only `auths` counts (docker/cli, `configfile`).
    pub(super) fn of_environment(text: &str) -> Result<Self> {
        let mut json = parse_object(text.as_bytes()).map_err(Error::Environment)?;
        json.retain(|key, _| key == "auths");
        Ok(Self { json })
    }

    /// Returns the entries of `auths`.
    pub(super) fn auths(&self) -> Option<&Map<String, Value>> {
        self.json.get("auths")?.as_object()
    }

    /// Returns the names and values of `HttpHeaders`, which docker sends with every request.
    pub(super) fn http_headers(&self) -> Vec<(String, Secret)> {
        let headers = self.json.get("HttpHeaders").and_then(Value::as_object);
        let pairs = headers.into_iter().flatten();
        pairs
            .filter_map(|(name, value)| {
                Some((name.clone(), Secret::new(value.as_str()?.to_owned())))
            })
            .collect()
    }

    /// Returns the helper for `registry`: its own, else the one for all.
    pub(super) fn helper(&self, registry: &RegistryName) -> Option<&str> {
        self.own_helper(registry)
            .or_else(|| self.json.get("credsStore")?.as_str())
            .filter(|name| !name.is_empty())
    }

    /// Returns all helpers: those of one key with it, then the one for all.
    pub(super) fn helpers(&self) -> Vec<(&str, Option<&str>)> {
        let own = self.json.get("credHelpers").and_then(Value::as_object).into_iter().flatten();
        let own = own.filter_map(|(key, name)| Some((name.as_str()?, Some(key.as_str()))));
        let all = self.json.get("credsStore").and_then(Value::as_str).map(|name| (name, None));
        own.chain(all).filter(|(name, _)| !name.is_empty()).collect()
    }

    fn own_helper(&self, registry: &RegistryName) -> Option<&str> {
        let helpers = self.json.get("credHelpers")?.as_object()?;
        let find = |host: &str| helpers.iter().find(|(key, _)| host_of(key) == host);
        let (_, name) = if registry.as_str() == DEFAULT_REGISTRY {
            DOCKER_HUB_HOSTS.into_iter().find_map(find)?
        } else {
            find(registry.as_str())?
        };
        name.as_str()
    }

    /// Returns the credential in the file itself for `repository`, the most specific key first, and
    /// its key.
    pub(super) fn credential(
        &self,
        path: &Path,
        repository: &Repository,
    ) -> Result<Option<(String, Credential)>> {
        let Some(auths) = self.auths() else { return Ok(None) };
        for wanted in keys_of(repository) {
            let found = auths.get_key_value(&wanted).or_else(|| {
                // Docker strips scheme and path from stored keys (docker/cli, `ConvertToHostname`);
                // a namespaced key has neither, so it is only ever found exactly.
                let is_host = !wanted.contains('/');
                auths.iter().find(|(key, _)| is_host && is_url(key) && host_of(key) == wanted)
            });
            let Some((key, entry)) = found else { continue };
            if let Some(credential) = parse_entry(path, key, entry)? {
                return Ok(Some((key.clone(), credential)));
            }
        }
        Ok(None)
    }
}

/// Parses a JSON object; an empty text is an empty one.
fn parse_object(text: &[u8]) -> serde_json::Result<Map<String, Value>> {
    if text.trim_ascii().is_empty() { Ok(Map::new()) } else { serde_json::from_slice(text) }
}

fn is_url(key: &str) -> bool {
    key.starts_with("https://") || key.starts_with("http://")
}

/// Returns the host and port of a stored key.
pub(super) fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

/// Returns whether a stored key means the whole of `registry`.
pub(super) fn means(key: &str, registry: &RegistryName) -> bool {
    if !is_url(key) && key.contains('/') {
        return false;
    }
    let host = host_of(key);
    host == registry.as_str()
        || (registry.as_str() == DEFAULT_REGISTRY && DOCKER_HUB_HOSTS.contains(&host))
}

/// Returns the keys to look for, most specific first: `host/a/b`, `host/a`, `host`
/// (containers-auth.json(5)), with Docker's names for its own registry.
fn keys_of(repository: &Repository) -> Vec<String> {
    let full = repository.to_string();
    let mut keys = Vec::new();
    let mut key = full.as_str();
    while let Some((parent, _)) = key.rsplit_once('/') {
        keys.push(key.to_owned());
        key = parent;
    }
    if repository.registry.as_str() == DEFAULT_REGISTRY {
        keys.push(DOCKER_HUB_KEY.to_owned());
        keys.extend(DOCKER_HUB_HOSTS.map(str::to_owned));
    } else {
        keys.push(key.to_owned());
    }
    keys
}

fn parse_entry(path: &Path, key: &str, entry: &Value) -> Result<Option<Credential>> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credential::IdentityToken(Secret::new(token.to_owned()))));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credential::RegistryToken(Secret::new(token.to_owned()))));
    }
    if let Some(auth) = text("auth") {
        let malformed = || Error::Auth { path: path.to_owned(), key: key.to_owned() };
        let bytes = STANDARD
            .decode(auth.trim())
            .or_else(|_| STANDARD_NO_PAD.decode(auth.trim()))
            .map_err(|_| malformed())?;
        let mut decoded = String::from_utf8(bytes).map_err(|_| malformed())?;
        let (user, password) = decoded.split_once(':').ok_or_else(malformed)?;
        // Old clients padded the password with zero bytes.
        let found = basic(user, password.trim_end_matches('\0'));
        decoded.zeroize();
        return Ok(Some(found));
    }
    Ok(match (text("username"), text("password")) {
        (Some(user), Some(password)) => Some(basic(user, password)),
        _ => None,
    })
}

/// Returns the credential that a user name and a secret mean.
pub(super) fn basic(username: &str, secret: &str) -> Credential {
    let password = Secret::new(secret.to_owned());
    if username == TOKEN_USERNAME {
        Credential::IdentityToken(password)
    } else {
        Credential::Basic { username: username.to_owned(), password }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Reference;

    fn lookup(json: &str, reference: &str) -> Option<Credential> {
        let file = ConfigFile { json: serde_json::from_str(json).unwrap() };
        let reference: Reference = reference.parse().unwrap();
        let found = file.credential(Path::new("config.json"), &reference.repository).unwrap();
        found.map(|(_, credential)| credential)
    }

    #[test]
    fn finds_entries_in_every_form() {
        let hub = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpwOnE="}}}"#;
        assert_eq!(lookup(hub, "alpine"), Some(basic("u", "p:q")));
        assert_eq!(lookup(hub, "registry.example/x"), None);
        let padded = r#"{"auths":{"docker.io":{"auth":"dTpwAAA="}}}"#;
        assert_eq!(lookup(padded, "team/app"), Some(basic("u", "p")));
        let url =
            r#"{"auths":{"https://registry.example:5000/v2/":{"username":"u","password":"p"}}}"#;
        assert_eq!(lookup(url, "registry.example:5000/x"), Some(basic("u", "p")));
        assert_eq!(lookup(url, "registry.example/x"), None);
        let token = r#"{"auths":{"r.example":{"auth":"dTpw","identitytoken":"t"}}}"#;
        let expected = Credential::IdentityToken(Secret::new("t".to_owned()));
        assert_eq!(lookup(token, "r.example/x"), Some(expected));
        assert_eq!(lookup(r#"{"auths":{"r.example":{}}}"#, "r.example/x"), None);
    }

    #[test]
    fn the_most_specific_key_wins() {
        let json = r#"{"auths":{"r.example":{"auth":"YTox"},"r.example/team":{"auth":"Yjox"},
            "r.example/team/app":{"auth":"Yzox"}}}"#;
        let user = |reference| match lookup(json, reference) {
            Some(Credential::Basic { username, .. }) => username,
            other => panic!("{other:?}"),
        };
        assert_eq!(user("r.example/team/app"), "c");
        assert_eq!(user("r.example/team/other"), "b");
        assert_eq!(user("r.example/else"), "a");
    }

    #[test]
    fn malformed_auth_is_an_error_that_shows_nothing() {
        let json = r#"{"auths":{"r.example":{"auth":"bm9jb2xvbg=="}}}"#;
        let file = ConfigFile { json: serde_json::from_str(json).unwrap() };
        let reference: Reference = "r.example/x".parse().unwrap();
        let error = file.credential(Path::new("c.json"), &reference.repository).unwrap_err();
        assert_eq!(
            error.to_string(),
            "credentials file `c.json` has a malformed `auth` for `r.example`"
        );
    }

    #[test]
    fn headers_are_read_and_their_values_are_not_shown() {
        let json = r#"{"HttpHeaders":{"X-Team":"red","X-Number":7}}"#;
        let file = ConfigFile { json: serde_json::from_str(json).unwrap() };
        let headers = file.http_headers();
        assert_eq!(headers, [("X-Team".to_owned(), Secret::new("red".to_owned()))]);
        assert_eq!(format!("{headers:?}"), r#"[("X-Team", ****)]"#);
    }

    #[test]
    fn own_helper_beats_the_general_one() {
        let json = r#"{"credsStore":"all","credHelpers":{"r.example":"own","docker.io":"hub"}}"#;
        let file = ConfigFile { json: serde_json::from_str(json).unwrap() };
        let helper = |name: &str| file.helper(&name.parse().unwrap()).unwrap().to_owned();
        assert_eq!(helper("r.example"), "own");
        assert_eq!(helper("other.example"), "all");
        assert_eq!(helper("docker.io"), "hub");
    }
}
