//! The command line: names and flags as docker has them where docker has them.

mod artifact;
mod auth;
mod build;
mod bundle;
mod copy;
mod edit;
mod index;
mod lock;
mod mirror;
mod network;
mod objects;
mod serve;
mod steps;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::render::ProgressMode;

pub(crate) use artifact::{
    ArtifactAttachArgs, ArtifactCommand, ArtifactContentArgs, ArtifactPullArgs, ArtifactPushArgs,
    ArtifactTreeArgs,
};
pub(crate) use auth::{
    AuthCommand, AuthExplainArgs, AuthTokenArgs, CredentialArgs, LoginArgs, LogoutArgs, WhoamiArgs,
};
pub(crate) use build::{BuildArgs, DockerfileArgs, LockedArgs, OutputArgs, PullWhen};
pub(crate) use bundle::{
    BundleCommand, BundleContentArgs, BundleDiffArgs, BundleFileArgs, BundleLoadArgs, BundleLsArgs,
};
pub(crate) use copy::{CopyArgs, CopyContentArgs, LoadArgs, SaveArgs, SavedForm};
pub(crate) use edit::{
    AppendArgs, ConversionArgs, EditArgs, EditMannerArgs, FlattenArgs, ManifestDiffArgs,
    MutateArgs, Prefer, RebaseArgs, ValidateArgs,
};
pub(crate) use index::{
    IndexAddArgs, IndexAnnotateArgs, IndexCommand, IndexCreateArgs, IndexEditArgs,
    IndexInspectArgs, IndexRmArgs,
};
pub(crate) use lock::{FetchArgs, LockArgs, SecretArgs};
pub(crate) use mirror::{
    MirrorArgs, MirrorCommand, MirrorFamily, MirrorFileArgs, MirrorPlanArgs, MirrorTool,
};
pub(crate) use network::NetworkArgs;
pub(crate) use objects::{
    BlobCommand, BlobGetArgs, BlobHeadArgs, BlobPutArgs, BlobRmArgs, DigestArgs, ManifestCommand,
    ManifestGetArgs, ManifestPutArgs, ManifestRmArgs, NameFilterArgs, PingArgs, ReferrersArgs,
    RepoCommand, RepoLsArgs, SortOrder, TagCommand, TagFamily, TagLsArgs, TagRmArgs,
};
pub(crate) use serve::ServeArgs;
pub(crate) use steps::StepArgs;

/// Builds container images rootlessly, publishes only what the registry lacks, and serves images.
#[derive(Debug, Parser)]
#[command(
    name = "rpub",
    version,
    about,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Keep images, layers and the build cache here [default: ~/.local/share/rpub]
    #[arg(long, global = true, value_name = "DIR", env = "RPUB_STORE", hide_env_values = true)]
    pub(crate) store: Option<PathBuf>,
    /// Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]
    #[arg(
        long,
        global = true,
        value_name = "SIZE",
        env = "RPUB_CACHE_SIZE",
        hide_env_values = true
    )]
    pub(crate) cache_size: Option<String>,
    /// Show progress as auto, tty, plain, quiet or rawjson
    #[arg(
        long,
        global = true,
        value_name = "MODE",
        value_enum,
        default_value = "auto",
        env = "BUILDKIT_PROGRESS",
        hide_env_values = true,
        hide_possible_values = true
    )]
    pub(crate) progress: ProgressMode,
    /// Show no progress, print only the result
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) credentials: CredentialArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Build an image and push it to every tag given
    #[command(name = "build-push")]
    BuildPush(Box<BuildArgs>),
    /// Keep the digests of what a Dockerfile starts from and adds in rpub.lock
    Lock(Box<LockArgs>),
    /// Bring all that a Dockerfile starts from and adds into the store
    Fetch(Box<FetchArgs>),
    /// Push an image from the store to its registry
    Push(PushArgs),
    /// Pull an image into the store
    Pull(PullArgs),
    /// List images
    Images(ImagesArgs),
    /// Work with images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Give an image another name, or list and remove the tags of a registry
    Tag(TagFamily),
    /// Remove names and images
    Rmi(RmiArgs),
    /// Show everything about an image
    Inspect(InspectArgs),
    /// Show what made each layer of an image
    History(HistoryArgs),
    /// Make an image from a root file system tar or directory
    Import(ImportArgs),
    /// Carry images where there is no network: many in one file, each layer once
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Copy an image with all platforms and signatures, between registries and files
    Copy(Box<CopyArgs>),
    /// Bring images of many registries where a file says, and only what has changed
    Mirror(Box<MirrorFamily>),
    /// Write images of the store to a file, as docker save does
    Save(SaveArgs),
    /// Read the images of a file into the store, as docker load does
    Load(LoadArgs),
    /// Make and edit indexes, which hold the images of several platforms under one name
    #[command(subcommand)]
    Index(IndexCommand),
    /// Change labels, environment, annotations, times or format of an image in a registry
    Mutate(Box<MutateArgs>),
    /// Put layers on an image in a registry
    Append(AppendArgs),
    /// Make one layer of all layers of an image in a registry
    Flatten(FlattenArgs),
    /// Put an image in a registry on another base, or see whether it should be
    Rebase(RebaseArgs),
    /// Read an image whole and hash everything again
    Validate(ValidateArgs),
    /// Show what the store takes on disk
    Df(DfArgs),
    /// Remove what only makes later builds faster, and images without a name
    Prune(PruneArgs),
    /// Look after the store
    #[command(subcommand)]
    System(SystemCommand),
    /// Look after the build cache
    #[command(subcommand)]
    Builder(BuilderCommand),
    /// Log in to a registry
    Login(LoginArgs),
    /// Log out of a registry
    Logout(LogoutArgs),
    /// Show who is logged in to a registry
    Whoami(WhoamiArgs),
    /// See which credentials open a repository, or get a token
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Print the digest of an image in its registry
    Digest(DigestArgs),
    /// Work with the manifests of a registry
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Work with the blobs of a registry
    #[command(subcommand)]
    Blob(BlobCommand),
    /// Work with the repositories of a registry
    #[command(subcommand)]
    Repo(RepoCommand),
    /// List what refers to an image: signatures, attestations and other artifacts
    Referrers(ReferrersArgs),
    /// Say whether a registry answers, how, and what it wants to see
    Ping(PingArgs),
    /// Move files as artifacts, and attach them to images
    #[command(subcommand)]
    Artifact(ArtifactCommand),
    /// Serve the store as a registry
    Serve(ServeArgs),
    /// Print a shell completion script
    Completion(CompletionArgs),
    /// Print the version
    Version(FormatArgs),
}

impl Command {
    /// Returns whether the command runs a Dockerfile's steps.
    pub(crate) fn builds(&self) -> bool {
        matches!(self, Self::Build(_) | Self::BuildPush(_) | Self::Image(ImageCommand::Build(_)))
    }

    /// Returns whether the command takes the store's lock by itself, when it needs it.
    pub(crate) fn holds_store_itself(&self) -> bool {
        matches!(
            self,
            Self::Serve(_)
                | Self::Rmi(_)
                | Self::Image(ImageCommand::Rm(_))
                | Self::Prune(_)
                | Self::System(SystemCommand::Prune(_))
                | Self::Builder(BuilderCommand::Prune(_))
        )
    }
}

/// The `image` family.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// List images
    #[command(visible_alias = "list")]
    Ls(ImagesArgs),
    /// Pull an image into the store
    Pull(PullArgs),
    /// Push an image from the store to its registry
    Push(PushArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Remove names and images
    #[command(visible_alias = "remove")]
    Rm(RmiArgs),
    /// Show everything about an image
    Inspect(InspectArgs),
    /// Show what made each layer of an image
    History(HistoryArgs),
    /// Make an image from a root file system tar or directory
    Import(ImportArgs),
    /// Write images of the store to a file, as docker save does
    Save(SaveArgs),
    /// Read the images of a file into the store, as docker load does
    Load(LoadArgs),
}

/// The `system` family.
#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Show what the store takes on disk
    Df(DfArgs),
    /// Remove what only makes later builds faster, and images without a name
    Prune(PruneArgs),
}

/// The `builder` family.
#[derive(Debug, Subcommand)]
pub(crate) enum BuilderCommand {
    /// Remove what only makes later builds faster, and images without a name
    Prune(PruneArgs),
}

/// Flags of `df`.
#[derive(Debug, Args)]
pub(crate) struct DfArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Also remove what named images could be built faster with
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Remove only what was not used for some time: until=24h
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    pub(crate) filters: Vec<String>,
    /// Keep what was used last, up to this size: 10GB
    #[arg(long, visible_alias = "keep-storage", value_name = "SIZE")]
    pub(crate) max_used_space: Option<String>,
    /// Only show what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Flags of `push`.
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// Images to push
    #[arg(value_name = "NAME[:TAG]", required = true)]
    pub(crate) images: Vec<String>,
    /// Also push layers that say where else they are, such as those of Windows
    #[arg(long)]
    pub(crate) include_external: bool,
}

/// Flags of `pull`.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Images to pull
    #[arg(value_name = "NAME[:TAG|@DIGEST]", required = true)]
    pub(crate) images: Vec<String>,
    /// Pull for this platform [default: this machine's]
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env_values = true
    )]
    pub(crate) platform: Option<String>,
}

/// Flags of `images`.
#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Show only images with this name, which may have wildcards
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) name: Option<String>,
    /// Show all images (rpub hides none)
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Show manifest digests
    #[arg(long)]
    pub(crate) digests: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Show only images with dangling=BOOL or reference=PATTERN (repeatable)
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    pub(crate) filters: Vec<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// How to print a result.
#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// Print json, the template given, or with table before it a table: 'table {{.ID}}'
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// Flags of `tag`.
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// Image, a name or an id
    #[arg(value_name = "IMAGE")]
    pub(crate) source: String,
    /// Further names
    #[arg(value_name = "NAME[:TAG]", required = true)]
    pub(crate) targets: Vec<String>,
}

/// Flags of `rmi`.
#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// Images, names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Remove an image given by its id though it has several names
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Flags of `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Images, names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Image, a name or an id
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Do not shorten ids and instructions
    #[arg(long)]
    pub(crate) no_trunc: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// A tar, compressed or not, a directory, or - for standard input
    #[arg(value_name = "PATH|-")]
    pub(crate) source: PathBuf,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: Option<String>,
    /// Apply a Dockerfile instruction such as 'CMD sh' (repeatable)
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// Keep this comment in the image's history
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Platform that the files are for [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
}

/// Flags of `completion`.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// Shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}
