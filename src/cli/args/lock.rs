//! Flags of `lock` and `fetch`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{DockerfileArgs, FormatArgs, LockedArgs};

/// Flags of `lock`.
#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    /// Build context, in which the Dockerfile is
    #[arg(value_name = "PATH|URL|-", default_value = ".")]
    pub(crate) context: OsString,
    #[command(flatten)]
    pub(crate) dockerfile: DockerfileArgs,
    /// Write this file [default: rpub.lock beside the Dockerfile]
    #[arg(long, value_name = "FILE")]
    pub(crate) lock_file: Option<PathBuf>,
    /// Lock for these platforms, separated by commas [default: the lock file's, or this machine's]
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        value_delimiter = ',',
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env_values = true
    )]
    pub(crate) platform: Vec<String>,
    /// Look up anew what these names are, or all, and show the difference
    #[arg(long, value_name = "NAME", num_args = 0..)]
    pub(crate) update: Option<Vec<String>>,
    /// Write nothing; fail when the lock file would change
    #[arg(long)]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) secrets: SecretArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags about what URLs and repositories ask for.
#[derive(Debug, Args)]
pub(crate) struct SecretArgs {
    /// Give a secret, such as a token for a URL, as in build (repeatable)
    #[arg(long, value_name = "id=ID[,src=FILE|,env=NAME]")]
    pub(crate) secret: Vec<String>,
    /// Give an agent or keys for ssh, as in build (repeatable)
    #[arg(long, value_name = "default|ID[=SOCKET|KEY...]")]
    pub(crate) ssh: Vec<String>,
}

/// Flags of `fetch`.
#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// Images to fetch [default: what the Dockerfile of this directory starts from and adds]
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) images: Vec<String>,
    #[command(flatten)]
    pub(crate) dockerfile: DockerfileArgs,
    #[command(flatten)]
    pub(crate) lock: LockedArgs,
    /// Fetch for these platforms, separated by commas [default: the lock file's, or this machine's]
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        value_delimiter = ',',
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env_values = true
    )]
    pub(crate) platform: Vec<String>,
    #[command(flatten)]
    pub(crate) secrets: SecretArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}
