//! `bundle`.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::image::Digest;
use crate::operations::{
    self, BundleChange, BundleContent, BundleDestination, BundleDifference, BundleReport,
    BundleRequest, BundleSource, BundledImage, Error, InventorySource, Kind, LoadReport,
    LoadRequest, LoadTo, NameMap,
};

use super::Context;
use super::args::{
    BundleCommand, BundleContentArgs, BundleDiffArgs, BundleFileArgs, BundleLoadArgs, BundleLsArgs,
};
use super::build::reference;
use super::copy::{all_or_partial, source, summary};
use super::edit::interruptible;
use super::output::{Format, from_template, print, print_bytes};
use super::render::{Table, bytes};

/// Most of a list of images that is read.
const MAX_LIST_BYTES: u64 = 16 << 20;

/// Runs a command of the family.
pub(super) async fn run(context: &Context, command: BundleCommand) -> Result<(), Error> {
    match command {
        BundleCommand::Create(args) => {
            fill(context, BundleDestination::New(args.output), args.what).await
        }
        BundleCommand::Add(args) => {
            fill(context, BundleDestination::Existing(args.bundle), args.what).await
        }
        BundleCommand::Load(args) => load(context, args).await,
        BundleCommand::Verify(args) => verify(context, args).await,
        BundleCommand::Ls(args) => list(context, args).await,
        BundleCommand::Diff(args) => diff(context, args).await,
    }
}

async fn fill(
    context: &Context,
    destination: BundleDestination,
    args: BundleContentArgs,
) -> Result<(), Error> {
    let (BundleDestination::New(path) | BundleDestination::Existing(path)) = destination.clone();
    let inventory = match args.delta_from.clone().map(InventorySource::Path) {
        Some(source) => Some(operations::take_inventory(&context.session, &source).await?),
        None => None,
    };
    let request = BundleRequest {
        destination,
        sources: sources(&args)?,
        options: args.content.options()?,
        inventory,
    };
    let filled = operations::fill_bundle(&context.session, request);
    let report = interruptible(Box::pin(filled)).await?;
    context.session.note(summary(&report.traffic));
    context.progress.finish();
    print_filled(&path, &report, &args.format.format())?;
    let total = report.images.len() + report.failures.len();
    let hint = "what was written is kept: run the same command again to go on";
    all_or_partial(report.failures, total, "images").map_err(|error| error.hint(hint))
}

/// Returns the images that flags name.
fn sources(args: &BundleContentArgs) -> Result<Vec<BundleSource>, Error> {
    let mut sources = Vec::new();
    for image in &args.images {
        sources.push(bundle_source(image)?);
    }
    for path in &args.files {
        for (at, line) in read_list(path)?.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            sources.push(bundle_source(line).map_err(|error| {
                error.about(format!("failed to read line {} of `{}`", at + 1, path.display()))
            })?);
        }
    }
    sources.extend(args.locks.iter().cloned().map(BundleSource::Lock));
    Ok(sources)
}

/// Reads `[NAME=]IMAGE`.
fn bundle_source(text: &str) -> Result<BundleSource, Error> {
    let (name, image) = match text.split_once('=') {
        Some((name, image)) => (Some(reference(name)?), image),
        None => (None, text),
    };
    Ok(BundleSource::Image { source: source(image)?, name })
}

fn read_list(path: &Path) -> Result<String, Error> {
    let failed = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => Kind::NotFound,
            _ => Kind::User,
        };
        Error::new(kind, format!("failed to read the list `{}`", path.display())).because(error)
    };
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().take(MAX_LIST_BYTES).read_to_string(&mut text).map_err(failed)?;
    } else {
        let file = fs_err::File::open(path).map_err(failed)?;
        file.take(MAX_LIST_BYTES).read_to_string(&mut text).map_err(failed)?;
    }
    Ok(text)
}

fn print_filled(path: &Path, report: &BundleReport, format: &Format) -> Result<(), Error> {
    let rows: Vec<Value> = report
        .images
        .iter()
        .map(|(name, copied)| {
            json!({
                "name": name.familiar(),
                "digest": copied.manifest.digest,
                "mediaType": copied.manifest.media_type,
                "platforms": copied.platforms.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "referrers": copied.referrers,
                "digestTags": copied.digest_tags,
                "sentBytes": copied.traffic().sent_bytes,
            })
        })
        .collect();
    match format {
        Format::Table => report
            .images
            .iter()
            .try_for_each(|(name, it)| print(&line(&name.familiar(), &it.manifest.digest))),
        Format::Json => {
            let path = path.display().to_string();
            print(&json!({ "file": path, "images": rows }).to_string())
        }
        Format::Template(template) => {
            rows.iter().try_for_each(|row| print(&from_template(template, row)?))
        }
    }
}

/// Returns a name with the digest that it stands for.
fn line(name: &str, digest: &Digest) -> String {
    if name.contains('@') { name.to_owned() } else { format!("{name}@{digest}") }
}

async fn load(context: &Context, args: BundleLoadArgs) -> Result<(), Error> {
    let rules = args.maps.iter().map(|text| text.parse()).collect::<Result<_, Error>>()?;
    let request = LoadRequest {
        path: args.bundle,
        images: args.images,
        to: if args.to.is_some() { LoadTo::Registries } else { LoadTo::Store },
        names: NameMap { rules, to: args.to },
    };
    let loaded = operations::load_bundle(&context.session, request);
    let report = interruptible(Box::pin(loaded)).await?;
    context.session.note(summary(&report.traffic));
    context.progress.finish();
    print_loaded(&report, &args.format.format())?;
    let total = report.images.len() + report.failures.len();
    let hint = "run the same command again to go on with what is missing";
    all_or_partial(report.failures, total, "images").map_err(|error| error.hint(hint))
}

fn print_loaded(report: &LoadReport, format: &Format) -> Result<(), Error> {
    for image in &report.images {
        let copied = &image.copied;
        let row = json!({
            "from": image.from.familiar(),
            "name": image.to.familiar(),
            "digest": copied.manifest.digest,
            "referrers": copied.referrers,
            "sentBytes": copied.traffic().sent_bytes,
        });
        match format {
            Format::Table => print(&line(&image.to.familiar(), &copied.manifest.digest))?,
            Format::Json => print(&row.to_string())?,
            Format::Template(template) => print(&from_template(template, &row)?)?,
        }
    }
    Ok(())
}

async fn verify(context: &Context, args: BundleFileArgs) -> Result<(), Error> {
    let found = operations::verify_bundle(args.bundle.clone());
    let found = interruptible(Box::pin(found)).await?;
    context.progress.finish();
    if found.is_interrupted {
        warn_interrupted(context, &args.bundle);
    }
    let left_out = match found.left_out {
        0 => String::new(),
        count => format!(", {count} blobs left out"),
    };
    let state = if found.faults.is_empty() { "is whole" } else { "is damaged" };
    let mut text = format!(
        "{} {state}: {} images, {} blobs ({}){left_out}",
        args.bundle.display(),
        found.images,
        found.blobs,
        bytes(found.bytes)
    );
    for fault in &found.faults {
        text.push_str("\n  ");
        text.push_str(fault);
    }
    let value = json!({
        "file": args.bundle.display().to_string(),
        "images": found.images,
        "blobs": found.blobs,
        "bytes": found.bytes,
        "leftOut": found.left_out,
        "interrupted": found.is_interrupted,
        "faults": found.faults,
    });
    args.format.print(&text, &value)?;
    match found.faults.len() {
        0 => Ok(()),
        count => Err(Error::new(Kind::Integrity, format!("the bundle has {count} faults"))
            .hint("copy it again from where it is whole")),
    }
}

fn warn_interrupted(context: &Context, path: &Path) {
    context.session.warn(format!(
        "an addition to `{}` was not finished: run the same `rpub bundle add` again",
        path.display()
    ));
}

async fn list(context: &Context, args: BundleLsArgs) -> Result<(), Error> {
    if args.inventory {
        let source = inventory_source(&args.bundle);
        let taken = operations::take_inventory(&context.session, &source);
        let inventory = interruptible(Box::pin(taken)).await?;
        context.progress.finish();
        return print(&inventory.to_json());
    }
    let path = PathBuf::from(&args.bundle);
    let content = operations::list_bundle(path.clone()).await?;
    if content.is_interrupted {
        warn_interrupted(context, &path);
    }
    context.progress.finish();
    match args.format.format() {
        Format::Table => print_bytes(table(&content).as_bytes()),
        Format::Json => print(&value(&content).to_string()),
        Format::Template(template) => content
            .images
            .iter()
            .try_for_each(|image| print(&from_template(&template, &image_value(image))?)),
    }
}

/// Reads of what an inventory is taken: the store, a file or directory, or a repository.
fn inventory_source(text: &str) -> InventorySource {
    if text == "store:" {
        return InventorySource::Store;
    }
    if Path::new(text).exists() {
        return InventorySource::Path(text.into());
    }
    let name = text.strip_prefix("docker://").unwrap_or(text);
    match reference(name) {
        Ok(name) => InventorySource::Repository(name.repository),
        Err(_) => InventorySource::Path(text.into()),
    }
}

fn table(content: &BundleContent) -> String {
    let mut table = Table::new(&["NAME", "DIGEST", "PLATFORMS", "REFERRERS", "SIZE"]);
    for image in &content.images {
        table.row(vec![
            image.name.clone().unwrap_or_else(|| "<none>".to_owned()),
            image.descriptor.digest.short().to_owned(),
            if image.platforms.is_empty() { "-".to_owned() } else { image.platforms.join(",") },
            image.referrers.to_string(),
            bytes(image.size_bytes),
        ]);
    }
    let mut text = table.render();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{} blobs, {}", content.blobs, bytes(content.bytes));
    if let Some(against) = &content.against {
        let (count, size) = (content.left_out, bytes(content.left_out_bytes));
        let _ = writeln!(text, "left out: {count} blobs, {size}, which {against} has");
    }
    text
}

fn image_value(image: &BundledImage) -> Value {
    json!({
        "name": image.name,
        "digest": image.descriptor.digest,
        "mediaType": image.descriptor.media_type,
        "platforms": image.platforms,
        "referrers": image.referrers,
        "size": image.size_bytes,
    })
}

fn value(content: &BundleContent) -> Value {
    json!({
        "images": content.images.iter().map(image_value).collect::<Vec<_>>(),
        "blobs": content.blobs,
        "bytes": content.bytes,
        "against": content.against,
        "leftOut": content.left_out,
        "leftOutBytes": content.left_out_bytes,
        "interrupted": content.is_interrupted,
    })
}

async fn diff(context: &Context, args: BundleDiffArgs) -> Result<(), Error> {
    let found = operations::compare_bundles(args.before, args.after).await?;
    context.progress.finish();
    let change =
        |it: &BundleChange| json!({ "name": it.name, "before": it.before, "after": it.after });
    let value = json!({
        "changes": found.changes.iter().map(change).collect::<Vec<_>>(),
        "same": found.same,
        "addedBlobs": found.added_blobs,
        "addedBytes": found.added_bytes,
        "removedBlobs": found.removed_blobs,
        "removedBytes": found.removed_bytes,
    });
    args.format.print(&difference(&found), &value)
}

fn difference(found: &BundleDifference) -> String {
    let mut lines = Vec::new();
    for BundleChange { name, before, after } in &found.changes {
        lines.push(match (before, after) {
            (None, Some(after)) => format!("+ {}", line(name, after)),
            (Some(before), None) => format!("- {}", line(name, before)),
            (Some(before), Some(after)) => {
                format!("~ {name} {} -> {}", before.short(), after.short())
            }
            (None, None) => continue,
        });
    }
    lines.push(format!(
        "{} names are the same; blobs: {} more ({}), {} fewer ({})",
        found.same,
        found.added_blobs,
        bytes(found.added_bytes),
        found.removed_blobs,
        bytes(found.removed_bytes)
    ));
    lines.join("\n")
}
