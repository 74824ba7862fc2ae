//! `build` and `build-push`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{IsTerminal as _, Read};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::image::{Platform, Reference};
use crate::operations::{
    self, Allowed, BuildReport, BuildRequest, BuiltImage, ContextLocation, Delivery,
    DockerfileSource, Error, Explain, Interrupt, Kind, Network, Output, PullPolicy, Shells,
    Traffic,
};

use super::args::{BuildArgs, OutputArgs, PullWhen};
use super::call::Call;
use super::output::{print, write_file};
use super::render::bytes;
use super::shell::TerminalShells;
use super::{Context, settings, steps};

/// Builds, and pushes when `--push` or an output says so.
pub(super) async fn build(context: &Context, args: BuildArgs) -> Result<(), Error> {
    if let Some(call) = Call::of(&args)? {
        return answer(context, args, call).await;
    }
    let push = args.push;
    run(context, args, push).await
}

/// Builds and pushes to every name.
pub(super) async fn build_push(context: &Context, args: BuildArgs) -> Result<(), Error> {
    if let Some(call) = Call::of(&args)? {
        return answer(context, args, call).await;
    }
    let has_name = |output: &String| output.contains("name=");
    if args.tags.is_empty() && !args.output.outputs.iter().any(has_name) {
        return Err(Error::new(Kind::Settings, "nothing to push to: `build-push` needs a name")
            .hint("name the image with `-t registry/repository:tag`"));
    }
    run(context, args, true).await
}

/// Answers a question about the Dockerfile.
async fn answer(context: &Context, args: BuildArgs, call: Call) -> Result<(), Error> {
    let Some(question) = call.question() else { return call.describe() };
    let request = request(args, false)?;
    let interrupt = Interrupt::default();
    let operation = operations::call(&context.session, request, question, &interrupt);
    let answer = interruptible(Box::pin(operation), &interrupt).await?;
    context.progress.finish();
    call.print(answer)
}

async fn run(context: &Context, args: BuildArgs, push: bool) -> Result<(), Error> {
    let (iidfile, metadata_file) = (args.output.iidfile.clone(), args.output.metadata_file.clone());
    for warning in args.steps.legacy.warnings() {
        context.session.warn(warning);
    }
    let shells = if args.steps.shell_on_error {
        Some(Arc::new(TerminalShells::new(&context.progress)?) as Arc<dyn Shells>)
    } else {
        None
    };
    let secrets = steps::secrets(&context.session, &args.steps.secret)?;
    let request = BuildRequest { secrets, shells, ..request(args, push)? };
    // What goes to standard output is the result then.
    let is_stdout_taken = request.delivery.outputs.iter().any(Output::is_stdout);
    let interrupt = Interrupt::default();
    let operation = operations::build(&context.session, request, &interrupt);
    let report = interruptible(Box::pin(operation), &interrupt).await?;
    if let (Some(path), Some(image)) = (iidfile, &report.image) {
        write_file(&path, image.id().to_string().as_bytes())?;
    }
    if let Some(path) = metadata_file {
        write_file(&path, metadata(&report).as_bytes())?;
    }
    if let Some(traffic) = &report.traffic {
        context.session.note(summary(traffic));
    }
    let found = context.progress.findings();
    if found > 0 {
        let plural = if found == 1 { "" } else { "s" };
        context.session.note(format!("{found} warning{plural} found by checks of the Dockerfile"));
    }
    context.progress.finish();
    if is_stdout_taken { Ok(()) } else { print_result(context, &report) }
}

/// Waits for `operation`; when the user interrupts, asks it to stop, and waits until it has cleaned up.
pub(super) async fn interruptible<T>(
    operation: impl Future<Output = Result<T, Error>>,
    interrupt: &Interrupt,
) -> Result<T, Error> {
    tokio::pin!(operation);
    tokio::select! {
        result = &mut operation => result,
        () = interrupted() => {
            // Steps are killed, uploads broken off; the operation then ends by itself.
            interrupt.request();
            let _ = operation.await;
            Err(Error::new(Kind::Interrupted, "interrupted"))
        }
    }
}

/// Ready when the user presses Ctrl-C or the process is asked to end.
pub(super) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

fn request(args: BuildArgs, push: bool) -> Result<BuildRequest, Error> {
    let network = match args.network.as_str() {
        "default" | "host" => Network::Host,
        "none" => Network::None,
        other => {
            let message = format!("invalid `--network {other}`");
            return Err(Error::new(Kind::Settings, message).hint("use `default`, `host` or `none`"));
        }
    };
    let mut allowed = allowed(&args.allow)?;
    // Who asks for the host's network on the command line trusts the Dockerfile with it, as in buildx.
    allowed.network_host |= args.network == "host";
    let labels = args.label.iter().map(|label| {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        (key.to_owned(), value.to_owned())
    });
    let context = ContextLocation::main(&args.context)?;
    Ok(BuildRequest {
        named_contexts: named_contexts(&args.dockerfile.build_context)?,
        dockerfile: dockerfile(args.dockerfile.file.as_deref(), &context)?,
        names: names(&args.tags)?,
        build_args: settings::build_args(
            &args.dockerfile.build_arg_file,
            &args.dockerfile.build_arg,
        )?,
        target: args.dockerfile.target,
        lock_file: args.lock.lock_file,
        locked: args.lock.locked,
        platforms: platforms(&args.platform)?,
        labels: labels.collect(),
        cache_from: args
            .cache
            .cache_from
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?,
        cache_to: args.cache.cache_to.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
        explain: if args.cache.explain { Explain::Misses } else { Explain::Nothing },
        no_cache: args.no_cache,
        no_cache_stages: args.no_cache_filter,
        pull: match args.pull {
            PullWhen::Always => PullPolicy::Always,
            PullWhen::Missing => PullPolicy::Missing,
            PullWhen::Never => PullPolicy::Never,
        },
        network,
        hosts: hosts(&args.add_host)?,
        allowed,
        secrets: Vec::new(),
        agents: steps::agents(&args.steps.ssh)?,
        shm_bytes: steps::shm_bytes(args.steps.shm_size.as_deref())?,
        limits: steps::limits(&args.steps.ulimit)?,
        shells: None,
        reproducible: args.output.reproducible,
        delivery: delivery(&args.output, push)?,
        context,
    })
}

/// Parses `--platform`.
pub(super) fn platforms(given: &[String]) -> Result<Vec<Platform>, Error> {
    let given = given.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    given
        .map(|text| {
            text.parse().map_err(|error: crate::image::Error| {
                Error::new(Kind::Settings, format!("invalid `--platform {text}`"))
                    .because(error)
                    .hint("write it as `linux/arm64` or `linux/arm/v7`")
            })
        })
        .collect()
}

/// Parses `--allow`.
fn allowed(entitlements: &[String]) -> Result<Allowed, Error> {
    let mut allowed = Allowed::default();
    for entitlement in entitlements {
        match entitlement.as_str() {
            "network.host" => allowed.network_host = true,
            "security.insecure" => allowed.security_insecure = true,
            other => {
                let message = format!("invalid `--allow {other}`");
                return Err(Error::new(Kind::Settings, message)
                    .hint("rpub knows `network.host` and `security.insecure`"));
            }
        }
    }
    Ok(allowed)
}

/// Parses `--add-host`: `host:ip` or `host=ip`, an IPv6 address also in brackets.
fn hosts(given: &[String]) -> Result<Vec<(String, String)>, Error> {
    given.iter().map(|text| host(text)).collect()
}

fn host(text: &str) -> Result<(String, String), Error> {
    let invalid = || {
        let message = format!("invalid `--add-host {text}`");
        Error::new(Kind::Settings, message).hint("write it as `name:address`, as in `db:10.0.0.5`")
    };
    let (name, address) =
        text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(invalid)?;
    let is_name = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '#');
    if address == "host-gateway" && is_name {
        // Steps share the host's network.
        return Ok((name.to_owned(), "127.0.0.1".to_owned()));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address: std::net::IpAddr = bare.unwrap_or(address).parse().map_err(|_| invalid())?;
    if is_name { Ok((name.to_owned(), address.to_string())) } else { Err(invalid()) }
}

/// Reads the values of `--build-context`.
pub(super) fn named_contexts(given: &[OsString]) -> Result<Vec<(String, ContextLocation)>, Error> {
    let read = |text: &OsString| {
        let bytes = text.as_bytes();
        let at = bytes.iter().position(|byte| *byte == b'=').filter(|at| *at > 0);
        let Some(at) = at.filter(|at| at + 1 < bytes.len()) else {
            let message = format!("invalid `--build-context {}`", text.display());
            return Err(Error::new(Kind::Settings, message).hint("write `NAME=PLACE`"));
        };
        let name = String::from_utf8_lossy(&bytes[..at]).into_owned();
        Ok((name, ContextLocation::named(OsStr::from_bytes(&bytes[at + 1..]))?))
    };
    given.iter().map(read).collect()
}

pub(super) fn dockerfile(
    file: Option<&Path>,
    context: &ContextLocation,
) -> Result<DockerfileSource, Error> {
    let Some(path) = file else { return Ok(DockerfileSource::Default) };
    if path == Path::new("-") {
        if *context == ContextLocation::Stdin {
            let message = "invalid argument: can't use stdin for both build context and dockerfile";
            return Err(Error::new(Kind::Settings, message));
        }
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map_err(|error| {
            Error::new(Kind::User, "failed to read the Dockerfile from standard input")
                .because(error)
        })?;
        return Ok(DockerfileSource::Stdin(bytes));
    }
    match path.to_str().filter(|text| ContextLocation::is_url(text)) {
        Some(url) => Ok(DockerfileSource::Url(url.to_owned())),
        None => Ok(DockerfileSource::File(path.to_owned())),
    }
}

/// Parses `-t` values; each name once, `latest` added.
fn names(tags: &[String]) -> Result<Vec<Reference>, Error> {
    let mut names: Vec<Reference> = Vec::new();
    for tag in tags {
        let name = reference(tag)?;
        if name.digest.is_some() {
            let message = format!("invalid name `{tag}`: a digest cannot be chosen");
            return Err(Error::new(Kind::Settings, message));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Parses a reference that the user gave.
pub(super) fn reference(text: &str) -> Result<Reference, Error> {
    Ok(super::names::name(text)?.or_latest())
}

fn delivery(args: &OutputArgs, push: bool) -> Result<Delivery, Error> {
    let outputs = args.outputs.iter().filter(|text| !text.is_empty());
    Ok(Delivery {
        outputs: outputs.map(|text| text.parse()).collect::<Result<_, Error>>()?,
        push,
        load: args.load,
        squash: args.squash,
        annotations: operations::annotations(&args.annotation)?,
        stdout: stdout()?,
    })
}

/// Returns standard output for an output to write to, unless it is a terminal.
fn stdout() -> Result<Option<Arc<File>>, Error> {
    let stdout = std::io::stdout();
    if stdout.is_terminal() {
        return Ok(None);
    }
    let descriptor = stdout.as_fd().try_clone_to_owned().map_err(|error| {
        Error::new(Kind::Internal, "failed to open standard output").because(error)
    })?;
    Ok(Some(Arc::new(File::from(descriptor))))
}

/// Prints `name@digest` for every name that was pushed; without a push, the image's id and names.
/// Files and archives speak for themselves.
fn print_result(context: &Context, report: &BuildReport) -> Result<(), Error> {
    let Some(image) = &report.image else { return Ok(()) };
    if !report.published.is_empty() {
        let digest = &image.descriptor.digest;
        return report.published.iter().try_for_each(|name| match name.digest {
            Some(_) => print(&name.familiar()),
            None => print(&format!("{}@{digest}", name.familiar())),
        });
    }
    let names = image.names.iter().filter(|_| image.is_stored && !context.quiet);
    let words: Vec<String> =
        std::iter::once(image.id().to_string()).chain(names.map(Reference::familiar)).collect();
    print(&words.join(" "))
}

/// Returns the result's digests under buildx's keys. What buildx has no key for, the image of each
/// platform, is under one of rpub's own.
fn metadata(report: &BuildReport) -> String {
    let Some(image) = &report.image else { return "{}\n".to_owned() };
    let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
    let mut value = json!({
        "containerimage.descriptor": image.descriptor,
        "containerimage.digest": image.descriptor.digest,
        "image.name": names.join(","),
    });
    if let [only] = image.images.as_slice() {
        value["containerimage.config.digest"] = json!(only.config.digest);
    } else {
        let platform = |image: &BuiltImage| {
            let digests = json!({
                "containerimage.config.digest": image.config.digest,
                "containerimage.descriptor": image.manifest,
                "containerimage.digest": image.manifest.digest,
            });
            (image.platform.to_string(), digests)
        };
        let platforms: serde_json::Map<_, _> = image.images.iter().map(platform).collect();
        value["rpub.platforms"] = platforms.into();
    }
    format!("{value:#}\n")
}

pub(super) fn summary(traffic: &Traffic) -> String {
    let Traffic { sent, sent_bytes, already_there, mounted, saved_bytes } = *traffic;
    format!(
        "pushed: {sent} sent ({}), {already_there} already there, {mounted} mounted ({} saved)",
        bytes(sent_bytes),
        bytes(saved_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_with_addresses() {
        for (text, name, address) in [
            ("db:10.0.0.5", "db", "10.0.0.5"),
            ("db=10.0.0.5", "db", "10.0.0.5"),
            ("db=[::1]", "db", "::1"),
            ("db:::1", "db", "::1"),
            ("me:host-gateway", "me", "127.0.0.1"),
        ] {
            assert_eq!(host(text).ok(), Some((name.to_owned(), address.to_owned())), "{text}");
        }
        for text in ["db", "db:", ":1.2.3.4", "db:1.2.3", "d b:1.2.3.4", "db:other"] {
            assert!(host(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn entitlements_are_known_words() {
        let given = ["network.host".to_owned(), "security.insecure".to_owned()];
        let allowed = allowed(&given).expect("valid");
        assert!(allowed.network_host && allowed.security_insecure);
        assert!(super::allowed(&["device".to_owned()]).is_err());
    }
}
