//! Flags of what edits images where they are.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::FormatArgs;

/// Where an edit's result goes.
#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    /// Give the result this name and leave the image as it is [default: edit in place] (repeatable)
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    pub(crate) tags: Vec<String>,
    /// Of an index, take only the images for this platform (repeatable)
    #[arg(short, long = "platform", value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,
    #[command(flatten)]
    pub(crate) manner: EditMannerArgs,
}

/// How an edit is done, and how its result is told.
#[derive(Debug, Args)]
pub(crate) struct EditMannerArgs {
    /// Work on what is in the store instead of a registry
    #[arg(long)]
    pub(crate) local: bool,
    /// Print the manifest that would be made, and push nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `mutate`.
#[derive(Debug, Args)]
pub(crate) struct MutateArgs {
    /// Image or index to change
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) image: String,
    /// Set a label (repeatable)
    #[arg(short, long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<String>,
    /// Remove a label (repeatable)
    #[arg(long = "unset-label", value_name = "KEY")]
    pub(crate) unset_labels: Vec<String>,
    /// Set an environment variable (repeatable)
    #[arg(short, long = "env", value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// Remove an environment variable (repeatable)
    #[arg(long, value_name = "KEY")]
    pub(crate) unset_env: Vec<String>,
    /// Set the entry point, as WORD,WORD or a JSON list, and remove the command; empty for none
    #[arg(long, value_name = "WORDS")]
    pub(crate) entrypoint: Option<String>,
    /// Set the command, as WORD,WORD or a JSON list; empty for none
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub(crate) cmd: Option<String>,
    /// Set the user; empty for none
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Set the working directory; empty for none
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Expose a port (repeatable)
    #[arg(long, value_name = "PORT[/PROTOCOL]", visible_alias = "expose", value_delimiter = ',')]
    pub(crate) exposed_ports: Vec<String>,
    /// Expose a port no longer (repeatable)
    #[arg(long = "unset-port", value_name = "PORT[/PROTOCOL]")]
    pub(crate) unset_ports: Vec<String>,
    /// Declare a volume (repeatable)
    #[arg(long = "volume", value_name = "DIR")]
    pub(crate) volumes: Vec<String>,
    /// Declare a volume no longer (repeatable)
    #[arg(long = "unset-volume", value_name = "DIR")]
    pub(crate) unset_volumes: Vec<String>,
    /// Annotate the manifest, or with TYPE index, manifest-descriptor or both (repeatable)
    #[arg(short, long = "annotation", value_name = "[TYPE[PLATFORM]:]KEY=VALUE")]
    pub(crate) annotations: Vec<String>,
    /// Remove an annotation of the manifest (repeatable)
    #[arg(long = "unset-annotation", value_name = "KEY")]
    pub(crate) unset_annotations: Vec<String>,
    /// Say that the image is for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) set_platform: Option<String>,
    /// Date image and history: seconds since 1970, or as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) time: Option<String>,
    /// Also let no file in the layers be newer than --time
    #[arg(long, requires = "time")]
    pub(crate) rewrite_timestamp: bool,
    #[command(flatten)]
    pub(crate) conversion: ConversionArgs,
    /// Push the result to this repository, by digest alone
    #[arg(long, value_name = "REPOSITORY", conflicts_with = "tags")]
    pub(crate) repo: Option<String>,
    #[command(flatten)]
    pub(crate) edit: EditArgs,
}

/// Flags that ask for another form of the same content.
#[derive(Debug, Args)]
pub(crate) struct ConversionArgs {
    /// Change Docker's media types to OCI's
    #[arg(long, conflicts_with = "to_docker")]
    pub(crate) to_oci: bool,
    /// Change OCI's media types to Docker's
    #[arg(long)]
    pub(crate) to_docker: bool,
    /// Compress layers by gzip, zstd, or not at all (uncompressed) [default: as they are]
    #[arg(long, value_name = "KIND")]
    pub(crate) compression: Option<String>,
    /// Compress them at this level
    #[arg(long, value_name = "N", requires = "compression")]
    pub(crate) compression_level: Option<String>,
}

/// Flags of `append`.
#[derive(Debug, Args)]
pub(crate) struct AppendArgs {
    /// Append this layer, a tar of any compression; - for standard input (repeatable)
    #[arg(short = 'f', long = "new-layer", visible_alias = "new_layer", value_name = "FILE")]
    pub(crate) layers: Vec<PathBuf>,
    /// More layers
    #[arg(value_name = "FILE")]
    pub(crate) more: Vec<PathBuf>,
    /// Append to this image or index [default: an image of nothing]
    #[arg(short, long, value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) base: Option<String>,
    /// Annotate the result with name and digest of its base
    #[arg(long, requires = "base")]
    pub(crate) set_base_image_annotations: bool,
    /// Date the new layers, in seconds since 1970 or as 2026-01-31T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME", env = "SOURCE_DATE_EPOCH", hide_env_values = true)]
    pub(crate) time: Option<String>,
    #[command(flatten)]
    pub(crate) edit: EditArgs,
}

/// Flags of `flatten`.
#[derive(Debug, Args)]
pub(crate) struct FlattenArgs {
    /// Image or index to flatten
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) image: String,
    /// Date image and layer, in seconds since 1970 or as 2026-01-31T12:00:00Z [default: the image's]
    #[arg(long, value_name = "TIME", env = "SOURCE_DATE_EPOCH", hide_env_values = true)]
    pub(crate) time: Option<String>,
    #[command(flatten)]
    pub(crate) edit: EditArgs,
}

/// Flags of `rebase`.
#[derive(Debug, Args)]
pub(crate) struct RebaseArgs {
    /// Image or index to rebase
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) image: String,
    /// Base that the image was made of [default: what its annotations say]
    #[arg(long = "old_base", visible_alias = "old-base", value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) old_base: Option<String>,
    /// Base that the image gets [default: what the old base's name stands for now]
    #[arg(long = "new_base", visible_alias = "new-base", value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) new_base: Option<String>,
    /// Only say whether the base has moved on; exit with 1 if it has
    #[arg(long)]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) edit: EditArgs,
}

/// What `--prefer-index` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Prefer {
    /// A single image becomes an index of one.
    True,
    /// A single image stays one.
    False,
}

/// Flags of `validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Images and indexes, oci:DIR[:TAG] for those of image layouts
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) images: Vec<String>,
    /// Do not read layers: see only that they are there, with the right size
    #[arg(long)]
    pub(crate) fast: bool,
    /// Look into the store; without names, at all of it
    #[arg(long)]
    pub(crate) local: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `manifest diff`.
#[derive(Debug, Args)]
pub(crate) struct ManifestDiffArgs {
    /// Manifest or index, oci:DIR[:TAG] for one of an image layout
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) before: String,
    /// The other one
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) after: String,
    /// Compare the configs too
    #[arg(long)]
    pub(crate) config: bool,
    /// Of indexes, compare the manifests for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// Look into the store instead of a registry
    #[arg(long)]
    pub(crate) local: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}
