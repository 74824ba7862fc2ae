//! Flags of the `index` family.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::edit::{EditMannerArgs, Prefer};
use super::{EditArgs, FormatArgs};

/// The `index` family.
#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    /// Make an index of images, which may be in other registries
    Create(IndexCreateArgs),
    /// Add images to an index
    Add(IndexAddArgs),
    /// Take images out of an index
    #[command(visible_alias = "remove")]
    Rm(IndexRmArgs),
    /// Annotate an index or its entries
    Annotate(IndexAnnotateArgs),
    /// Show an index
    Inspect(IndexInspectArgs),
}

/// Flags of `index create`.
#[derive(Debug, Args)]
pub(crate) struct IndexCreateArgs {
    /// Images and indexes, or descriptors in JSON
    #[arg(value_name = "SOURCE")]
    pub(crate) sources: Vec<String>,
    /// Read a source from a file: a reference, or a descriptor in JSON (repeatable)
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Add to what the name stands for, if anything
    #[arg(long)]
    pub(crate) append: bool,
    /// Annotate the index or its entries (repeatable)
    #[arg(
        short,
        long = "annotation",
        value_name = "[index|manifest-descriptor[PLATFORM]:]KEY=VALUE"
    )]
    pub(crate) annotations: Vec<String>,
    /// Make an index of a single image, too
    #[arg(
        long,
        value_name = "BOOL",
        value_enum,
        default_value = "true",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub(crate) prefer_index: Prefer,
    /// Write the result's descriptor to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) edit: EditArgs,
}

/// Flags of `index add`.
#[derive(Debug, Args)]
pub(crate) struct IndexAddArgs {
    /// Index to add to
    #[arg(value_name = "INDEX[:TAG|@DIGEST]")]
    pub(crate) index: String,
    /// Images and indexes, or descriptors in JSON; they replace those for the same platform
    #[arg(value_name = "SOURCE", required = true)]
    pub(crate) sources: Vec<String>,
    /// Annotate the index or its entries (repeatable)
    #[arg(
        short,
        long = "annotation",
        value_name = "[index|manifest-descriptor[PLATFORM]:]KEY=VALUE"
    )]
    pub(crate) annotations: Vec<String>,
    #[command(flatten)]
    pub(crate) edit: EditArgs,
}

/// Flags of `index rm`.
#[derive(Debug, Args)]
pub(crate) struct IndexRmArgs {
    /// Index to take images out of
    #[arg(value_name = "INDEX[:TAG|@DIGEST]")]
    pub(crate) index: String,
    /// What to take out, with the attestations about it
    #[arg(value_name = "PLATFORM|DIGEST", required = true)]
    pub(crate) entries: Vec<String>,
    #[command(flatten)]
    pub(crate) edit: IndexEditArgs,
}

/// Flags of `index annotate`.
#[derive(Debug, Args)]
pub(crate) struct IndexAnnotateArgs {
    /// Index to annotate
    #[arg(value_name = "INDEX[:TAG|@DIGEST]")]
    pub(crate) index: String,
    /// Annotations
    #[arg(value_name = "[index|manifest-descriptor[PLATFORM|DIGEST]:]KEY=VALUE")]
    pub(crate) notes: Vec<String>,
    /// Set an annotation (repeatable)
    #[arg(
        short,
        long = "annotation",
        value_name = "[index|manifest-descriptor[PLATFORM|DIGEST]:]KEY=VALUE"
    )]
    pub(crate) annotations: Vec<String>,
    /// Remove an annotation (repeatable)
    #[arg(
        long = "unset-annotation",
        value_name = "[index|manifest-descriptor[PLATFORM|DIGEST]:]KEY"
    )]
    pub(crate) unset: Vec<String>,
    #[command(flatten)]
    pub(crate) edit: IndexEditArgs,
}

/// Where the result of an edit of an index itself goes.
#[derive(Debug, Args)]
pub(crate) struct IndexEditArgs {
    /// Give the result this name and leave the index as it is [default: edit in place] (repeatable)
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    pub(crate) tags: Vec<String>,
    #[command(flatten)]
    pub(crate) manner: EditMannerArgs,
}

/// Flags of `index inspect`.
#[derive(Debug, Args)]
pub(crate) struct IndexInspectArgs {
    /// Image or index, oci:DIR[:TAG] for one of an image layout
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) image: String,
    /// Print the exact bytes
    #[arg(long, conflicts_with = "format")]
    pub(crate) raw: bool,
    /// Look into the store instead of a registry
    #[arg(long)]
    pub(crate) local: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}
