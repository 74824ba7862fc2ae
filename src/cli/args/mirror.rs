//! Flags of the `mirror` family.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::FormatArgs;

/// `mirror`: the run, and the family of the same name.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct MirrorFamily {
    #[command(subcommand)]
    pub(crate) command: Option<MirrorCommand>,
    #[command(flatten)]
    pub(crate) args: MirrorArgs,
}

/// The `mirror` family.
#[derive(Debug, Subcommand)]
pub(crate) enum MirrorCommand {
    /// Show what a run would copy, move and cost of quotas
    Plan(MirrorPlanArgs),
    /// Print a file of skopeo's or regsync's in rpub's words
    Convert(MirrorFileArgs),
    /// Print the JSON schema of mirror files
    Schema,
}

/// Which file says what to mirror.
#[derive(Debug, Args)]
pub(crate) struct MirrorFileArgs {
    /// Mirror file, in TOML or YAML; - for standard input
    #[arg(value_name = "FILE|-")]
    pub(crate) file: PathBuf,
    /// Read the file in the words of this tool [default: found out]
    #[arg(long, value_name = "TOOL", value_enum)]
    pub(crate) from: Option<MirrorTool>,
    /// Where images go by a file that does not say it (repeatable)
    #[arg(long, value_name = "REFERENCE")]
    pub(crate) to: Vec<String>,
}

/// The value of `--from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MirrorTool {
    /// rpub's own format
    Rpub,
    /// skopeo sync --src yaml
    Skopeo,
    /// regsync
    Regsync,
    /// Lines of a reference and its digest, as --digest-file writes them
    Digests,
}

/// Flags of `mirror`.
#[derive(Debug, Args)]
pub(crate) struct MirrorArgs {
    // An option, because subcommands have none; the parser wants it without them.
    /// Mirror file, in TOML or YAML; - for standard input
    #[arg(value_name = "FILE|-", required = true)]
    pub(crate) file: Option<PathBuf>,
    /// Read the file in the words of this tool [default: found out]
    #[arg(long, value_name = "TOOL", value_enum)]
    pub(crate) from: Option<MirrorTool>,
    /// Where images go by a file that does not say it (repeatable)
    #[arg(long, value_name = "REFERENCE")]
    pub(crate) to: Vec<String>,
    /// Do the part INDEX of COUNT, from 1; auto takes both from the environment, auto/COUNT the index
    #[arg(long, value_name = "INDEX/COUNT", env = "RPUB_SHARD", hide_env_values = true)]
    pub(crate) shard: Option<String>,
    /// Only show what would be done, as `rpub mirror plan`
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Remove the tags that rules with delete = "extra" do not copy
    #[arg(long)]
    pub(crate) delete: bool,
    /// Also ask about immutable tags, and what refers to images that have not changed
    #[arg(long)]
    pub(crate) recheck: bool,
    /// Write a line REFERENCE DIGEST for each image to this file; JSON when it ends in .json
    #[arg(long, visible_alias = "digestfile", value_name = "FILE")]
    pub(crate) digest_file: Option<PathBuf>,
    /// Write what became of each image to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `mirror plan`.
#[derive(Debug, Args)]
pub(crate) struct MirrorPlanArgs {
    #[command(flatten)]
    pub(crate) file: MirrorFileArgs,
    /// Look at the part INDEX of COUNT
    #[arg(long, value_name = "INDEX/COUNT", env = "RPUB_SHARD", hide_env_values = true)]
    pub(crate) shard: Option<String>,
    /// Also read manifests that count against a quota; they are kept, and the run needs them no more
    #[arg(long)]
    pub(crate) exact: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}
