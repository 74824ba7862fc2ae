//! Flags of `copy`.

use std::path::PathBuf;

use clap::Args;

use super::{ConversionArgs, FormatArgs};

/// Flags of `copy`.
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// Image: NAME in a registry, store:NAME, or oci:DIR[:TAG]
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// Where to: NAME in a registry, or store:NAME (several are filled by reading once)
    #[arg(value_name = "TARGET", required = true)]
    pub(crate) targets: Vec<String>,
    /// Copy every tag of the source's repository to the targets' repositories
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    #[command(flatten)]
    pub(crate) content: CopyContentArgs,
    #[command(flatten)]
    pub(crate) conversion: ConversionArgs,
    /// Leave tags alone that the targets have
    #[arg(short, long)]
    pub(crate) no_clobber: bool,
    /// Write the digest of what was copied to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) digestfile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags that say what of an image is copied.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct CopyContentArgs {
    /// Copy only these platforms: one gives its image, several a smaller index [default: all]
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,
    /// Keep the index as it is though images of other platforms will be missing
    #[arg(long, requires = "platforms")]
    pub(crate) sparse_index: bool,
    /// Leave signatures, attestations and other referrers behind
    #[arg(long)]
    pub(crate) no_referrers: bool,
    /// Copy only referrers of this artifact type (repeatable)
    #[arg(long = "artifact-type", value_name = "TYPE")]
    pub(crate) artifact_types: Vec<String>,
    /// Leave the tags behind under which cosign keeps signatures (sha256-....sig)
    #[arg(long)]
    pub(crate) no_digest_tags: bool,
    /// Also copy layers that say where else they are, such as those of Windows
    #[arg(long)]
    pub(crate) include_external: bool,
}
