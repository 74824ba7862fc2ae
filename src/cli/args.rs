//! The command line: names and flags as docker has them where docker has them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::render::ProgressMode;

/// Builds container images rootlessly, publishes only what the registry lacks, and serves images.
#[derive(Debug, Parser)]
#[command(
    name = "rpub",
    version,
    about,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
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
    /// Keep images, layers and the build cache in this directory
    /// [default: `$XDG_DATA_HOME/rpub`]
    #[arg(long, global = true, value_name = "DIR", env = "RPUB_STORE")]
    pub(crate) store: Option<PathBuf>,
    /// How to show progress
    #[arg(
        long,
        global = true,
        value_name = "MODE",
        value_enum,
        default_value = "auto",
        env = "BUILDKIT_PROGRESS",
        hide_possible_values = false
    )]
    pub(crate) progress: ProgressMode,
    /// Show no progress; print only the result
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Allow plain HTTP and unverified TLS for this registry (repeatable)
    #[arg(
        long,
        global = true,
        value_name = "HOST",
        env = "RPUB_INSECURE_REGISTRIES",
        value_delimiter = ','
    )]
    pub(crate) insecure_registry: Vec<String>,
    /// Also trust the certificate authorities in this PEM file (repeatable)
    #[arg(long, global = true, value_name = "FILE", env = "RPUB_CA_FILE")]
    pub(crate) ca_file: Vec<PathBuf>,
    /// Read mirrors and insecure registries from this file
    /// [default: the containers tools' places]
    #[arg(long, global = true, value_name = "FILE", env = "CONTAINERS_REGISTRIES_CONF")]
    pub(crate) registries_conf: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(BuildArgs),
    /// Build an image and push it to every tag given
    #[command(name = "build-push")]
    BuildPush(BuildArgs),
    /// Push an image from the store to its registry
    Push(PushArgs),
    /// Pull an image into the store
    Pull(PullArgs),
    /// List images
    Images(ImagesArgs),
    /// Work with images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Give an image another name
    Tag(TagArgs),
    /// Remove names and images
    Rmi(RmiArgs),
    /// Show everything about an image
    Inspect(InspectArgs),
    /// Show what made each layer of an image
    History(HistoryArgs),
    /// Make an image from a root file system tar or directory
    Import(ImportArgs),
    /// Log in to a registry
    Login(LoginArgs),
    /// Log out of a registry
    Logout(LogoutArgs),
    /// Serve the store as a registry
    Serve(ServeArgs),
    /// Print a shell completion script
    Completion(CompletionArgs),
    /// Print the version
    Version(FormatArgs),
}

/// The `image` family.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Build an image from a Dockerfile
    Build(BuildArgs),
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
}

/// When to ask the registry for a base image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PullWhen {
    /// Always ask whether the tag has moved
    #[value(alias = "true")]
    Always,
    /// Ask only for what the store lacks
    #[value(alias = "false")]
    Missing,
    /// Never ask
    Never,
}

/// Flags of `build` and `build-push`.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// The build context: a directory
    #[arg(value_name = "PATH", default_value = ".")]
    pub(crate) context: PathBuf,
    /// Name the result `name[:tag]` (repeatable)
    #[arg(short, long = "tag", value_name = "NAME")]
    pub(crate) tags: Vec<String>,
    /// Read the Dockerfile from here, or from standard input with `-`
    /// [default: `PATH/Dockerfile`]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Set a build argument; without a value it is taken from the environment (repeatable)
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// Stop at this stage
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Build for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", env = "DOCKER_DEFAULT_PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Add a label to the image (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Use no cached result (they are still recorded)
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// When to ask the registry for base images; `--pull` alone means `always`
    #[arg(
        long,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_value = "missing",
        default_missing_value = "always",
        hide_possible_values = true
    )]
    pub(crate) pull: PullWhen,
    /// Network of RUN steps: `default`, `host` or `none`
    #[arg(long, value_name = "MODE", default_value = "default")]
    pub(crate) network: String,
    /// Write the image id (the config's digest) to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write the result's digests to this file as JSON, with buildx's keys
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Push after the build (as `build-push` does)
    #[arg(long)]
    pub(crate) push: bool,
}

/// Flags of `push`.
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The images to push
    #[arg(value_name = "NAME[:TAG]", required = true)]
    pub(crate) images: Vec<String>,
}

/// Flags of `pull`.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// The images to pull
    #[arg(value_name = "NAME[:TAG|@DIGEST]", required = true)]
    pub(crate) images: Vec<String>,
    /// Pull for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", env = "DOCKER_DEFAULT_PLATFORM")]
    pub(crate) platform: Option<String>,
}

/// Flags of `images`.
#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Show only images of this repository, or of this name and tag
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) filter: Option<String>,
    /// Show all images, also those without a name that a newer build replaced
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Show manifest digests
    #[arg(long)]
    pub(crate) digests: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// How to print a result.
#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// Print `table`, `json`, or a template such as `{{.Repository}}:{{.Tag}}`
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// Flags of `tag`.
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// The image: a name or an id
    #[arg(value_name = "IMAGE")]
    pub(crate) source: String,
    /// Its further names
    #[arg(value_name = "NAME[:TAG]", required = true)]
    pub(crate) targets: Vec<String>,
}

/// Flags of `rmi`.
#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// The images: names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Remove an id with all its names
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Flags of `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The images: names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

/// Flags of `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The image: a name or an id
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
    /// A tar (of any compression), a directory, or `-` for standard input
    #[arg(value_name = "PATH|-")]
    pub(crate) source: PathBuf,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: Option<String>,
    /// Apply a Dockerfile instruction to the config, as in `CMD ["sh"]` (repeatable)
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// Note in the image's history
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// The platform that the files are for
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
}

/// Flags of `login`.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub(crate) registry: String,
    /// User name
    #[arg(short, long)]
    pub(crate) username: Option<String>,
    /// Password or token; other users of the machine can see it: prefer `--password-stdin`
    #[arg(short, long, conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Store the credentials without asking the registry whether they are right
    #[arg(long)]
    pub(crate) no_verify: bool,
}

/// Flags of `logout`.
#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub(crate) registry: String,
}

/// Flags of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Listen on this address; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    pub(crate) listen: String,
    /// Keep what is pushed under this registry name
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    pub(crate) name: String,
    /// Refuse every change
    #[arg(long)]
    pub(crate) read_only: bool,
}

/// Flags of `completion`.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}
