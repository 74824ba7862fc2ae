//! `lock` and `fetch`.

use serde_json::json;

use crate::operations::{
    self, BuildRequest, ContextLocation, Error, FetchReport, FetchRequest, FetchedImage, Interrupt,
    Kind, LockChange, LockMode, LockReport, LockRequest, Refresh,
};

use super::args::{DockerfileArgs, FetchArgs, LockArgs, SecretArgs};
use super::build::{dockerfile, interruptible, named_contexts, platforms, reference};
use super::output::{Format, from_template, print, print_bytes, print_template};
use super::render::Table;
use super::{Context, settings, steps};

/// Makes or refreshes a lock file.
pub(super) async fn lock(context: &Context, args: LockArgs) -> Result<(), Error> {
    let location = ContextLocation::main(&args.context)?;
    let mut build = request(context, location, &args.dockerfile, &args.secrets)?;
    build.platforms = platforms(&args.platform)?;
    build.lock_file = args.lock_file;
    let refresh = match args.update {
        None => Refresh::Nothing,
        Some(names) if names.is_empty() => Refresh::All,
        Some(names) => Refresh::Names(names),
    };
    let mode = if args.check { LockMode::Check } else { LockMode::Write };
    let request = LockRequest { build, refresh, mode };
    let interrupt = Interrupt::default();
    let operation = operations::lock(&context.session, request, &interrupt);
    let report = interruptible(Box::pin(operation), &interrupt).await?;
    context.progress.finish();
    match args.format.format() {
        Format::Table => print_bytes(table(&report, mode).as_bytes())?,
        Format::Json => print(&value(&report, mode).to_string())?,
        Format::Template(template) => {
            print(&from_template(&template, &value(&report, mode))?)?;
        }
    }
    let is_drift = mode == LockMode::Check && report.has_drifted;
    if is_drift { Err(Error::new(Kind::Reported, "the lock file has drifted")) } else { Ok(()) }
}

/// Brings what builds need into the store.
pub(super) async fn fetch(context: &Context, args: FetchArgs) -> Result<(), Error> {
    let names = args.images.iter().map(|name| reference(name));
    let images = names.collect::<Result<Vec<_>, _>>()?;
    // Who names images means these alone, unless a Dockerfile is named as well.
    let build = if images.is_empty() || args.dockerfile.file.is_some() {
        let location = ContextLocation::main(".".as_ref())?;
        let request = request(context, location, &args.dockerfile, &args.secrets)?;
        Some(BuildRequest { lock_file: args.lock.lock_file, locked: args.lock.locked, ..request })
    } else {
        None
    };
    let request = FetchRequest { build, images, platforms: platforms(&args.platform)? };
    let interrupt = Interrupt::default();
    let operation = operations::fetch(&context.session, request, &interrupt);
    let report = interruptible(Box::pin(operation), &interrupt).await?;
    context.progress.finish();
    let rows: Vec<serde_json::Value> = report.images.iter().map(fetched).collect();
    match args.format.format() {
        Format::Json => rows.iter().try_for_each(|row| print(&row.to_string())),
        Format::Template(template) => print_template(&template, &rows, "ID"),
        Format::Table => {
            context.session.note(summary(&report));
            report.images.iter().try_for_each(|image| {
                let name = image.name.repository.familiar();
                let tag = image.name.tag.as_ref().map(|tag| format!(":{tag}"));
                let (tag, digest) = (tag.unwrap_or_default(), &image.digest);
                print(&format!("{name}{tag}@{digest} {}", image.platform))
            })
        }
    }
}

fn fetched(image: &FetchedImage) -> serde_json::Value {
    json!({
        "Name": image.name.familiar(),
        "Platform": image.platform.to_string(),
        "Digest": image.digest,
        "LayersFetched": image.fetched,
        "LayersThere": image.already_there,
    })
}

fn summary(report: &FetchReport) -> String {
    let fetched: usize = report.images.iter().map(|image| image.fetched).sum();
    let there: usize = report.images.iter().map(|image| image.already_there).sum();
    let others = match report.others {
        0 => String::new(),
        count => format!("; {count} files and repositories"),
    };
    format!("fetched: {fetched} layers fetched, {there} already there{others}")
}

/// Returns the request to look at a Dockerfile.
pub(super) fn request(
    context: &Context,
    location: ContextLocation,
    args: &DockerfileArgs,
    secrets: &SecretArgs,
) -> Result<BuildRequest, Error> {
    Ok(BuildRequest {
        named_contexts: named_contexts(&args.build_context)?,
        dockerfile: dockerfile(args.file.as_deref(), &location)?,
        build_args: settings::build_args(&args.build_arg_file, &args.build_arg)?,
        target: args.target.clone(),
        secrets: steps::secrets(&context.session, &secrets.secret)?,
        agents: steps::agents(&secrets.ssh)?,
        ..BuildRequest::new(location)
    })
}

/// Returns the changes as lines, and what the file is then.
fn table(report: &LockReport, mode: LockMode) -> String {
    let mut table = Table::new(&["CHANGE", "NAME", "OLD", "NEW"]);
    for change in &report.changes {
        let name = match &change.platform {
            Some(platform) => format!("{} ({platform})", change.name),
            None => change.name.clone(),
        };
        let shown = |id: &Option<String>| id.as_deref().map_or_else(|| "-".to_owned(), short);
        table.row(vec![word(change).to_owned(), name, shown(&change.old), shown(&change.new)]);
    }
    let (path, count) = (report.path.display(), report.count);
    let plural = if count == 1 { "entry" } else { "entries" };
    let state = match (report.has_drifted, mode) {
        (false, _) => "is up to date",
        (true, LockMode::Write) => "is written",
        (true, LockMode::Check) => "is out of date",
    };
    let rows = if report.changes.is_empty() { String::new() } else { table.render() };
    format!("{rows}`{path}` {state}: {count} {plural}\n")
}

fn word(change: &LockChange) -> &'static str {
    match (&change.old, &change.new) {
        (None, _) => "added",
        (Some(_), Some(_)) => "updated",
        (Some(_), None) => "removed",
    }
}

/// Returns a digest or commit in few characters that still can be searched for.
fn short(id: &str) -> String {
    const SHOWN: usize = 12;
    match id.split_once(':') {
        Some((algorithm, hex)) => format!("{algorithm}:{}", hex.get(..SHOWN).unwrap_or(hex)),
        None => id.get(..SHOWN).unwrap_or(id).to_owned(),
    }
}

fn value(report: &LockReport, mode: LockMode) -> serde_json::Value {
    let change = |change: &LockChange| {
        json!({
            "Change": word(change),
            "Name": change.name,
            "Platform": change.platform,
            "Old": change.old,
            "New": change.new,
        })
    };
    json!({
        "LockFile": report.path,
        "Entries": report.count,
        "Changes": report.changes.iter().map(change).collect::<Vec<_>>(),
        "Written": report.has_drifted && mode == LockMode::Write,
        "UpToDate": !report.has_drifted,
    })
}
