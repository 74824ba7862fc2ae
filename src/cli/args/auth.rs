//! Flags of `login`, `logout`, `whoami` and `auth`.

use std::convert::Infallible;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::operations::Secret;

use super::FormatArgs;

/// Which credentials count; every command takes them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Registry options")]
pub(crate) struct CredentialArgs {
    /// Look for logins in this file only; login and logout change it
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Look for logins for what is read from registries in this file only
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) src_authfile: Option<PathBuf>,
    /// Look for logins for what is written to registries in this file only
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) dest_authfile: Option<PathBuf>,
    /// Send the bearer token in this file to this registry (repeatable)
    #[arg(
        long,
        global = true,
        value_name = "HOST=FILE",
        env = "RPUB_REGISTRY_TOKEN_FILE",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(crate) registry_token_file: Vec<String>,
}

/// Takes a secret from the command line without a copy that can be printed.
#[expect(clippy::unnecessary_wraps, reason = "what the parser of arguments wants")]
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text.to_owned()))
}

/// Flags of `login`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct LoginArgs {
    /// Registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub(crate) registry: String,
    /// User name
    #[arg(short, long)]
    pub(crate) username: Option<String>,
    /// Password or token, which others can see: prefer --password-stdin
    #[arg(short, long, conflicts_with = "password_stdin", value_parser = secret)]
    pub(crate) password: Option<Secret>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Do not ask the registry whether the credentials are right
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Keep the password in the desktop's keyring, or the kernel's
    #[arg(long)]
    pub(crate) keyring: bool,
    /// Save in this file, in docker's form
    #[arg(long, value_name = "FILE", conflicts_with = "authfile")]
    pub(crate) compat_auth_file: Option<PathBuf>,
    /// Only print the user that is logged in
    #[arg(long, conflicts_with_all = ["username", "password", "password_stdin"])]
    pub(crate) get_login: bool,
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
    /// Erase from this file, which has docker's form
    #[arg(long, value_name = "FILE", conflicts_with = "authfile")]
    pub(crate) compat_auth_file: Option<PathBuf>,
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
    /// Show those for pushing
    #[arg(long)]
    pub(crate) push: bool,
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
