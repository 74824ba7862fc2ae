//! Flags that say how registries are reached; every command takes them.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;

use crate::cli::duration;

/// How registries are reached.
#[derive(Debug, Args)]
#[command(next_help_heading = "Registry options")]
pub(crate) struct NetworkArgs {
    /// Open no connection to anybody: what is here counts, as it was last seen
    #[arg(
        long,
        global = true,
        env = "RPUB_OFFLINE",
        hide_env_values = true,
        value_parser = FalseyValueParser::new()
    )]
    pub(crate) offline: bool,
    /// Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)
    #[arg(
        long,
        global = true,
        value_name = "HOST",
        env = "RPUB_INSECURE_REGISTRIES",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(crate) insecure_registry: Vec<String>,
    /// Reach this registry by plain HTTP (repeatable)
    #[arg(long, global = true, value_name = "HOST")]
    pub(crate) plain_http: Vec<String>,
    /// Do not verify the certificate of this registry (repeatable)
    #[arg(long, global = true, value_name = "HOST")]
    pub(crate) skip_tls_verify: Vec<String>,
    /// Also trust the certificate authorities in this PEM file (repeatable)
    #[arg(long, global = true, value_name = "FILE", env = "RPUB_CA_FILE", hide_env_values = true)]
    pub(crate) ca_file: Vec<PathBuf>,
    /// Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "CONTAINERS_REGISTRIES_CONF",
        hide_env_values = true
    )]
    pub(crate) registries_conf: Option<PathBuf>,
    /// Try a failed request so many times more [default: 4]
    #[arg(long, global = true, value_name = "N", env = "RPUB_RETRY_TIMES", hide_env_values = true)]
    pub(crate) retry_times: Option<u32>,
    /// Wait so long before the first retry, twice as long before each further one [default: 500ms]
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        env = "RPUB_RETRY_DELAY",
        hide_env_values = true,
        value_parser = duration::parse
    )]
    pub(crate) retry_delay: Option<Duration>,
    /// Give up at once when a registry asks for a longer wait than this [default: 1m]
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        env = "RPUB_MAX_WAIT",
        hide_env_values = true,
        value_parser = duration::parse
    )]
    pub(crate) max_wait: Option<Duration>,
    /// Break off when a registry does nothing for so long [default: 90s]
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        env = "RPUB_IDLE_TIMEOUT",
        hide_env_values = true,
        value_parser = duration::parse_positive
    )]
    pub(crate) idle_timeout: Option<Duration>,
    /// Move at most so many blobs at once each way [default: what the registry takes, up to 16]
    #[arg(long, global = true, value_name = "N", env = "RPUB_CONCURRENCY", hide_env_values = true)]
    pub(crate) concurrency: Option<NonZeroUsize>,
    /// Move at most so many bytes a second, both ways together, as in 5MB
    #[arg(
        long,
        global = true,
        value_name = "SIZE",
        env = "RPUB_LIMIT_RATE",
        hide_env_values = true
    )]
    pub(crate) limit_rate: Option<String>,
    /// Connect to this address for a registry's host and port (repeatable)
    #[arg(long, global = true, value_name = "HOST:PORT:ADDRESS[:PORT]")]
    pub(crate) resolve: Vec<String>,
    /// Send this header to registries; @FILE reads lines from a file (repeatable)
    #[arg(long, global = true, value_name = "NAME: VALUE")]
    pub(crate) http_header: Vec<String>,
    /// Put this text before rpub's own in the user agent
    #[arg(long, global = true, value_name = "TEXT", value_parser = user_agent)]
    pub(crate) user_agent_prefix: Option<String>,
}

/// Checks that a text can be part of a header.
fn user_agent(text: &str) -> Result<String, String> {
    let is_fit = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if text.trim().is_empty() || !text.bytes().all(is_fit) {
        return Err("write ASCII letters, digits and signs, such as `team-ci/2.1`".to_owned());
    }
    Ok(text.trim().to_owned())
}
