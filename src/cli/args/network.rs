//! Flags that say how registries are reached; every command takes them.

use std::path::PathBuf;

use clap::Args;

/// How registries are reached.
#[derive(Debug, Args)]
#[command(next_help_heading = "Registry options")]
pub(crate) struct NetworkArgs {
    /// Allow plain HTTP and unverified TLS for this registry (repeatable)
    #[arg(
        long,
        global = true,
        value_name = "HOST",
        env = "RPUB_INSECURE_REGISTRIES",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(crate) insecure_registry: Vec<String>,
    /// Also trust the certificate authorities in this PEM file (repeatable)
    #[arg(long, global = true, value_name = "FILE", env = "RPUB_CA_FILE", hide_env_values = true)]
    pub(crate) ca_file: Vec<PathBuf>,
    /// Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "CONTAINERS_REGISTRIES_CONF",
        hide_env_values = true
    )]
    pub(crate) registries_conf: Option<PathBuf>,
}
