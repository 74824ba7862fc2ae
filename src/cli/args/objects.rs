//! Flags of the families that look at single objects of a registry: tags, manifests, blobs,
//! repositories, referrers.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{FormatArgs, ManifestDiffArgs, TagArgs};

/// `tag`: docker's command, and the family of the same name.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct TagFamily {
    #[command(subcommand)]
    pub(crate) command: Option<TagCommand>,
    #[command(flatten)]
    pub(crate) args: Option<TagArgs>,
}

/// The `tag` family.
#[derive(Debug, Subcommand)]
pub(crate) enum TagCommand {
    /// List the tags of a repository in its registry
    #[command(visible_alias = "list")]
    Ls(TagLsArgs),
    /// Remove tags from a registry, and leave the images
    #[command(visible_alias = "remove")]
    Rm(TagRmArgs),
}

/// Which names of a list are wanted.
#[derive(Debug, Args)]
pub(crate) struct NameFilterArgs {
    /// List only names that this regular expression matches from start to end (repeatable)
    #[arg(long, value_name = "REGEX")]
    pub(crate) include: Vec<String>,
    /// Leave out names that this regular expression matches from start to end (repeatable)
    #[arg(long, value_name = "REGEX")]
    pub(crate) exclude: Vec<String>,
    /// List only names after this one, in the registry's order
    #[arg(long, value_name = "NAME")]
    pub(crate) last: Option<String>,
    /// List this many names at most
    #[arg(long, value_name = "NUMBER")]
    pub(crate) limit: Option<usize>,
}

/// Flags of `tag ls`.
#[derive(Debug, Args)]
pub(crate) struct TagLsArgs {
    /// Repository
    #[arg(value_name = "REPOSITORY")]
    pub(crate) repository: String,
    #[command(flatten)]
    pub(crate) filter: NameFilterArgs,
    /// Sort by name, or by version (what is none comes first) [default: the registry's order]
    #[arg(long, value_name = "ORDER", value_enum)]
    pub(crate) sort: Option<SortOrder>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// The value of `--sort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortOrder {
    /// By name.
    Name,
    /// By version.
    Semver,
}

/// Flags of `tag rm`.
#[derive(Debug, Args)]
pub(crate) struct TagRmArgs {
    /// Tags
    #[arg(value_name = "NAME:TAG", required = true)]
    pub(crate) tags: Vec<String>,
    /// Where a registry can only delete whole images, do so though other tags go too
    #[arg(short, long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// The `repo` family.
#[derive(Debug, Subcommand)]
pub(crate) enum RepoCommand {
    /// List the repositories of a registry
    #[command(visible_alias = "list")]
    Ls(RepoLsArgs),
}

/// Flags of `repo ls`.
#[derive(Debug, Args)]
pub(crate) struct RepoLsArgs {
    /// Registry
    #[arg(value_name = "REGISTRY")]
    pub(crate) registry: String,
    #[command(flatten)]
    pub(crate) filter: NameFilterArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// The `manifest` family.
#[derive(Debug, Subcommand)]
pub(crate) enum ManifestCommand {
    /// Print a manifest or index, byte by byte as it is in the registry
    #[command(visible_alias = "fetch")]
    Get(ManifestGetArgs),
    /// Print a manifest's media type, digest and size
    Head(ManifestGetArgs),
    /// Push a manifest or index, byte by byte as it is in a file
    #[command(visible_alias = "push")]
    Put(ManifestPutArgs),
    /// Show in what two manifests or indexes differ
    Diff(ManifestDiffArgs),
    /// Remove a manifest and all its tags from a registry
    #[command(visible_aliases = ["remove", "delete"])]
    Rm(ManifestRmArgs),
}

/// Flags of `manifest get` and `manifest head`.
#[derive(Debug, Args)]
pub(crate) struct ManifestGetArgs {
    /// Manifest or index
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) name: String,
    /// Of an index, take the manifest for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `manifest put`.
#[derive(Debug, Args)]
pub(crate) struct ManifestPutArgs {
    /// Where to push it; without a tag or digest, and without --tag, the tag is latest
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) name: String,
    /// File, or - for standard input
    #[arg(value_name = "FILE|-", default_value = "-")]
    pub(crate) file: PathBuf,
    /// Give it this tag too (repeatable)
    #[arg(short, long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Give it no tag
    #[arg(long, conflicts_with = "tags")]
    pub(crate) by_digest: bool,
    /// Media type, when the file does not say it
    #[arg(long, visible_alias = "content-type", value_name = "TYPE")]
    pub(crate) media_type: Option<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `manifest rm`.
#[derive(Debug, Args)]
pub(crate) struct ManifestRmArgs {
    /// Manifests by digest
    #[arg(value_name = "NAME@DIGEST", required = true)]
    pub(crate) names: Vec<String>,
    /// Take tags too: remove what they stand for, with all its other tags
    #[arg(long)]
    pub(crate) force_tag_dereference: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `digest`.
#[derive(Debug, Args)]
pub(crate) struct DigestArgs {
    /// Image
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: String,
    /// Of an index, take the manifest for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// Print the name too
    #[arg(long)]
    pub(crate) full_ref: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// The `blob` family.
#[derive(Debug, Subcommand)]
pub(crate) enum BlobCommand {
    /// Print a blob, or write it to a file
    #[command(visible_alias = "fetch")]
    Get(BlobGetArgs),
    /// Print a blob's digest and size, if it is there
    Head(BlobHeadArgs),
    /// Push a file as a blob, and print its digest
    #[command(visible_alias = "push")]
    Put(BlobPutArgs),
    /// Remove a blob from a registry
    #[command(visible_aliases = ["remove", "delete"])]
    Rm(BlobRmArgs),
}

/// Flags of `blob get`.
#[derive(Debug, Args)]
pub(crate) struct BlobGetArgs {
    /// Blob
    #[arg(value_name = "REPOSITORY@DIGEST")]
    pub(crate) blob: String,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Flags of `blob head`.
#[derive(Debug, Args)]
pub(crate) struct BlobHeadArgs {
    /// Blob
    #[arg(value_name = "REPOSITORY@DIGEST")]
    pub(crate) blob: String,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `blob put`.
#[derive(Debug, Args)]
pub(crate) struct BlobPutArgs {
    /// Repository; with a digest, what is pushed must have it
    #[arg(value_name = "REPOSITORY[@DIGEST]")]
    pub(crate) repository: String,
    /// File, or - for standard input
    #[arg(value_name = "FILE|-", default_value = "-")]
    pub(crate) file: PathBuf,
    /// Media type in the descriptor that --format prints
    #[arg(long, value_name = "TYPE", default_value = "application/octet-stream")]
    pub(crate) media_type: String,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `blob rm`.
#[derive(Debug, Args)]
pub(crate) struct BlobRmArgs {
    /// Blobs
    #[arg(value_name = "REPOSITORY@DIGEST", required = true)]
    pub(crate) blobs: Vec<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `referrers`.
#[derive(Debug, Args)]
pub(crate) struct ReferrersArgs {
    /// Image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) name: String,
    /// Of an index, take the manifest for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// List only this artifact type
    #[arg(long, value_name = "TYPE")]
    pub(crate) artifact_type: Option<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `ping`.
#[derive(Debug, Args)]
pub(crate) struct PingArgs {
    /// Registry
    #[arg(value_name = "REGISTRY")]
    pub(crate) registry: String,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}
