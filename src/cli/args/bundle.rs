//! Flags of `bundle`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CopyContentArgs, FormatArgs};

/// The `bundle` family.
#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Put images into a new bundle; one that was begun is gone on with
    Create(Box<BundleCreateArgs>),
    /// Add images to a bundle
    Add(Box<BundleAddArgs>),
    /// Load the images of a bundle into the store, or into a registry; the store needs no network
    Load(BundleLoadArgs),
    /// Read a bundle whole: hash everything again, and see whether anything is missing
    Verify(BundleFileArgs),
    /// List the images of a bundle, or write down what a place has for `--delta-from`
    Ls(BundleLsArgs),
    /// Show in what two bundles differ
    Diff(BundleDiffArgs),
}

/// What goes into a bundle.
#[derive(Debug, Args)]
pub(crate) struct BundleContentArgs {
    /// Images: NAME in a registry, store:NAME, oci:DIR[:TAG], or oci-archive:, docker-archive: or
    /// bundle:FILE[:NAME]; NAME=IMAGE gives another name
    #[arg(value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// Also the images of this file, one a line, # begins a comment (- is standard input; repeatable)
    #[arg(long = "file", short = 'f', value_name = "LIST")]
    pub(crate) files: Vec<PathBuf>,
    /// Also the images of this lock file, by digest (repeatable)
    #[arg(long = "lock", value_name = "FILE")]
    pub(crate) locks: Vec<PathBuf>,
    /// Leave out the blobs that the other side has: a file of `bundle ls --inventory`, or a bundle,
    /// archive or layout that is there
    #[arg(long, value_name = "FILE")]
    pub(crate) delta_from: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) content: CopyContentArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `bundle create`.
#[derive(Debug, Args)]
pub(crate) struct BundleCreateArgs {
    /// The bundle
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) what: BundleContentArgs,
}

/// Flags of `bundle add`.
#[derive(Debug, Args)]
pub(crate) struct BundleAddArgs {
    /// The bundle
    #[arg(value_name = "FILE")]
    pub(crate) bundle: PathBuf,
    #[command(flatten)]
    pub(crate) what: BundleContentArgs,
}

/// Flags of `bundle load`.
#[derive(Debug, Args)]
pub(crate) struct BundleLoadArgs {
    /// The bundle, or another archive
    #[arg(value_name = "FILE")]
    pub(crate) bundle: PathBuf,
    /// Images: a name, tag or digest each [default: all]
    #[arg(value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// Push them to this registry, under the names of their repositories [default: the store]
    #[arg(long, value_name = "REGISTRY[/PREFIX]")]
    pub(crate) to: Option<String>,
    /// Put NEW in place of OLD at the beginning of names; the longest OLD counts (repeatable)
    #[arg(long = "map", value_name = "OLD=NEW")]
    pub(crate) maps: Vec<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
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
