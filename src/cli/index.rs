//! The `index` family.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::operations::{
    self, CreateRequest, EditReport, Error, IndexSource, Inspected, Kind, Removal, Selector,
    WithConfigs,
};

use super::Context;
use super::args::{
    IndexAddArgs, IndexAnnotateArgs, IndexCommand, IndexCreateArgs, IndexInspectArgs, IndexRmArgs,
    Prefer,
};
use super::build::reference;
use super::edit::{image_source, interruptible, report};
use super::output::{Format, from_template, print, print_bytes, write_file};

/// Carries a command of the family out.
pub(super) async fn run(context: &Context, command: IndexCommand) -> Result<(), Error> {
    match command {
        IndexCommand::Create(args) => create(context, args).await,
        IndexCommand::Add(args) => add(context, args).await,
        IndexCommand::Rm(args) => remove(context, args).await,
        IndexCommand::Annotate(args) => annotate(context, args).await,
        IndexCommand::Inspect(args) => inspect(context, args).await,
    }
}

async fn create(context: &Context, args: IndexCreateArgs) -> Result<(), Error> {
    let target = args.edit.target(None)?;
    let mut texts = args.sources.clone();
    for path in &args.files {
        let text = fs_err::read_to_string(path).map_err(|error| {
            Error::new(Kind::Settings, "failed to read the source").because(error)
        })?;
        texts.push(text.trim().to_owned());
    }
    if texts.is_empty() && !args.append {
        let error = Error::new(Kind::Settings, "an index of nothing");
        return Err(error.hint("name images to put into it"));
    }
    if target.names.is_empty() && !target.is_dry_run {
        let error = Error::new(Kind::Settings, "the index has no name");
        return Err(error.hint("name it by `-t NAME[:TAG]`, or only look at it by `--dry-run`"));
    }
    let sources = texts.iter().map(|text| source(text));
    let request = CreateRequest {
        sources: sources.collect::<Result<_, Error>>()?,
        appends: args.append,
        notes: operations::notes(&args.annotations)?,
        prefers_index: args.prefer_index == Prefer::True,
    };
    let made = operations::create_index(&context.session, &target, &request);
    let made = interruptible(Box::pin(made)).await?;
    if let Some(path) = &args.metadata_file {
        write_file(path, format!("{:#}\n", metadata(&made)).as_bytes())?;
    }
    report(context, &made, &args.edit.manner)
}

/// Returns the result under buildx's keys.
fn metadata(made: &EditReport) -> Value {
    let names: Vec<String> = made.names.iter().map(ToString::to_string).collect();
    json!({ "containerimage.descriptor": made.manifest, "image.name": names.join(",") })
}

/// Reads a source: a reference, a digest in the result's repository, or a descriptor.
fn source(text: &str) -> Result<IndexSource, Error> {
    if text.starts_with('{') {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            Error::new(Kind::Settings, "invalid descriptor of a source").because(error)
        })?;
        if value["digest"].is_string() {
            return Ok(IndexSource::Descriptor(Box::new(value)));
        }
        return Err(Error::new(Kind::Settings, "the descriptor of a source has no digest"));
    }
    let digest = text.strip_prefix('@').unwrap_or(text);
    if digest.starts_with("sha256:") || digest.starts_with("sha512:") {
        return Ok(IndexSource::Descriptor(Box::new(json!({ "digest": digest }))));
    }
    Ok(IndexSource::Reference(reference(text)?))
}

async fn add(context: &Context, args: IndexAddArgs) -> Result<(), Error> {
    let target = args.edit.target(Some(&args.index))?;
    let sources = args.sources.iter().map(|text| source(text));
    let request = CreateRequest {
        sources: sources.collect::<Result<_, Error>>()?,
        appends: true,
        notes: operations::notes(&args.annotations)?,
        prefers_index: true,
    };
    let made = operations::add_to_index(&context.session, &target, &request);
    report(context, &interruptible(Box::pin(made)).await?, &args.edit.manner)
}

async fn remove(context: &Context, args: IndexRmArgs) -> Result<(), Error> {
    let target = args.edit.target(&args.index)?;
    let selector = |text: &String| {
        let about = |error: Error| error.about(format!("invalid entry `{text}`"));
        text.parse::<Selector>().map_err(about)
    };
    let selectors = args.entries.iter().map(selector).collect::<Result<Vec<_>, Error>>()?;
    let made = operations::remove_from_index(&context.session, &target, &selectors);
    report(context, &interruptible(Box::pin(made)).await?, &args.edit.manner)
}

async fn annotate(context: &Context, args: IndexAnnotateArgs) -> Result<(), Error> {
    let target = args.edit.target(&args.index)?;
    let notes = operations::notes(&[args.notes, args.annotations].concat())?;
    let removals = Removal::parse_all(&args.unset)?;
    if notes.is_empty() && removals.is_empty() && target.names.is_empty() {
        let error = Error::new(Kind::Settings, "no annotation given");
        return Err(error.hint("write `rpub index annotate NAME KEY=VALUE`"));
    }
    let made = operations::annotate_index(&context.session, &target, &notes, &removals);
    report(context, &interruptible(Box::pin(made)).await?, &args.edit.manner)
}

async fn inspect(context: &Context, args: IndexInspectArgs) -> Result<(), Error> {
    let source = image_source(&args.image, args.local)?;
    let format = args.format.format();
    let configs = match &format {
        Format::Template(template) if template.contains(".Image") => WithConfigs::Yes,
        _ => WithConfigs::No,
    };
    let found = operations::inspect_remote(&context.session, &source, None, configs);
    let found = interruptible(Box::pin(found)).await?;
    context.progress.finish();
    if args.raw {
        return print_bytes(&found.manifest.bytes);
    }
    let name = match &source {
        operations::ImageSource::Registry(reference) => reference.to_string(),
        other => other.to_string(),
    };
    match format {
        Format::Table => print_bytes(text(&name, &found).as_bytes()),
        Format::Json => print(&value(&name, &found).to_string()),
        Format::Template(template) => print(&from_template(&template, &value(&name, &found))?),
    }
}

fn value(name: &str, found: &Inspected) -> Value {
    let mut value = json!({
        "Name": name,
        "MediaType": found.manifest.media_type,
        "Digest": found.manifest.digest,
        "Size": found.manifest.bytes.len(),
        "Manifest": found.document,
    });
    if !found.configs.is_null() {
        value["Image"] = found.configs.clone();
    }
    value
}

/// Returns an index as docker buildx shows it.
fn text(name: &str, found: &Inspected) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", format!("{key:<14}{value}").trim_end());
    };
    line("Name:", name);
    line("MediaType:", &found.manifest.media_type);
    line("Digest:", &found.manifest.digest.to_string());
    notes(&mut line, "", &found.document["annotations"]);
    let Some(entries) = found.document["manifests"].as_array() else { return out };
    line("", "");
    line("Manifests:", "");
    let plain = name.split_once('@').map_or(name, |(plain, _)| plain);
    for (at, entry) in entries.iter().enumerate() {
        if at > 0 {
            line("", "");
        }
        let member = |key: &str| entry[key].as_str().unwrap_or_default();
        line("  Name:", &format!("{plain}@{}", member("digest")));
        line("  MediaType:", member("mediaType"));
        if let Ok(platform) =
            serde_json::from_value::<crate::image::Platform>(entry["platform"].clone())
        {
            line("  Platform:", &platform.to_string());
        }
        if !member("artifactType").is_empty() {
            line("  ArtifactType:", &format!(" {}", member("artifactType")));
        }
        notes(&mut line, "  ", &entry["annotations"]);
    }
    out
}

fn notes(line: &mut impl FnMut(&str, &str), indent: &str, annotations: &Value) {
    let Some(notes) = annotations.as_object() else { return };
    line(&format!("{indent}Annotations:"), "");
    let width = notes.keys().map(String::len).max().unwrap_or_default() + 1;
    for (key, value) in notes {
        let (key, value) = (format!("{key}:"), value.as_str().unwrap_or_default());
        line(&format!("{indent}  {key:<width$} {value}"), "");
    }
}
