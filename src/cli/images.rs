//! `images`, `tag`, `rmi`, `inspect` and `history`.

use serde_json::{Value, json};

use crate::image::{Digest, Reference};
use crate::operations::{self, Error, ImageDetails, Kind, ListedImage, Removed};

use super::Context;
use super::args::{HistoryArgs, ImagesArgs, InspectArgs, RmiArgs, TagArgs};
use super::build::reference;
use super::filter::Filter;
use super::output::{Format, from_template, print, print_bytes, print_template};
use super::render::{Table, age, bytes};

/// Lists images.
pub(super) async fn list(context: &Context, args: ImagesArgs) -> Result<(), Error> {
    let filter = Filter::new(args.name.as_deref(), &args.filters)?;
    let mut images = operations::list(&context.session).await?;
    images.retain(|image| filter.has(image.name.as_ref()));
    if context.quiet {
        let mut ids: Vec<String> = Vec::new();
        for image in &images {
            let id = shown_id(&image.id, args.no_trunc);
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        return ids.iter().try_for_each(|id| print(id));
    }
    match args.format.format() {
        Format::Table => print_bytes(table(&images, &args).as_bytes()),
        Format::Json => {
            images.iter().try_for_each(|image| print(&row(image, args.no_trunc).to_string()))
        }
        Format::Template(template) => {
            let rows = images.iter().map(|image| row(image, args.no_trunc));
            print_template(&template, &rows.collect::<Vec<_>>(), "IMAGE ID")
        }
    }
}

fn table(images: &[ListedImage], args: &ImagesArgs) -> String {
    let mut header = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    if args.digests {
        header.insert(2, "DIGEST");
    }
    let mut table = Table::new(&header);
    for image in images {
        let row = row(image, args.no_trunc);
        let cell = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let mut cells =
            vec![cell("Repository"), cell("Tag"), cell("ID"), cell("CreatedSince"), cell("Size")];
        if args.digests {
            cells.insert(2, cell("Digest"));
        }
        table.row(cells);
    }
    table.render()
}

/// Returns an image's fields under docker's names.
fn row(image: &ListedImage, no_trunc: bool) -> Value {
    const NONE: &str = "<none>";
    let repository = image.name.as_ref().map(|name| name.repository.familiar());
    let tag = image.name.as_ref().and_then(|name| name.tag.as_ref()).map(ToString::to_string);
    json!({
        "Repository": repository.unwrap_or_else(|| NONE.to_owned()),
        "Tag": tag.unwrap_or_else(|| NONE.to_owned()),
        "Digest": image.digest,
        "ID": shown_id(&image.id, no_trunc),
        "CreatedAt": image.created.as_deref().unwrap_or("N/A"),
        "CreatedSince": image.created.as_deref().map_or_else(|| "N/A".to_owned(), since),
        "Size": bytes(image.size_bytes),
    })
}

fn shown_id(id: &Digest, no_trunc: bool) -> String {
    if no_trunc { id.to_string() } else { id.short().to_owned() }
}

/// Returns how long ago an RFC 3339 time was; dates before 1981 are somebody's placeholder.
fn since(created: &str) -> String {
    const PLACEHOLDERS_UNTIL: i64 = 10 * 365 * 86400;
    match created.parse::<jiff::Timestamp>() {
        Ok(time) if time.as_second() > PLACEHOLDERS_UNTIL => {
            age(jiff::Timestamp::now().as_second() - time.as_second())
        }
        _ => "N/A".to_owned(),
    }
}

/// Gives an image further names.
pub(super) async fn tag(context: &Context, args: TagArgs) -> Result<(), Error> {
    let targets: Result<Vec<Reference>, Error> =
        args.targets.iter().map(|target| reference(target)).collect();
    operations::tag(&context.session, &args.source, targets?).await
}

/// Removes names and images; goes on after a failure, and says each.
pub(super) async fn remove(context: &Context, args: RmiArgs) -> Result<(), Error> {
    // Taken first: what is removed cannot be asked for its id.
    let listed = operations::list(&context.session).await?;
    let total = args.images.len();
    let mut failed = 0;
    for image in &args.images {
        match operations::remove(&context.session, image, args.force).await {
            Ok(removed) => {
                for removed in removed {
                    print(&removed_line(&removed, &listed))?;
                }
            }
            Err(error) if total == 1 => return Err(error),
            Err(error) => {
                failed += 1;
                anstream::eprint!("{}", super::render::error(&error));
            }
        }
    }
    let freed = operations::collect_garbage(&context.session).await?;
    if freed > 0 {
        context.session.note(format!("freed {}", bytes(freed)));
    }
    if failed == 0 {
        return Ok(());
    }
    Err(Error::new(Kind::Partial, format!("{failed} of {total} images were not removed")))
}

/// Returns docker's line, which names an image as `images` lists it.
fn removed_line(removed: &Removed, listed: &[ListedImage]) -> String {
    match removed {
        Removed::Untagged(name) => format!("Untagged: {}", name.familiar()),
        Removed::Deleted(digest) => {
            let image = listed.iter().find(|image| image.digest == *digest);
            format!("Deleted: {}", image.map_or(digest, |image| &image.id))
        }
    }
}

/// Shows everything about images.
pub(super) async fn inspect(context: &Context, args: InspectArgs) -> Result<(), Error> {
    let mut all = Vec::new();
    for image in &args.images {
        all.push(details(&operations::inspect(&context.session, image).await?));
    }
    match args.format.format() {
        Format::Table => print(&format!("{:#}", Value::Array(all))),
        Format::Json => print(&Value::Array(all).to_string()),
        Format::Template(template) => {
            all.iter().try_for_each(|image| print(&from_template(&template, image)?))
        }
    }
}

/// Returns an image under the keys of `docker image inspect`.
fn details(image: &ImageDetails) -> Value {
    let tags: Vec<String> = image.names.iter().map(Reference::familiar).collect();
    let mut digests: Vec<String> = image
        .names
        .iter()
        .map(|name| format!("{}@{}", name.repository.familiar(), image.manifest.digest))
        .collect();
    digests.dedup();
    let config = &image.config;
    let mut details = json!({
        "Id": image.id,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": image.size_bytes,
        "Config": config.config,
        "RootFS": {
            "Type": config.rootfs.kind,
            "Layers": config.rootfs.diff_ids,
        },
        "Descriptor": image.manifest,
        "Layers": image.layers,
    });
    // Only where there is one, as docker does.
    if let Some(variant) = &config.variant {
        details["Variant"] = json!(variant);
    }
    details
}

/// Shows what made each layer, the newest first.
pub(super) async fn history(context: &Context, args: HistoryArgs) -> Result<(), Error> {
    let image = operations::inspect(&context.session, &args.image).await?;
    let rows = history_rows(&image, args.no_trunc);
    if context.quiet {
        return rows.iter().try_for_each(|row| print(row["ID"].as_str().unwrap_or_default()));
    }
    match args.format.format() {
        Format::Table => {
            let mut table = Table::new(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
            for row in &rows {
                let cell = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
                table
                    .row(["ID", "CreatedSince", "CreatedBy", "Size", "Comment"].map(cell).to_vec());
            }
            print_bytes(table.render().as_bytes())
        }
        Format::Json => rows.iter().try_for_each(|row| print(&row.to_string())),
        Format::Template(template) => print_template(&template, &rows, "IMAGE"),
    }
}

fn history_rows(image: &ImageDetails, no_trunc: bool) -> Vec<Value> {
    let mut layers = image.layers.iter();
    let mut rows: Vec<Value> = Vec::new();
    for entry in &image.config.history {
        let size = if entry.empty_layer { 0 } else { layers.next().map_or(0, |layer| layer.size) };
        let created_by = entry.created_by.clone().unwrap_or_default();
        rows.push(json!({
            "ID": "<missing>",
            "CreatedAt": entry.created,
            "CreatedSince": entry.created.as_deref().map_or_else(|| "N/A".to_owned(), since),
            "CreatedBy": if no_trunc { created_by } else { shorten(&created_by) },
            "Size": bytes(size),
            "Comment": entry.comment.clone().unwrap_or_default(),
        }));
    }
    rows.reverse();
    if let Some(first) = rows.first_mut() {
        first["ID"] = json!(shown_id(&image.id, no_trunc));
    }
    rows
}

/// Cuts a text to the 45 characters that docker shows.
fn shorten(text: &str) -> String {
    const SHOWN: usize = 45;
    let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if one_line.chars().count() <= SHOWN {
        return one_line;
    }
    let start: String = one_line.chars().take(SHOWN - 1).collect();
    format!("{start}…")
}
