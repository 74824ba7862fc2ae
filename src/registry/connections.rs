//! The HTTP clients underneath: one for each set of settings, made when first needed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, ClientBuilder, Identity, Proxy, Url};
use tokio::sync::OnceCell;
use zeroize::Zeroize as _;

use super::hosts::{IdentityFiles, TlsFiles};
use super::{Error, Hosts, Result, location};

/// Longer than any network needs for a handshake, short enough to try the next mirror soon.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Registries and load balancers drop idle connections after a minute or more.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// The protocol's smallest frame, 16 KiB, would hand out a blob in that many more pieces.
const HTTP2_FRAME_BYTES: u32 = 256 << 10;

/// How a connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Security {
    /// TLS whose certificate is verified.
    Verified,
    /// TLS with any certificate; only where settings say `insecure`.
    Unverified,
    /// None. Loading the system's authorities is spared.
    Plain,
}

/// Which way a connection goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Route {
    /// Through the proxy of the environment, if it names one for the host.
    Environment,
    /// Through this proxy.
    Proxy(String),
    /// To the host itself: it is this machine, or the user gave its address.
    Direct,
}

/// What connections with the same settings have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Connection {
    pub(super) security: Security,
    pub(super) route: Route,
    pub(super) tls: TlsFiles,
    pub(super) connect_timeout: Duration,
    /// The host's name and the addresses that count for it.
    pub(super) resolved: Option<(String, Vec<SocketAddr>)>,
    /// Tells connections apart that are the same but for this: all requests of one strand to a server
    /// that speaks HTTP/2 share a connection.
    pub(super) strand: usize,
}

impl Connection {
    /// Returns the settings for `url`, whose host has none of its own.
    pub(super) fn to(url: &Url, hosts: &Hosts) -> Self {
        let security = if url.scheme() == "http" { Security::Plain } else { Security::Verified };
        let host = url.host_str().unwrap_or_default().to_owned();
        let resolved = hosts.resolved(url).map(|addresses| (host, addresses.to_vec()));
        let is_direct = location::is_loopback(url) || resolved.is_some();
        let route = if is_direct { Route::Direct } else { Route::Environment };
        let (tls, connect_timeout) = (TlsFiles::default(), CONNECT_TIMEOUT);
        Self { security, route, tls, connect_timeout, resolved, strand: 0 }
    }
}

/// The HTTP clients made so far.
#[derive(Debug, Default)]
pub(super) struct Connections {
    made: Mutex<HashMap<Connection, Arc<OnceCell<reqwest::Client>>>>,
    ca_files: Vec<PathBuf>,
    user_agent: String,
    reach: Reachable,
}

/// Whom connections may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reachable {
    /// Anybody.
    #[default]
    All,
    /// Nobody: the user is offline.
    Nobody,
}

impl Connections {
    pub(super) fn new(ca_files: Vec<PathBuf>, user_agent: String, reach: Reachable) -> Self {
        Self { made: Mutex::default(), ca_files, user_agent, reach }
    }

    /// Returns the HTTP client for connections of that kind. There is no other way to one, so who is
    /// refused here has opened no socket.
    pub(super) async fn client(
        &self,
        url: &Url,
        connection: Connection,
    ) -> Result<reqwest::Client> {
        if self.reach == Reachable::Nobody {
            return Err(Error::Offline { url: location::redacted(url) });
        }
        let cell = {
            let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(made.entry(connection.clone()).or_default())
        };
        cell.get_or_try_init(async || self.make(connection).await).await.cloned()
    }

    async fn make(&self, connection: Connection) -> Result<reqwest::Client> {
        let files = self.ca_files.clone();
        let user_agent = self.user_agent.clone();
        if connection.security == Security::Plain {
            return build(&connection, &files, &user_agent);
        }
        // Reads authorities and certificates: milliseconds of file reading and parsing.
        tokio::task::spawn_blocking(move || build(&connection, &files, &user_agent))
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}

fn build(
    connection: &Connection,
    ca_files: &[PathBuf],
    user_agent: &str,
) -> Result<reqwest::Client> {
    // reqwest takes the process's provider. That another one is installed already is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = ClientBuilder::new()
        .user_agent(user_agent)
        .redirect(Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(connection.connect_timeout)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http2_max_frame_size(HTTP2_FRAME_BYTES)
        .tcp_nodelay(true);
    builder = match &connection.route {
        Route::Environment => builder,
        Route::Direct => builder.no_proxy(),
        Route::Proxy(url) => builder.proxy(Proxy::all(url).map_err(Error::Tls)?),
    };
    if let Some((host, addresses)) = &connection.resolved {
        builder = builder.resolve_to_addrs(host, addresses);
    }
    builder = match connection.security {
        Security::Plain => builder.tls_certs_only([]),
        Security::Unverified => builder.tls_danger_accept_invalid_certs(true),
        Security::Verified => {
            let mut authorities = Vec::new();
            for path in ca_files.iter().chain(&connection.tls.authorities) {
                authorities.extend(read_authorities(path)?);
            }
            builder.tls_certs_merge(authorities)
        }
    };
    if let Some(files) = connection.tls.identities.first()
        && connection.security != Security::Plain
    {
        builder = builder.identity(read_identity(files)?);
    }
    builder.build().map_err(Error::Tls)
}

/// Reads a client certificate and its key.
fn read_identity(files: &IdentityFiles) -> Result<Identity> {
    let failed = |path: &Path, source| Error::ClientCertificate { path: path.to_owned(), source };
    let read = |path: &Path| fs_err::read(path).map_err(|error| failed(path, error));
    let mut pem = read(&files.certificate)?;
    if let Some(key) = &files.key {
        let mut key = read(key)?;
        pem.push(b'\n');
        pem.extend_from_slice(&key);
        key.zeroize();
    }
    let identity = Identity::from_pem(&pem);
    pem.zeroize();
    identity.map_err(|error| {
        let error = Box::<dyn std::error::Error + Send + Sync>::from(error);
        failed(&files.certificate, std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    })
}

fn read_authorities(path: &Path) -> Result<Vec<Certificate>> {
    let failed = |source| Error::CaFile { path: path.to_owned(), source };
    let text = fs_err::read(path).map_err(failed)?;
    let invalid = |error| failed(std::io::Error::new(std::io::ErrorKind::InvalidData, error));
    let found = Certificate::from_pem_bundle(&text)
        .map_err(|error| invalid(Box::<dyn std::error::Error + Send + Sync>::from(error)))?;
    if found.is_empty() {
        return Err(invalid("it holds no PEM certificate".into()));
    }
    Ok(found)
}
