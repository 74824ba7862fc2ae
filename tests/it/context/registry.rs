//! Debian's `docker-registry`, one process a test, on a free port of the loopback.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::http::{self, Response};
use super::process::Process;
use super::tls::Authority;
use super::token::{ISSUER, SERVICE, TokenServer};
use super::{TestContext, has_tools};

/// The account that every registry with authentication knows.
pub(crate) const USERNAME: &str = "alice";
/// Its password, with characters that a careless client mangles.
pub(crate) const PASSWORD: &str = "p:a ss/w%rd+é";

/// Everything a client may be sent for a manifest.
pub(crate) const MANIFEST_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// How a registry knows its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Auth {
    /// Not at all.
    #[default]
    None,
    /// By basic authentication over TLS.
    Htpasswd,
    /// By tokens from a server of the test's.
    Token,
    /// By client certificates, of the authority that also issued its own.
    Certificates,
}

/// What kind of registry to start.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegistryOptions {
    /// How it knows its users. TLS, from an authority of its own, comes with htpasswd.
    pub(crate) auth: Auth,
    /// How many seconds a token lives for; long enough for every test without a number.
    pub(crate) token_lifetime: Option<u64>,
    /// Serve this storage and change nothing in it.
    pub(crate) read_only: Option<PathBuf>,
}

/// A registry that runs until it is dropped.
pub(crate) struct Registry {
    port: u16,
    directory: PathBuf,
    storage: PathBuf,
    authority: Option<PathBuf>,
    tokens: Option<TokenServer>,
    _process: Process,
}

impl Registry {
    /// Starts a registry without authentication; `None` where there is no such program, after
    /// saying so.
    pub(crate) fn plain(context: &TestContext) -> Option<Self> {
        Self::with_auth(context, Auth::None)
    }

    /// Starts a registry with this kind of authentication; `None` as in [`Registry::plain`].
    pub(crate) fn with_auth(context: &TestContext, auth: Auth) -> Option<Self> {
        let tools: &[&str] = match auth {
            Auth::Htpasswd => &["docker-registry", "htpasswd"],
            Auth::None | Auth::Token | Auth::Certificates => &["docker-registry"],
        };
        has_tools(tools)
            .then(|| Self::start(context, &RegistryOptions { auth, ..Default::default() }))
    }

    /// Starts a registry whose tokens live for so many seconds; `None` as in [`Registry::plain`].
    pub(crate) fn with_short_tokens(context: &TestContext, seconds: u64) -> Option<Self> {
        let options = RegistryOptions {
            auth: Auth::Token,
            token_lifetime: Some(seconds),
            ..Default::default()
        };
        has_tools(&["docker-registry"]).then(|| Self::start(context, &options))
    }

    /// Starts a registry.
    ///
    /// # Panics
    /// When it does not come up; its log is in the text.
    pub(crate) fn start(context: &TestContext, options: &RegistryOptions) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = context.path(format!("registry-{number}"));
        fs_err::create_dir_all(&directory).unwrap();
        let mut settings = Settings::new(&directory, options);
        // Somebody else may take the port between the question and the start.
        for _ in 0..5 {
            let port = free_port();
            fs_err::write(directory.join("settings.yml"), settings.text(port)).unwrap();
            if let Some(process) = serve(&directory, port) {
                return Self {
                    port,
                    storage: settings.storage,
                    authority: settings.authority,
                    tokens: settings.tokens.take(),
                    directory,
                    _process: process,
                };
            }
        }
        let log = fs_err::read_to_string(directory.join("log")).unwrap_or_default();
        panic!("`docker-registry` does not start:\n{log}");
    }

    /// Returns host and port, as they stand in a reference.
    pub(crate) fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns a reference to a repository of this registry.
    pub(crate) fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.name())
    }

    /// Returns the certificate of the authority that a client must trust.
    pub(crate) fn authority(&self) -> &Path {
        self.authority.as_deref().expect("only a registry with TLS has an authority")
    }

    /// Returns a file for its clients: `ca.crt`, `client.cert`, `client.key`.
    pub(crate) fn client_file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Returns whether it speaks TLS.
    pub(crate) fn has_tls(&self) -> bool {
        self.authority.is_some()
    }

    /// Returns the directory where the registry keeps what it was sent.
    pub(crate) fn storage(&self) -> &Path {
        &self.storage
    }

    /// Returns the lines `METHOD path status` of all requests so far, in order.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = fs_err::read_to_string(self.directory.join("log")).unwrap_or_default();
        log.lines().filter_map(request_of).collect()
    }

    /// Returns the request lines that the token server has seen.
    pub(crate) fn token_requests(&self) -> Vec<String> {
        self.tokens.as_ref().map(TokenServer::requests).unwrap_or_default()
    }

    /// Asks for a path, without credentials.
    pub(crate) fn get(&self, path: &str) -> Response {
        let headers = [("Accept", MANIFEST_TYPES)];
        http::get(&self.name(), path, &headers).expect("the registry answers")
    }

    /// Returns a manifest and its digest; `None` when there is none.
    pub(crate) fn manifest(&self, repository: &str, tag: &str) -> Option<(String, Value)> {
        let response = self.get(&format!("/v2/{repository}/manifests/{tag}"));
        if response.status == 404 {
            return None;
        }
        assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
        let digest = digest_of(&response.body);
        assert_eq!(response.header("docker-content-digest"), Some(digest.as_str()));
        Some((digest, serde_json::from_slice(&response.body).unwrap()))
    }

    /// Returns the bytes of a blob after comparing their digest.
    pub(crate) fn blob(&self, repository: &str, digest: &str) -> Vec<u8> {
        let response = self.get(&format!("/v2/{repository}/blobs/{digest}"));
        assert_eq!(response.status, 200, "{repository} has no blob {digest}");
        assert_eq!(digest_of(&response.body), digest);
        response.body
    }

    /// Returns where the registry keeps a blob, for tests that spoil it.
    pub(crate) fn blob_path(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let path = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        self.storage.join(path)
    }

    /// Returns the tags of a repository, sorted.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        let response = self.get(&format!("/v2/{repository}/tags/list"));
        if response.status == 404 {
            return Vec::new();
        }
        let list: Value = serde_json::from_slice(&response.body).unwrap();
        let tags = list["tags"].as_array().cloned().unwrap_or_default();
        let mut tags: Vec<String> =
            tags.iter().map(|tag| tag.as_str().unwrap().to_owned()).collect();
        tags.sort();
        tags
    }
}

/// What the YAML file says.
struct Settings {
    storage: PathBuf,
    read_only: bool,
    authority: Option<PathBuf>,
    tokens: Option<TokenServer>,
    auth: String,
    tls: String,
}

impl Settings {
    fn new(directory: &Path, options: &RegistryOptions) -> Self {
        let storage = options.read_only.clone().unwrap_or_else(|| directory.join("storage"));
        let mut settings = Self {
            storage,
            read_only: options.read_only.is_some(),
            authority: None,
            tokens: None,
            auth: String::new(),
            tls: String::new(),
        };
        match options.auth {
            Auth::None => {}
            Auth::Htpasswd => settings.use_htpasswd(directory),
            Auth::Token => settings.use_tokens(directory, options.token_lifetime),
            Auth::Certificates => settings.use_certificates(directory),
        }
        settings
    }

    /// Returns the authority of the registry's certificate.
    fn use_tls(&mut self, directory: &Path) -> Authority {
        let authority = Authority::new();
        let identity = authority.issue();
        let certificate = directory.join("certificate.pem");
        let key = directory.join("key.pem");
        fs_err::write(&certificate, identity.certificate_pem).unwrap();
        fs_err::write(&key, identity.key.serialize_pem()).unwrap();
        let path = directory.join("authority.pem");
        fs_err::write(&path, &authority.pem).unwrap();
        self.authority = Some(path);
        self.tls = format!("certificate: {}, key: {}", yaml(&certificate), yaml(&key));
        authority
    }

    fn use_certificates(&mut self, directory: &Path) {
        let authority = self.use_tls(directory);
        let client = authority.issue();
        let path = directory.join("ca.crt");
        fs_err::write(&path, authority.pem).unwrap();
        fs_err::write(directory.join("client.cert"), client.certificate_pem).unwrap();
        fs_err::write(directory.join("client.key"), client.key.serialize_pem()).unwrap();
        let _ = write!(self.tls, ", clientcas: [{}]", yaml(&path));
    }

    fn use_htpasswd(&mut self, directory: &Path) {
        self.use_tls(directory);
        let output = Command::new("htpasswd").args(["-Bbn", USERNAME, PASSWORD]).output().unwrap();
        let passwords = directory.join("htpasswd");
        fs_err::write(&passwords, output.stdout).unwrap();
        self.auth = format!("auth: {{htpasswd: {{realm: rpub, path: {}}}}}\n", yaml(&passwords));
    }

    fn use_tokens(&mut self, directory: &Path, lifetime: Option<u64>) {
        let authority = Authority::new();
        let bundle = directory.join("token-authority.pem");
        fs_err::write(&bundle, &authority.pem).unwrap();
        let tokens = TokenServer::start(authority.issue(), USERNAME, PASSWORD, lifetime);
        self.auth = format!(
            "auth: {{token: {{realm: {:?}, service: {SERVICE:?}, issuer: {ISSUER:?}, \
             rootcertbundle: {}}}}}\n",
            tokens.realm(),
            yaml(&bundle)
        );
        self.tokens = Some(tokens);
    }

    fn text(&self, port: u16) -> String {
        let Self { storage, read_only, auth, tls, .. } = self;
        // A shared storage must not even be swept for old uploads.
        format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  \
             cache: {{blobdescriptor: inmemory}}\n  filesystem: {{rootdirectory: {}}}\n  \
             delete: {{enabled: {}}}\n  maintenance: {{uploadpurging: {{enabled: false}}, \
             readonly: {{enabled: {read_only}}}}}\n{auth}\
             http: {{addr: \"127.0.0.1:{port}\", tls: {{{tls}}}}}\n",
            yaml(storage),
            !read_only
        )
    }
}

/// Returns a path as a YAML string.
fn yaml(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// Starts the program and waits until it listens; `None` when it ended instead.
fn serve(directory: &Path, port: u16) -> Option<Process> {
    let log = fs_err::File::create(directory.join("log")).unwrap().into_parts().0;
    let child = Command::new("docker-registry")
        .arg("serve")
        .arg(directory.join("settings.yml"))
        .env_clear()
        .env("OTEL_TRACES_EXPORTER", "none")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut process = Process::new(child);
    listens(&mut process, port).then_some(process)
}

/// Waits until a child accepts connections; false when it ended instead.
pub(super) fn listens(process: &mut Process, port: u16) -> bool {
    loop {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return true;
        }
        if process.child().try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(super) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Returns the digest of bytes in its text form.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Takes `GET /v2/... 200` out of a line of the access log, which is in Apache's combined form.
fn request_of(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('"')?;
    let (request, rest) = rest.split_once('"')?;
    let (request, _) = request.split_once(" HTTP/")?;
    let status = rest.split_whitespace().next()?;
    Some(format!("{request} {status}"))
}
