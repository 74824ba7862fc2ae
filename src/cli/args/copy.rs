//! Flags of `copy`, `save` and `load`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{ConversionArgs, FormatArgs};

/// Flags of `copy`.
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// Image: NAME in a registry, store:NAME, oci:DIR[:TAG], or oci-archive:, docker-archive: or
    /// bundle:FILE[:NAME]
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// Where to, as there; several are filled by reading once
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

/// Flags of `save`.
#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// Images of the store, names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Write what docker loads, an OCI archive, an OCI layout in a directory, or a bundle
    #[arg(long, value_name = "FORM", value_enum, default_value = "docker-archive")]
    pub(crate) format: SavedForm,
    /// Of an index, save the images for these platforms [default: all; in docker-archive this
    /// machine's]
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,
}

/// The value of `--format` of `save`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SavedForm {
    /// What `docker save` writes.
    DockerArchive,
    /// An OCI layout in a tar.
    OciArchive,
    /// An OCI layout in a directory.
    #[value(alias = "oci-dir")]
    Oci,
    /// A bundle.
    Bundle,
}

/// Flags of `load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Read this file or layout instead of standard input
    #[arg(short, long, value_name = "PATH")]
    pub(crate) input: Option<PathBuf>,
    /// Of an index, load the images for these platforms [default: all]
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,
}
