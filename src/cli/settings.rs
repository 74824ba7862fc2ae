//! Settings from flags, environment and files. The only place that reads the environment.

#![expect(clippy::disallowed_methods, reason = "this is where the environment is read")]

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

use crate::event::Sink;
use crate::image::Platform;
use crate::operations::{
    Error, GitSettings, Kind, Locations, LoginFile, Reachable, RegistryToken, RetryPolicy, Secret,
    Session, SessionSettings, TokenSource,
};

use super::args::{CredentialArgs, Global};
use super::hosts::host_settings;
use super::login::registry;
use super::prune::size;

/// Returns the value of an environment variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns the path that an environment variable holds.
pub(super) fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Returns `$XDG_..._HOME`, or its default below the home directory (XDG Base Directory).
pub(super) fn xdg(name: &str, below_home: &str) -> Option<PathBuf> {
    path(name).filter(|path| path.is_absolute()).or_else(|| Some(path("HOME")?.join(below_home)))
}

/// Opens what every operation works with.
pub(crate) fn session(global: &Global, sink: Arc<dyn Sink>) -> Result<Session, Error> {
    let settings = SessionSettings {
        store: store_root(global)?,
        credentials: locations(global, global.credentials.src_authfile.as_ref())?,
        push_credentials: match &global.credentials {
            CredentialArgs { src_authfile: None, dest_authfile: None, .. } => None,
            given => Some(locations(global, given.dest_authfile.as_ref())?),
        },
        hosts: host_settings(&global.network)?,
        user_agent_prefix: global.network.user_agent_prefix.clone(),
        ca_files: global.network.ca_file.clone(),
        retry: retry(global),
        concurrency: global.network.concurrency,
        bytes_per_second: limit_rate(global)?,
        reachable: if global.network.offline { Reachable::Nobody } else { Reachable::All },
        git: git(),
    };
    Session::open(settings, sink)
}

/// Returns when to try again.
fn retry(global: &Global) -> RetryPolicy {
    let (given, default) = (&global.network, RetryPolicy::default());
    let first_delay = given.retry_delay.unwrap_or(default.first_delay);
    RetryPolicy {
        attempts: given.retry_times.map_or(default.attempts, |times| times.saturating_add(1)),
        first_delay,
        longest_delay: default.longest_delay.max(first_delay),
        max_wait: given.max_wait.unwrap_or(default.max_wait),
        idle_timeout: given.idle_timeout.unwrap_or(default.idle_timeout),
    }
}

/// Returns the most bytes that may move in a second.
fn limit_rate(global: &Global) -> Result<Option<NonZeroU64>, Error> {
    let Some(text) = &global.network.limit_rate else { return Ok(None) };
    let invalid = || Error::new(Kind::Settings, format!("invalid `--limit-rate {text}`"));
    let bytes = size(text).map_err(|error| invalid().because(error))?;
    let rate = NonZeroU64::new(bytes).ok_or_else(|| invalid().hint("give at least one byte"))?;
    Ok(Some(rate))
}

/// Returns what `git` may know of the environment: where programs are, the proxies, which
/// authorities the system trusts. Nothing that makes it read files or run programs.
fn git() -> GitSettings {
    const PASSED_ON: [&str; 11] = [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "TMPDIR",
    ];
    let variables = PASSED_ON.into_iter().filter_map(|name| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
        Some((name.to_owned(), value))
    });
    GitSettings {
        search_path: std::env::var_os("PATH"),
        environment: variables.collect(),
        ..GitSettings::default()
    }
}

fn store_root(global: &Global) -> Result<PathBuf, Error> {
    if let Some(root) = &global.store {
        return Ok(root.clone());
    }
    let data = xdg("XDG_DATA_HOME", ".local/share").ok_or_else(|| {
        Error::new(Kind::Settings, "no place for the store: neither XDG_DATA_HOME nor HOME is set")
            .hint("name a directory with `--store` or RPUB_STORE")
    })?;
    Ok(data.join("rpub"))
}

/// The variable with tokens for registries: `HOST=TOKEN`, several of them with spaces between.
const TOKENS: &str = "RPUB_REGISTRY_TOKEN";

/// Returns where logins are looked for: in the file that was named for the purpose, in the one that
/// was named for all, or in all the usual places.
fn locations(global: &Global, own_file: Option<&PathBuf>) -> Result<Locations, Error> {
    let only = own_file.or(global.credentials.authfile.as_ref());
    Ok(Locations {
        tokens: registry_tokens(&global.credentials.registry_token_file)?,
        only: only.cloned().map(LoginFile::containers),
        environment: variable("DOCKER_AUTH_CONFIG").map(Secret::new),
        auth_files: auth_files(),
        docker_config: docker_config(),
        legacy_docker_config: path("HOME").map(|home| home.join(".dockercfg")),
        ..Locations::default()
    })
}

fn registry_tokens(files: &[String]) -> Result<Vec<RegistryToken>, Error> {
    let mut tokens = Vec::new();
    for text in files {
        let invalid = || invalid(&format!("`--registry-token-file {text}` is not HOST=FILE"));
        let (host, file) = text.split_once('=').ok_or_else(invalid)?;
        let source = TokenSource::File(PathBuf::from(file));
        tokens.push(RegistryToken { registry: registry(host)?, source });
    }
    let given = variable(TOKENS).map(Secret::new);
    for text in given.iter().flat_map(|text| text.expose().split_whitespace()) {
        // What is not of that form may be a token, so it is not shown.
        let invalid = || {
            invalid(&format!("{TOKENS} is not HOST=TOKEN"))
                .hint("the token is only sent to the registry that is named before it")
        };
        let (host, token) = text.split_once('=').ok_or_else(invalid)?;
        let registry = registry(host).map_err(|_| invalid())?;
        let source = TokenSource::Environment(TOKENS.to_owned(), Secret::new(token.to_owned()));
        tokens.push(RegistryToken { registry, source });
    }
    Ok(tokens)
}

fn auth_files() -> Vec<PathBuf> {
    // Where there is no runtime directory, the containers tools use this one.
    let runtime = path("XDG_RUNTIME_DIR").map_or_else(
        || PathBuf::from(format!("/run/containers/{}/auth.json", rustix::process::getuid())),
        |runtime| runtime.join("containers/auth.json"),
    );
    let config = xdg("XDG_CONFIG_HOME", ".config").map(|c| c.join("containers/auth.json"));
    path("REGISTRY_AUTH_FILE").into_iter().chain([runtime]).chain(config).collect()
}

fn docker_config() -> Option<PathBuf> {
    let directory = path("DOCKER_CONFIG").or_else(|| Some(path("HOME")?.join(".docker")))?;
    Some(directory.join("config.json"))
}

/// The date of reproducible builds: a build argument that the environment gives as well, as in
/// buildx.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Returns the value of a variable that holds a secret; it may be anything but absent.
pub(crate) fn secret(name: &str) -> Option<Arc<secrecy::SecretSlice<u8>>> {
    use std::os::unix::ffi::OsStringExt as _;
    let is_name = !name.is_empty() && !name.contains(['=', '\0']);
    let value = is_name.then(|| std::env::var_os(name)).flatten()?;
    Some(Arc::new(secrecy::SecretSlice::from(value.into_vec())))
}

/// Returns where the user's ssh agent listens.
pub(crate) fn agent_socket() -> Option<PathBuf> {
    path("SSH_AUTH_SOCK")
}

/// Returns the build arguments: those of the environment, of the files, and those given, each over
/// the ones before. Each is `NAME=value`, or `NAME` alone, whose value is the environment's.
pub(crate) fn build_args(
    files: &[PathBuf],
    given: &[String],
) -> Result<BTreeMap<String, String>, Error> {
    let mut args = BTreeMap::new();
    if let Some(epoch) = variable(EPOCH) {
        args.insert(EPOCH.to_owned(), epoch);
    }
    for path in files {
        let text = fs_err::read_to_string(path).map_err(|error| {
            Error::new(Kind::Settings, "failed to read the `--build-arg-file`").because(error)
        })?;
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            add_build_arg(&mut args, line)
                .map_err(|what| invalid(&format!("{}:{number}: {what}", path.display())))?;
        }
    }
    for text in given {
        add_build_arg(&mut args, text)
            .map_err(|what| invalid(&format!("invalid `--build-arg {text}`: {what}")))?;
    }
    Ok(args)
}

fn invalid(message: &str) -> Error {
    Error::new(Kind::Settings, message.to_owned())
}

fn add_build_arg(args: &mut BTreeMap<String, String>, text: &str) -> Result<(), &'static str> {
    match text.split_once('=') {
        Some(("", _)) => return Err("it has no name"),
        Some((name, value)) => {
            args.insert(name.to_owned(), value.to_owned());
        }
        // An argument that is set nowhere counts as not given, as in docker.
        None => {
            if let Ok(value) = std::env::var(text) {
                args.insert(text.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// Returns what `--platform` means; none without one.
pub(crate) fn platform_given(given: Option<&str>) -> Result<Option<Platform>, Error> {
    given.map(|text| platform(Some(text))).transpose()
}

/// Returns what `--platform` means; this machine's without one.
pub(crate) fn platform(given: Option<&str>) -> Result<Platform, Error> {
    let Some(text) = given else { return Ok(Platform::host()) };
    if text.contains(',') {
        let message = "several platforms at once are not supported by this version of rpub";
        return Err(Error::new(Kind::Settings, message).hint("build one platform at a time"));
    }
    text.parse().map_err(|error: crate::image::Error| {
        Error::new(Kind::Settings, "invalid `--platform`").because(error)
    })
}

/// Returns the variables that a mirror file may name.
pub(crate) fn variables() -> BTreeMap<String, String> {
    let texts = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.collect()
}

/// Which of several parts the scheduler that runs this wants done.
pub(crate) struct ScheduledShard {
    /// The part, from 1.
    pub(crate) index: Option<String>,
    /// Of how many.
    pub(crate) count: Option<String>,
}

/// Returns what the scheduler says: GitLab and others by `CI_NODE_INDEX`, which counts from 1, a
/// Kubernetes Indexed Job by `JOB_COMPLETION_INDEX`, which counts from 0.
pub(crate) fn shard() -> ScheduledShard {
    let completion = variable("JOB_COMPLETION_INDEX").map(|text| match text.parse::<u32>() {
        Ok(index) => index.saturating_add(1).to_string(),
        Err(_) => text,
    });
    let index = completion.or_else(|| variable("CI_NODE_INDEX"));
    ScheduledShard { index, count: variable("CI_NODE_TOTAL") }
}

/// Turns on the developers' log when `RPUB_LOG` asks for it, as in `RPUB_LOG=rpub=debug`.
pub(crate) fn start_log() {
    if let Some(filter) = variable("RPUB_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(filter);
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        log.init();
    }
}
