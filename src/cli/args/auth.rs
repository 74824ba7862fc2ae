//! Flags of `login`, `logout`, `whoami` and `auth`.

use clap::{Args, Subcommand};

use super::FormatArgs;

/// Flags of `login`.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub(crate) registry: String,
    /// User name
    #[arg(short, long)]
    pub(crate) username: Option<String>,
    /// Password or token, which others can see: prefer --password-stdin
    #[arg(short, long, conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Do not ask the registry whether the credentials are right
    #[arg(long)]
    pub(crate) no_verify: bool,
}

/// Flags of `logout`.
#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// Registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io", conflicts_with = "all")]
    pub(crate) registry: String,
    /// Log out of every registry
    #[arg(short, long)]
    pub(crate) all: bool,
}

/// Flags of `whoami`.
#[derive(Debug, Args)]
pub(crate) struct WhoamiArgs {
    /// Registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub(crate) registry: String,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// The `auth` family.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Show where credentials for an image are looked for, and which are used
    Explain(AuthExplainArgs),
    /// Print a token for an image's repository
    Token(AuthTokenArgs),
}

/// Flags of `auth explain`.
#[derive(Debug, Args)]
pub(crate) struct AuthExplainArgs {
    /// Image
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `auth token`.
#[derive(Debug, Args)]
pub(crate) struct AuthTokenArgs {
    /// Image
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) image: String,
    /// Ask for a token that may push, too
    #[arg(long)]
    pub(crate) push: bool,
    /// Print the whole header, as in curl -H "$(rpub auth token -H NAME)" URL
    #[arg(short = 'H', long)]
    pub(crate) header: bool,
}
