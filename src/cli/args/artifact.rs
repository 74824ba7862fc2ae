//! Flags of the `artifact` family: oras' where oras has them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::FormatArgs;

/// The `artifact` family.
#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactCommand {
    /// Push files and directories as an artifact
    #[command(visible_alias = "put")]
    Push(ArtifactPushArgs),
    /// Pull the files of an artifact into a directory
    #[command(visible_alias = "get")]
    Pull(ArtifactPullArgs),
    /// Push files and directories as an artifact that refers to an image
    Attach(ArtifactAttachArgs),
    /// Show what refers to an image, what refers to that, and so on
    #[command(visible_alias = "discover")]
    Tree(ArtifactTreeArgs),
}

/// What is in an artifact.
#[derive(Debug, Args)]
pub(crate) struct ArtifactContentArgs {
    /// Files and directories, each with a media type if it has one. They are called by these paths;
    /// one that leads out of the current directory, by its last part
    #[arg(value_name = "FILE[:TYPE]")]
    pub(crate) files: Vec<String>,
    /// Kind of artifact
    #[arg(long, value_name = "TYPE")]
    pub(crate) artifact_type: Option<String>,
    /// Annotate the manifest (repeatable)
    #[arg(short, long = "annotation", value_name = "KEY=VALUE")]
    pub(crate) annotations: Vec<String>,
    /// Annotate what this JSON file names: $manifest, $config and files
    #[arg(long, value_name = "FILE")]
    pub(crate) annotation_file: Option<PathBuf>,
}

/// Flags of `artifact push`.
#[derive(Debug, Args)]
pub(crate) struct ArtifactPushArgs {
    /// Where to push it, with any number of tags; without one, by digest alone
    #[arg(value_name = "NAME[:TAG[,TAG]...]")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) content: ArtifactContentArgs,
    /// Give it this tag too (repeatable)
    #[arg(short, long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Use this file as config [default: the empty one]
    #[arg(long, value_name = "FILE[:TYPE]")]
    pub(crate) config: Option<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `artifact attach`.
#[derive(Debug, Args)]
pub(crate) struct ArtifactAttachArgs {
    /// Image that it refers to
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) content: ArtifactContentArgs,
    /// Of an index, take the manifest for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `artifact pull`.
#[derive(Debug, Args)]
pub(crate) struct ArtifactPullArgs {
    /// Artifact
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) name: String,
    /// Write files below this directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) output: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Of an index, take the manifest for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `artifact tree`.
#[derive(Debug, Args)]
pub(crate) struct ArtifactTreeArgs {
    /// Image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) name: String,
    /// Show only what refers to the image with this artifact type
    #[arg(long, value_name = "TYPE")]
    pub(crate) artifact_type: Option<String>,
    /// Of an index, take the manifest for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}
