//! `bundle`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::image::Digest;
use crate::operations::{
    self, BundleChange, BundleContent, BundleDifference, BundledImage, Error, InventorySource, Kind,
};

use super::Context;
use super::args::{BundleCommand, BundleDiffArgs, BundleFileArgs, BundleLsArgs};
use super::build::reference;
use super::edit::interruptible;
use super::output::{Format, from_template, print, print_bytes};
use super::render::{Table, bytes};

/// Runs a command of the family.
pub(super) async fn run(context: &Context, command: BundleCommand) -> Result<(), Error> {
    match command {
        BundleCommand::Verify(args) => verify(context, args).await,
        BundleCommand::Ls(args) => list(context, args).await,
        BundleCommand::Diff(args) => diff(context, args).await,
    }
}

/// Returns a name with the digest that it stands for.
fn line(name: &str, digest: &Digest) -> String {
    if name.contains('@') { name.to_owned() } else { format!("{name}@{digest}") }
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
