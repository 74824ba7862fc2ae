//! Flags of `serve`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::duration;

/// Flags of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Serve what is in this bundle, archive or image layout instead of the store; read-only
    #[arg(value_name = "FILE", conflicts_with = "proxy")]
    pub(crate) source: Option<PathBuf>,
    /// Listen on this address, a free port for port 0
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    pub(crate) listen: String,
    /// Keep what is pushed under this registry name
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    pub(crate) name: String,
    /// Refuse every change
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Be a pull-through cache of this registry; the first one is meant by names without a registry
    #[arg(long, value_name = "REGISTRY")]
    pub(crate) proxy: Vec<String>,
    /// Ask again after so long what a cached tag names
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration::parse, requires = "proxy")]
    pub(crate) revalidate: Duration,
    /// Let cached images take so much at most; those unused for longest go [default: half of the
    /// file system]
    #[arg(long, value_name = "SIZE", requires = "proxy")]
    pub(crate) max_size: Option<String>,
    /// Speak TLS with this certificate, in PEM; a new one in the file is used at once
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Serve only clients with a certificate of these authorities
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,
}
