//! Flags of `build` and `build-push`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::StepArgs;

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

/// Flags about what earlier builds made.
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// Look results up there: a repository, or type=registry,ref=... or type=local,src=... (repeatable)
    #[arg(long, value_name = "PLACE")]
    pub(crate) cache_from: Vec<String>,
    /// Keep results there: type=registry,ref=..., type=local,dest=... or type=inline; with mode=max of
    /// all stages (repeatable)
    #[arg(long, value_name = "PLACE")]
    pub(crate) cache_to: Vec<String>,
    /// Say of each step that runs what differs from the nearest earlier result
    #[arg(long)]
    pub(crate) explain: bool,
}

/// Flags that say which Dockerfile is meant, and how it is read.
#[derive(Debug, Args)]
pub(crate) struct DockerfileArgs {
    // Not a comment of documentation, in which the prefixes would be bare links.
    #[arg(
        long,
        value_name = "NAME=PLACE",
        help = "Add a context for FROM and COPY --from: a directory, docker-image://REFERENCE, \
                oci-layout://DIRECTORY[:TAG|@DIGEST], a git or http(s) URL (repeatable)"
    )]
    pub(crate) build_context: Vec<OsString>,
    /// Read this Dockerfile, a URL, or - for standard input [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE|URL|-")]
    pub(crate) file: Option<PathBuf>,
    /// Set a build argument, from the environment if it has no value (repeatable)
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// Read build arguments from this file, a line each; --build-arg wins (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) build_arg_file: Vec<PathBuf>,
    /// Stop at this stage
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
}

/// Flags about what is taken by digest.
#[derive(Debug, Args)]
pub(crate) struct LockedArgs {
    /// Take bases by the digests in this file [default: rpub.lock beside the Dockerfile]
    #[arg(long, value_name = "FILE")]
    pub(crate) lock_file: Option<PathBuf>,
    /// Fail when a base, URL or repository is not in the lock file
    #[arg(long)]
    pub(crate) locked: bool,
}

/// Flags of `build` and `build-push`.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Build context: a directory, - for a tar or Dockerfile on standard input, a git or http(s) URL
    #[arg(value_name = "PATH|URL|-", default_value = ".")]
    pub(crate) context: OsString,
    /// Name the image, with the tag latest unless one is given (repeatable)
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    pub(crate) tags: Vec<String>,
    #[command(flatten)]
    pub(crate) dockerfile: DockerfileArgs,
    #[command(flatten)]
    pub(crate) lock: LockedArgs,
    /// Build for these platforms, separated by commas [default: this machine's]
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        value_delimiter = ',',
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env_values = true
    )]
    pub(crate) platform: Vec<String>,
    /// Add a label to the image (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Run every step, though its result is in the cache
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Run every step of this stage, though its result is in the cache (repeatable)
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    /// Ask the registry for base images always (--pull alone), if missing, or never
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
    /// Give RUN steps this network: default (the host's), host or none
    #[arg(long, value_name = "MODE", default_value = "default")]
    pub(crate) network: String,
    /// Add a line to /etc/hosts of RUN steps; host-gateway means this machine (repeatable)
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) add_host: Vec<String>,
    /// Let the Dockerfile use network.host or security.insecure (repeatable)
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub(crate) allow: Vec<String>,
    #[command(flatten)]
    pub(crate) steps: StepArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Check the Dockerfile and build nothing, as --call=check does
    #[arg(long, conflicts_with = "call")]
    pub(crate) check: bool,
    /// Answer instead of building: check, outline, targets or subrequests.describe, and ,format=json
    #[arg(long, value_name = "METHOD")]
    pub(crate) call: Option<String>,
    /// Push as well, as build-push does
    #[arg(long)]
    pub(crate) push: bool,
}

/// Flags that say what becomes of the result.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    #[arg(
        short,
        long = "output",
        value_name = "DEST|SPEC",
        help = "Write the result as well or instead: a directory, - for a tar on standard output, or \
                type=local|tar|oci|docker|image|registry[,dest=PATH][,KEY=VALUE...] (repeatable)"
    )]
    pub(crate) outputs: Vec<String>,
    /// Keep the image in the store though there are other outputs
    #[arg(long)]
    pub(crate) load: bool,
    /// Add an annotation; TYPE is manifest, index, manifest-descriptor or index-descriptor
    #[arg(long, value_name = "[TYPE[PLATFORM]:]NAME=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Make one layer of all that the steps made
    #[arg(long)]
    pub(crate) squash: bool,
    /// Make the same image of the same input, on any machine at any time
    #[arg(long)]
    pub(crate) reproducible: bool,
    /// Write the image id to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write names and digests to this file as JSON, with buildx's keys
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
}
