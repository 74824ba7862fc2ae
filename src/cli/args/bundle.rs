//! Flags of `bundle`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::FormatArgs;

/// The `bundle` family.
#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Read a bundle whole: hash everything again, and see whether anything is missing
    Verify(BundleFileArgs),
    /// List the images of a bundle, or write down what a place has for `--delta-from`
    Ls(BundleLsArgs),
    /// Show in what two bundles differ
    Diff(BundleDiffArgs),
}

/// Flags of `bundle verify`.
#[derive(Debug, Args)]
pub(crate) struct BundleFileArgs {
    /// The bundle, or another archive
    #[arg(value_name = "FILE")]
    pub(crate) bundle: PathBuf,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `bundle ls`.
#[derive(Debug, Args)]
pub(crate) struct BundleLsArgs {
    /// The bundle, or another archive; with `--inventory` also store: or a repository
    #[arg(value_name = "FILE")]
    pub(crate) bundle: String,
    /// Print what is there, blob by blob, as `--delta-from` reads it
    #[arg(long)]
    pub(crate) inventory: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `bundle diff`.
#[derive(Debug, Args)]
pub(crate) struct BundleDiffArgs {
    /// The earlier bundle, or another archive
    #[arg(value_name = "BEFORE")]
    pub(crate) before: PathBuf,
    /// The later one
    #[arg(value_name = "AFTER")]
    pub(crate) after: PathBuf,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}
