//! Reading docker's `config.json` and the containers tools' `auth.json`.

use std::io::{self, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde_json::{Map, Value};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Credential, Error, Result, Secret};
use crate::image::{DEFAULT_REGISTRY, RegistryName, Repository};

/// The key that docker uses for its own registry.
pub(super) const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The other hosts that are Docker's registry.
const DOCKER_HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
/// A credentials file of more bytes is not one.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// A credentials file's JSON, wiped when it is dropped.
#[derive(Clone, Default)]
pub(super) struct ConfigFile {
    pub(super) json: Map<String, Value>,
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        self.json.values_mut().for_each(wipe);
    }
}

/// Wipes every text in a value.
pub(super) fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl ConfigFile {
    /// Reads `path`; a file that does not exist, or is empty, says nothing.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let failed = |source| Error::File { action: "read", path: path.to_owned(), source };
        let file = match fs_err::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(error)),
        };
        let size = file.metadata().map_err(failed)?.len();
        let too_large =
            || failed(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 16 MiB"));
        if size > MAX_FILE_BYTES {
            return Err(too_large());
        }
        // One byte more than the file has, so that the buffer does not grow.
        let size = usize::try_from(size).unwrap_or_default() + 1;
        let mut text = Zeroizing::new(Vec::with_capacity(size));
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(too_large());
        }
        let json =
            parse_object(&text).map_err(|source| Error::Json { path: path.to_owned(), source })?;
        Ok(Self { json })
    }

    /// Reads the old `~/.dockercfg`, which is nothing but the entries of `auths`.
    pub(super) fn read_legacy(path: &Path) -> Result<Self> {
        let entries = std::mem::take(&mut Self::read(path)?.json);
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

    /// Returns whether an empty entry of `registry` says that its login is kept elsewhere.
    pub(super) fn has_marker(&self, registry: &RegistryName) -> bool {
        self.markers().any(|key| means(key, registry))
    }

    /// Returns the keys of all empty entries.
    pub(super) fn markers(&self) -> impl Iterator<Item = &str> {
        let entries = self.auths().into_iter().flatten();
        let is_empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
        entries.filter(move |(_, value)| is_empty(value)).map(|(key, _)| key.as_str())
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
                // a namespaced key is only ever found exactly.
                let is_host = !wanted.contains('/');
                auths.iter().find(|(key, _)| is_host && is_whole(key) && host_of(key) == wanted)
            });
            let Some((key, entry)) = found else { continue };
            if let Some(credential) = parse_entry(path, key, entry)? {
                return Ok(Some((key.clone(), credential)));
            }
        }
        Ok(None)
    }
}

/// Parses a JSON object; an empty text is an empty one. Of what is there twice the last counts, as
/// with the other programs that read these files.
fn parse_object(text: &[u8]) -> serde_json::Result<Map<String, Value>> {
    if text.trim_ascii().is_empty() { Ok(Map::new()) } else { serde_json::from_slice(text) }
}

/// Returns whether a stored key is for all of its host: a URL, a host alone, or with nothing but the
/// API's version after it.
fn is_whole(key: &str) -> bool {
    let is_url = key.starts_with("https://") || key.starts_with("http://");
    is_url || matches!(key.split_once('/'), None | Some((_, "" | "v1" | "v1/" | "v2" | "v2/")))
}

/// Returns the host and port of a stored key.
fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

/// Returns whether a stored key means the whole of `registry`.
pub(super) fn means(key: &str, registry: &RegistryName) -> bool {
    is_whole(key) && registry_of(key) == registry.as_str()
}

/// Returns the registry whose host a stored key names.
pub(super) fn registry_of(key: &str) -> &str {
    let host = host_of(key);
    if DOCKER_HUB_HOSTS.contains(&host) { DEFAULT_REGISTRY } else { host }
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
        let decoded = Zeroizing::new(bytes);
        let decoded = std::str::from_utf8(&decoded).map_err(|_| malformed())?;
        let (user, password) = decoded.split_once(':').ok_or_else(malformed)?;
        // Old clients padded the password with zero bytes.
        return Ok(Some(of(user, password.trim_end_matches('\0'))));
    }
    Ok(match (text("username"), text("password")) {
        (Some(user), Some(password)) => Some(of(user, password)),
        _ => None,
    })
}

fn of(username: &str, secret: &str) -> Credential {
    Credential::of(username, Secret::new(secret.to_owned()))
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

    /// Wire row H3: scheme and path of stored keys do not count, ports and IPv6 brackets do.
    /// Wire row H4: `auth` with colons and NULs, plain fields, identity tokens, empty entries.
    #[test]
    fn finds_entries_in_every_form() {
        let hub = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpwOnE="}}}"#;
        assert_eq!(lookup(hub, "alpine"), Some(of("u", "p:q")));
        assert_eq!(lookup(hub, "registry.example/x"), None);
        let padded = r#"{"auths":{"docker.io":{"auth":"dTpwAAA="}}}"#;
        assert_eq!(lookup(padded, "team/app"), Some(of("u", "p")));
        let url =
            r#"{"auths":{"https://registry.example:5000/v2/":{"username":"u","password":"p"}}}"#;
        assert_eq!(lookup(url, "registry.example:5000/x"), Some(of("u", "p")));
        assert_eq!(lookup(url, "registry.example/x"), None);
        let token = r#"{"auths":{"r.example":{"auth":"dTpw","identitytoken":"t"}}}"#;
        let expected = Credential::IdentityToken(Secret::new("t".to_owned()));
        assert_eq!(lookup(token, "r.example/x"), Some(expected));
        assert_eq!(lookup(r#"{"auths":{"r.example":{}}}"#, "r.example/x"), None);
        let bare =
            r#"{"auths":{"r.example:5000/v2/":{"auth":"dTpw"},"[::1]:5000":{"auth":"dTpw"}}}"#;
        assert_eq!(lookup(bare, "r.example:5000/x"), Some(of("u", "p")));
        assert_eq!(lookup(bare, "r.example/x"), None);
        assert_eq!(lookup(bare, "[::1]:5000/x"), Some(of("u", "p")));
        assert_eq!(lookup(bare, "[::1]:5001/x"), None);
        let exact =
            r#"{"auths":{"https://r.example/v1/":{"auth":"YTox"},"r.example":{"auth":"Yjox"}}}"#;
        assert_eq!(lookup(exact, "r.example/x"), Some(of("b", "1")), "the exact key comes first");
    }

    /// Wire row H1: Docker's registry by all its names, and without one.
    /// Wire row H2: the keys that may stand for it, with or without scheme and path.
    #[test]
    fn dockers_registry_has_many_names() {
        for key in [
            "https://index.docker.io/v1/",
            "https://index.docker.io/v2/",
            "index.docker.io/v1/",
            "index.docker.io",
            "docker.io",
            "https://docker.io",
            "registry-1.docker.io",
            "https://registry-1.docker.io/v2/",
        ] {
            let json = format!(r#"{{"auths":{{"{key}":{{"auth":"dTpw"}}}}}}"#);
            for name in ["alpine", "library/alpine", "docker.io/library/alpine", "team/app"] {
                assert_eq!(lookup(&json, name), Some(of("u", "p")), "{key} {name}");
            }
            assert_eq!(lookup(&json, "r.example/x"), None);
        }
        let json = r#"{"auths":{"docker.io/library/alpine":{"auth":"dTpw"}}}"#;
        assert_eq!(lookup(json, "alpine"), Some(of("u", "p")), "`library/` is added");
        assert_eq!(lookup(json, "team/app"), None);
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
    fn of_what_is_there_twice_the_last_counts() {
        let entry = r#"{"auths":{"r.example":{"auth":"YTox"},"r.example":{"auth":"Yjox"}}}"#;
        assert_eq!(lookup(entry, "r.example/x"), Some(of("b", "1")));
        let field = r#"{"auths":{"r.example":{"auth":"YTox","auth":"Yjox"}}}"#;
        assert_eq!(lookup(field, "r.example/x"), Some(of("b", "1")));
        let list = r#"{"auths":{"r.example":{"auth":"YTox"}},"auths":{"s.example":{}}}"#;
        assert_eq!(lookup(list, "r.example/x"), None);
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

    /// Wire row H4: a registry's own helper comes before the one for all.
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
