//! A registry in memory, good enough to push to and to pull from, that knows its users.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rpub::image::Digest;

use super::wire::{Reply, Request};

/// The account that it knows.
pub(super) const USERNAME: &str = "alice";
/// Every secret of the matrix holds this word, so that a search for it finds them all.
pub(super) const SECRET_WORD: &str = "s3cr3t";
pub(super) const PASSWORD: &str = "s3cr3t password/é";
pub(super) const IDENTITY: &str = "s3cr3t-identity";

/// How it knows its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Auth {
    Open,
    Basic,
    /// Its own token server gives tokens to its user.
    Token,
    /// Its own token server gives tokens to anybody.
    AnyToken,
}

/// What a registry holds. Registries can share it.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// By repository and digest.
    pub(super) blobs: BTreeMap<(String, String), Vec<u8>>,
    /// Media type and bytes by repository and key.
    pub(super) manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    uploads: BTreeMap<usize, Vec<u8>>,
    opened: usize,
}

impl Content {
    /// Puts a manifest under its digest and a tag.
    pub(super) fn put_manifest(&mut self, name: &str, tag: &str, kind: &str, bytes: &[u8]) {
        for key in [Digest::of(bytes).to_string(), tag.to_owned()] {
            let entry = (kind.to_owned(), bytes.to_owned());
            self.manifests.insert((name.to_owned(), key), entry);
        }
    }

    pub(super) fn put_blob(&mut self, name: &str, bytes: &[u8]) {
        let key = (name.to_owned(), Digest::of(bytes).to_string());
        self.blobs.insert(key, bytes.to_owned());
    }
}

/// The registry.
pub(super) struct Registry {
    auth: Auth,
    scheme: &'static str,
    /// What its tokens begin with.
    prefix: &'static str,
    content: Arc<Mutex<Content>>,
    issued: Mutex<BTreeMap<String, BTreeSet<String>>>,
    seen: Mutex<Vec<Request>>,
}

/// What a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Version,
    Token,
    Manifest { name: String, key: String },
    Blob { name: String, digest: String },
    Uploads { name: String },
    Upload { name: String, id: usize },
    Tags { name: String },
    Referrers { name: String, digest: String },
    Catalog,
    Unknown,
}

/// Returns what is asked for.
pub(super) fn route(path: &str) -> Route {
    let Some(rest) = path.strip_prefix("/v2/") else {
        return if path == "/token" { Route::Token } else { Route::Unknown };
    };
    match rest {
        "" => return Route::Version,
        "_catalog" => return Route::Catalog,
        _ => {}
    }
    let split = |middle: &str| {
        rest.rsplit_once(middle).map(|(name, last)| (name.to_owned(), last.to_owned()))
    };
    if let Some((name, id)) = split("/blobs/uploads/") {
        return match id.parse() {
            Ok(id) => Route::Upload { name, id },
            Err(_) => Route::Uploads { name },
        };
    }
    if let Some((name, digest)) = split("/blobs/") {
        return Route::Blob { name, digest };
    }
    if let Some((name, key)) = split("/manifests/") {
        return Route::Manifest { name, key };
    }
    if let Some((name, digest)) = split("/referrers/") {
        return Route::Referrers { name, digest };
    }
    match rest.strip_suffix("/tags/list") {
        Some(name) => Route::Tags { name: name.to_owned() },
        None => Route::Unknown,
    }
}

impl Registry {
    pub(super) fn new(
        auth: Auth,
        scheme: &'static str,
        prefix: &'static str,
        content: &Arc<Mutex<Content>>,
    ) -> Self {
        let content = Arc::clone(content);
        Self { auth, scheme, prefix, content, issued: Mutex::default(), seen: Mutex::default() }
    }

    /// Returns every request so far.
    pub(super) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Returns whether it gave out this token.
    pub(super) fn issued(&self, authorization: &str) -> bool {
        let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
        self.issued.lock().unwrap().contains_key(token)
    }

    /// Remembers a request that somebody else answers.
    pub(super) fn note(&self, request: &Request) {
        self.seen.lock().unwrap().push(request.clone());
    }

    /// Answers a request, which it remembers.
    pub(super) fn answer(&self, request: &Request) -> Reply {
        self.note(request);
        let route = route(&request.path);
        if route == Route::Token {
            return self.token(request);
        }
        if let Some(refusal) = self.refusal(request, &route) {
            return refusal;
        }
        let mut content = self.content.lock().unwrap();
        match (request.method.as_str(), route) {
            ("GET", Route::Version) => Reply::new(200).json("{}"),
            ("GET" | "HEAD", Route::Manifest { name, key }) => content.manifest(name, key),
            ("PUT", Route::Manifest { name, key }) => content.take_manifest(&name, &key, request),
            ("DELETE", Route::Manifest { name, key }) => content.drop_manifest(name, key),
            ("GET" | "HEAD", Route::Blob { name, digest }) => content.blob(name, digest, request),
            ("DELETE", Route::Blob { name, digest }) => content.drop_blob(name, digest),
            ("POST", Route::Uploads { name }) => content.open(&name, request),
            ("PATCH", Route::Upload { name, id }) => content.append(&name, id, request),
            ("PUT", Route::Upload { name, id }) => content.commit(&name, id, request),
            ("GET", Route::Upload { name, id }) => content.progress(&name, id),
            ("DELETE", Route::Upload { id, .. }) => match content.uploads.remove(&id) {
                Some(_) => Reply::new(204),
                None => Reply::error(404, "BLOB_UPLOAD_UNKNOWN"),
            },
            ("GET", Route::Tags { name }) => content.tags(&name),
            ("GET", Route::Referrers { name, digest }) => content.referrers(&name, &digest),
            ("GET", Route::Catalog) => content.catalog(),
            (_, Route::Unknown) => Reply::error(404, "NAME_UNKNOWN"),
            _ => Reply::error(405, "UNSUPPORTED"),
        }
    }

    /// Returns the 401 that the request gets, if it gets one.
    fn refusal(&self, request: &Request, route: &Route) -> Option<Reply> {
        let authorization = request.header("authorization");
        let refused = Reply::error(401, "UNAUTHORIZED");
        match self.auth {
            Auth::Open => None,
            Auth::Basic => (authorization != basic())
                .then(|| refused.header("www-authenticate", "Basic realm=\"r\"")),
            Auth::Token | Auth::AnyToken => {
                let scope = scope(request, route);
                let issued = self.issued.lock().unwrap();
                let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
                let allows = issued.get(token).is_some_and(|granted| {
                    scope.iter().all(|(name, action)| granted.contains(&format!("{name}:{action}")))
                });
                (!allows).then(|| {
                    let realm = format!("{}://{}/token", self.scheme, request.header("host"));
                    let scope = scope.map_or(String::new(), |(name, action)| {
                        format!(",scope=\"repository:{name}:{action}\"")
                    });
                    let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"{scope}");
                    refused.header("www-authenticate", challenge)
                })
            }
        }
    }

    fn token(&self, request: &Request) -> Reply {
        let is_known = match request.method.as_str() {
            "GET" => self.auth == Auth::AnyToken || request.header("authorization") == basic(),
            "POST" => request.parameters("refresh_token") == [IDENTITY],
            _ => return Reply::error(405, "UNSUPPORTED"),
        };
        if !is_known {
            return Reply::new(401).json(r#"{"details":"who is that"}"#);
        }
        let mut granted = BTreeSet::new();
        let scopes = request.parameters("scope");
        for scope in scopes.iter().flat_map(|scopes| scopes.split(' ')) {
            let Some((name, actions)) =
                scope.strip_prefix("repository:").and_then(|scope| scope.rsplit_once(':'))
            else {
                continue;
            };
            granted.extend(actions.split(',').map(|action| format!("{name}:{action}")));
        }
        let mut issued = self.issued.lock().unwrap();
        let token = format!("{}-token-{}", self.prefix, issued.len());
        let body = format!(r#"{{"token":"{token}","expires_in":300}}"#);
        issued.insert(token, granted);
        Reply::new(200).json(body)
    }
}

/// Returns the repository and what is done there.
fn scope(request: &Request, route: &Route) -> Option<(String, &'static str)> {
    let action = match (request.method.as_str(), route) {
        ("DELETE", Route::Manifest { .. } | Route::Blob { .. }) => "delete",
        ("GET", Route::Upload { .. }) => "push",
        ("GET" | "HEAD", _) => "pull",
        _ => "push",
    };
    match route {
        Route::Manifest { name, .. }
        | Route::Blob { name, .. }
        | Route::Uploads { name }
        | Route::Upload { name, .. }
        | Route::Tags { name }
        | Route::Referrers { name, .. } => Some((name.clone(), action)),
        Route::Version | Route::Token | Route::Catalog | Route::Unknown => None,
    }
}

/// Returns what its user sends.
pub(super) fn basic() -> String {
    format!("Basic {}", STANDARD.encode(format!("{USERNAME}:{PASSWORD}")))
}

impl Content {
    fn manifest(&self, name: String, key: String) -> Reply {
        match self.manifests.get(&(name, key)) {
            Some((kind, bytes)) => Reply::new(200)
                .header("content-type", kind)
                .header("docker-content-digest", Digest::of(bytes).to_string())
                .body(bytes.clone()),
            None => Reply::error(404, "MANIFEST_UNKNOWN"),
        }
    }

    fn take_manifest(&mut self, name: &str, key: &str, request: &Request) -> Reply {
        let digest = Digest::of(&request.body).to_string();
        self.put_manifest(name, key, request.header("content-type"), &request.body);
        Reply::new(201)
            .header("location", format!("/v2/{name}/manifests/{digest}"))
            .header("docker-content-digest", digest)
    }

    fn drop_manifest(&mut self, name: String, key: String) -> Reply {
        match self.manifests.remove(&(name, key)) {
            Some(_) => Reply::new(202),
            None => Reply::error(404, "MANIFEST_UNKNOWN"),
        }
    }

    fn blob(&self, name: String, digest: String, request: &Request) -> Reply {
        let Some(bytes) = self.blobs.get(&(name, digest.clone())) else {
            return Reply::error(404, "BLOB_UNKNOWN");
        };
        let reply = Reply::new(200)
            .header("content-type", "application/octet-stream")
            .header("docker-content-digest", digest)
            .header("accept-ranges", "bytes");
        let total = bytes.len();
        let Some(range) = request.header("range").strip_prefix("bytes=") else {
            return reply.body(bytes.clone());
        };
        let (first, last) = range.split_once('-').unwrap_or((range, ""));
        let first: usize = first.parse().unwrap_or(total);
        let last = last.parse().map_or(total, |last: usize| total.min(last + 1));
        if first >= last {
            return Reply::error(416, "RANGE_INVALID")
                .header("content-range", format!("bytes */{total}"));
        }
        let content_range = format!("bytes {first}-{}/{total}", last - 1);
        let part = Reply { status: 206, ..reply };
        part.header("content-range", content_range).body(&bytes[first..last])
    }

    fn drop_blob(&mut self, name: String, digest: String) -> Reply {
        match self.blobs.remove(&(name, digest)) {
            Some(_) => Reply::new(202),
            None => Reply::error(404, "BLOB_UNKNOWN"),
        }
    }

    fn open(&mut self, name: &str, request: &Request) -> Reply {
        let mount = request.parameters("mount").pop();
        let from = request.parameters("from").pop();
        if let (Some(digest), Some(from)) = (mount, from)
            && let Some(bytes) = self.blobs.get(&(from, digest.clone())).cloned()
        {
            self.put_blob(name, &bytes);
            return Reply::new(201)
                .header("location", format!("/v2/{name}/blobs/{digest}"))
                .header("docker-content-digest", digest);
        }
        self.opened += 1;
        self.uploads.insert(self.opened, Vec::new());
        if let Some(digest) = request.parameters("digest").pop()
            && !request.body.is_empty()
        {
            return self.store(name, self.opened, &digest, &request.body);
        }
        self.accepted(name, self.opened, 202)
    }

    fn accepted(&self, name: &str, id: usize, status: u16) -> Reply {
        let size = self.uploads.get(&id).map_or(0, Vec::len);
        Reply::new(status)
            .header("location", format!("/v2/{name}/blobs/uploads/{id}?state={size}"))
            .header("range", format!("0-{}", size.saturating_sub(1)))
            .header("docker-upload-uuid", id.to_string())
    }

    fn append(&mut self, name: &str, id: usize, request: &Request) -> Reply {
        let Some(upload) = self.uploads.get_mut(&id) else {
            return Reply::error(404, "BLOB_UPLOAD_UNKNOWN");
        };
        let range = request.header("content-range");
        if let Some((first, _)) = range.split_once('-')
            && first.parse() != Ok(upload.len())
        {
            return Reply { status: 416, ..self.accepted(name, id, 416) };
        }
        upload.extend_from_slice(&request.body);
        self.accepted(name, id, 202)
    }

    fn progress(&self, name: &str, id: usize) -> Reply {
        if self.uploads.contains_key(&id) {
            self.accepted(name, id, 204)
        } else {
            Reply::error(404, "BLOB_UPLOAD_UNKNOWN")
        }
    }

    fn commit(&mut self, name: &str, id: usize, request: &Request) -> Reply {
        let Some(digest) = request.parameters("digest").pop() else {
            return Reply::error(400, "DIGEST_INVALID");
        };
        self.store(name, id, &digest, &request.body)
    }

    fn store(&mut self, name: &str, id: usize, digest: &str, last: &[u8]) -> Reply {
        let Some(mut bytes) = self.uploads.remove(&id) else {
            return Reply::error(404, "BLOB_UPLOAD_UNKNOWN");
        };
        bytes.extend_from_slice(last);
        if Digest::of(&bytes).to_string() != digest {
            return Reply::error(400, "DIGEST_INVALID");
        }
        self.put_blob(name, &bytes);
        Reply::new(201)
            .header("location", format!("/v2/{name}/blobs/{digest}"))
            .header("docker-content-digest", digest)
    }

    fn tags(&self, name: &str) -> Reply {
        let keys = self.manifests.keys().filter(|(have, _)| have == name);
        let tags: Vec<&str> =
            keys.map(|(_, key)| key.as_str()).filter(|key| !key.contains(':')).collect();
        if tags.is_empty() {
            return Reply::error(404, "NAME_UNKNOWN");
        }
        Reply::new(200).json(serde_json::json!({ "name": name, "tags": tags }).to_string())
    }

    fn referrers(&self, name: &str, digest: &str) -> Reply {
        let mut found = Vec::new();
        for ((have, key), (kind, bytes)) in &self.manifests {
            let Ok(manifest) = serde_json::from_slice::<serde_json::Value>(bytes) else { continue };
            if have == name && key.contains(':') && manifest["subject"]["digest"] == digest {
                found.push(serde_json::json!({
                    "mediaType": kind, "digest": key, "size": bytes.len(),
                    "artifactType": manifest["artifactType"],
                }));
            }
        }
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": kind, "manifests": found,
        });
        Reply::new(200).header("content-type", kind).body(index.to_string())
    }

    fn catalog(&self) -> Reply {
        let names: BTreeSet<&String> = self.manifests.keys().map(|(name, _)| name).collect();
        Reply::new(200).json(serde_json::json!({ "repositories": names }).to_string())
    }
}
