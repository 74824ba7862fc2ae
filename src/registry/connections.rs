//! The HTTP clients underneath: one for each way to treat TLS, made when first needed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, ClientBuilder};
use tokio::sync::OnceCell;

use super::{Error, Result};

/// Longer than any network needs for a handshake, short enough to try the next mirror soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
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

/// Whether connections may go through the proxy of the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Route {
    /// They may.
    Proxied,
    /// They may not: the host is this machine.
    Direct,
}

/// The HTTP clients made so far.
#[derive(Debug, Default)]
pub(super) struct Connections {
    made: [[OnceCell<reqwest::Client>; 2]; 3],
    ca_files: Vec<PathBuf>,
    user_agent: String,
}

impl Connections {
    pub(super) fn new(ca_files: Vec<PathBuf>, user_agent: String) -> Self {
        Self { made: <[[OnceCell<reqwest::Client>; 2]; 3]>::default(), ca_files, user_agent }
    }

    /// Returns the HTTP client for connections of that kind.
    pub(super) async fn client(
        &self,
        security: Security,
        route: Route,
    ) -> Result<&reqwest::Client> {
        let cell = &self.made[security as usize][route as usize];
        cell.get_or_try_init(async || self.make(security, route).await).await
    }

    async fn make(&self, security: Security, route: Route) -> Result<reqwest::Client> {
        let files = self.ca_files.clone();
        let user_agent = self.user_agent.clone();
        let make = move || build(security, route, &files, &user_agent);
        match security {
            // Reads the system's authorities: milliseconds of file reading and parsing.
            Security::Verified => tokio::task::spawn_blocking(make)
                .await
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())),
            Security::Unverified | Security::Plain => make(),
        }
    }
}

fn build(
    security: Security,
    route: Route,
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
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http2_max_frame_size(HTTP2_FRAME_BYTES)
        .tcp_nodelay(true);
    if route == Route::Direct {
        builder = builder.no_proxy();
    }
    builder = match security {
        Security::Plain => builder.tls_certs_only([]),
        Security::Unverified => builder.tls_danger_accept_invalid_certs(true),
        Security::Verified => {
            let mut authorities = Vec::new();
            for path in ca_files {
                authorities.extend(read_authorities(path)?);
            }
            builder.tls_certs_merge(authorities)
        }
    };
    builder.build().map_err(Error::Tls)
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
