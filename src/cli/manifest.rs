//! `manifest`, `digest` and `referrers`.

use std::io::Read as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::image::{Descriptor, MAX_MANIFEST_BYTES, Reference, Tag};
use crate::operations::{self, Error, Kind, ManifestToPut, ReferrersSource};

use super::args::{
    DigestArgs, ManifestCommand, ManifestGetArgs, ManifestPutArgs, ManifestRmArgs, ReferrersArgs,
};
use super::names::{each_of, name};
use super::output::{Format, from_template, print, print_bytes, print_template};
use super::render::{Table, bytes};
use super::{Context, manifest_diff, settings};

/// `manifest` and what is below it.
pub(super) async fn manifest(context: &Context, command: ManifestCommand) -> Result<(), Error> {
    match command {
        ManifestCommand::Get(args) => get(context, args).await,
        ManifestCommand::Head(args) => head(context, args).await,
        ManifestCommand::Put(args) => put(context, args).await,
        ManifestCommand::Diff(args) => manifest_diff::diff(context, args).await,
        ManifestCommand::Rm(args) => remove(context, args).await,
    }
}

/// Prints a manifest's exact bytes, without as much as a newline after them.
async fn get(context: &Context, args: ManifestGetArgs) -> Result<(), Error> {
    let name = name(&args.name)?.or_latest();
    let platform = settings::platform_given(args.platform.as_deref())?;
    let manifest = operations::get_manifest(&context.session, &name, platform.as_ref()).await?;
    if matches!(args.format.format(), Format::Table) {
        return print_bytes(&manifest.bytes);
    }
    let mut value = shown(&name, &manifest.descriptor());
    let content = serde_json::from_slice(&manifest.bytes);
    value["content"] = content.map_err(|error| {
        Error::new(Kind::Internal, "a manifest that was read cannot be printed").because(error)
    })?;
    args.format.print("", &value)
}

/// Prints a manifest's descriptor.
async fn head(context: &Context, args: ManifestGetArgs) -> Result<(), Error> {
    let name = name(&args.name)?.or_latest();
    let platform = settings::platform_given(args.platform.as_deref())?;
    let found = operations::head_manifest(&context.session, &name, platform.as_ref()).await?;
    let text = serde_json::to_string_pretty(&found).unwrap_or_default();
    args.format.print(&text, &shown(&name, &found))
}

/// Prints a digest, and nothing else unless asked.
pub(super) async fn digest(context: &Context, args: DigestArgs) -> Result<(), Error> {
    let name = name(&args.name)?.or_latest();
    let platform = settings::platform_given(args.platform.as_deref())?;
    let found = operations::head_manifest(&context.session, &name, platform.as_ref()).await?;
    let text = if args.full_ref { pinned(&name, &found) } else { found.digest.to_string() };
    args.format.print(&text, &shown(&name, &found))
}

/// Pushes a manifest, and prints its name by digest.
async fn put(context: &Context, args: ManifestPutArgs) -> Result<(), Error> {
    let name = name(&args.name)?;
    let given = args.tags.iter().map(|tag| tag.parse());
    let given: Vec<Tag> = given
        .collect::<Result<_, crate::image::Error>>()
        .map_err(|error| Error::new(Kind::Settings, "invalid `--tag`").because(error))?;
    let mut tags: Vec<Tag> = name.tag.clone().into_iter().chain(given).collect();
    if args.by_digest {
        tags.clear();
    } else if tags.is_empty() && name.digest.is_none() {
        tags.push(name.tag_or_latest());
    }
    let bytes = read(&args.file)?;
    let request = ManifestToPut { name: name.clone(), bytes, media_type: args.media_type, tags };
    let pushed = operations::put_manifest(&context.session, request).await?;
    args.format.print(&pinned(&name, &pushed), &shown(&name, &pushed))
}

/// Reads a file, or standard input, that may be a manifest.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let limit = MAX_MANIFEST_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        fs_err::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|error| Error::new(Kind::User, "failed to read the manifest").because(error))?;
    Ok(bytes)
}

/// Removes manifests; goes on after a failure, and says each.
async fn remove(context: &Context, args: ManifestRmArgs) -> Result<(), Error> {
    let names = args.names.iter().map(|text| {
        let name = name(text)?;
        if name.digest.is_none() && !args.force_tag_dereference {
            let message = format!("`{text}` is no digest, and other tags may stand for the same");
            let hint = format!(
                "remove the tag alone with `rpub tag rm`, or all of it with \
                 `--force-tag-dereference`; `rpub digest {text}` says the digest"
            );
            return Err(Error::new(Kind::Settings, message).hint(hint));
        }
        Ok(name)
    });
    let names: Vec<Reference> = names.collect::<Result<_, Error>>()?;
    each_of(&names, "manifests were not removed", async |name| {
        let digest = operations::remove_manifest(&context.session, name).await?;
        let name = format!("{}@{digest}", name.repository.familiar());
        args.format.print(&format!("Deleted: {name}"), &json!({"reference": name}))
    })
    .await
}

/// Lists what refers to an image.
pub(super) async fn referrers(context: &Context, args: ReferrersArgs) -> Result<(), Error> {
    let name = name(&args.name)?.or_latest();
    let platform = settings::platform_given(args.platform.as_deref())?;
    let (platform, wanted) = (platform.as_ref(), args.artifact_type.as_deref());
    let (subject, found) =
        operations::list_referrers(&context.session, &name, platform, wanted).await?;
    let rows: Vec<Value> = found.manifests.iter().map(|it| shown(&name, it)).collect();
    match args.format.format() {
        Format::Table => {
            let mut table = Table::new(&["DIGEST", "ARTIFACT TYPE", "SIZE"]);
            for referrer in &found.manifests {
                let kind = referrer.artifact_type.as_deref().unwrap_or_default();
                let kind = kind.replace(char::is_control, "");
                table.row(vec![referrer.digest.to_string(), kind, bytes(referrer.size)]);
            }
            print_bytes(table.render().as_bytes())
        }
        Format::Json => {
            let source = match found.source {
                ReferrersSource::Api => "api",
                ReferrersSource::Tag => "tag",
            };
            let subject = format!("{}@{subject}", name.repository.familiar());
            print(&json!({"subject": subject, "source": source, "referrers": rows}).to_string())
        }
        Format::Template(template) if template.starts_with("table ") => {
            print_template(&template, &rows, "DIGEST")
        }
        Format::Template(template) => {
            rows.iter().try_for_each(|row| print(&from_template(&template, row)?))
        }
    }
}

/// Returns a manifest's name by digest.
pub(super) fn pinned(name: &Reference, descriptor: &Descriptor) -> String {
    format!("{}@{}", name.repository.familiar(), descriptor.digest)
}

/// Returns a descriptor, under the specification's keys, and the name it goes by.
pub(super) fn shown(name: &Reference, descriptor: &Descriptor) -> Value {
    let mut value = json!({"reference": pinned(name, descriptor)});
    if let (Some(fields), Ok(Value::Object(more))) =
        (value.as_object_mut(), serde_json::to_value(descriptor))
    {
        fields.extend(more);
    }
    value
}
