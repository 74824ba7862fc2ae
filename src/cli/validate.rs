//! `validate`.

use serde_json::{Value, json};

use crate::operations::{
    self, Error, Fault, FaultKind, ImageSource, Kind, Thoroughness, Validation,
};

use super::Context;
use super::args::ValidateArgs;
use super::edit::{image_source, interruptible};
use super::output::{Format, from_template, print};
use super::render::bytes;

/// Reads images and hashes everything again; says all that is wrong with each.
pub(super) async fn validate(context: &Context, args: ValidateArgs) -> Result<(), Error> {
    let thoroughness = if args.fast { Thoroughness::Fast } else { Thoroughness::Everything };
    let mut faults = Vec::new();
    let sources = sources(context, &args).await?;
    for source in &sources {
        let found = operations::validate(&context.session, source, thoroughness);
        let found = interruptible(Box::pin(found)).await?;
        faults.extend(found.faults.iter().map(|fault| fault.kind));
        context.progress.finish();
        show(&args, source, &found)?;
    }
    let is_wrong = faults.contains(&FaultKind::Wrong);
    let kind = if is_wrong { Kind::Integrity } else { Kind::Network };
    match faults.len() {
        0 => Ok(()),
        1 => Err(Error::new(kind, "found a fault")),
        count => Err(Error::new(kind, format!("found {count} faults"))),
    }
}

/// Returns what is to be looked at: what is named, else every image of the store.
async fn sources(context: &Context, args: &ValidateArgs) -> Result<Vec<ImageSource>, Error> {
    if !args.images.is_empty() {
        return args.images.iter().map(|text| image_source(text, args.local)).collect();
    }
    if !args.local {
        return Err(Error::new(Kind::Settings, "no image to look at")
            .hint("name one, or look at all of the store by `--local`"));
    }
    let mut digests = Vec::new();
    for image in operations::list(&context.session).await? {
        if !digests.contains(&image.digest) {
            digests.push(image.digest);
        }
    }
    Ok(digests.iter().map(|digest| ImageSource::Store(digest.to_string())).collect())
}

fn show(args: &ValidateArgs, source: &ImageSource, found: &Validation) -> Result<(), Error> {
    let name = source.to_string();
    match args.format.format() {
        Format::Table => {
            for fault in &found.faults {
                print(&line(&name, fault))?;
            }
            if found.faults.is_empty() { print(&sound(&name, found)) } else { Ok(()) }
        }
        Format::Json => print(&value(&name, found).to_string()),
        Format::Template(template) => print(&from_template(&template, &value(&name, found))?),
    }
}

fn line(name: &str, fault: &Fault) -> String {
    let platform = fault.platform.as_ref().map(|platform| format!(" ({platform})"));
    let platform = platform.unwrap_or_default();
    format!("{name}{platform}: {}: {}", fault.digest, fault.message)
}

fn sound(name: &str, found: &Validation) -> String {
    let Validation { manifests, blobs, blob_bytes, foreign, .. } = found;
    let elsewhere = match foreign {
        0 => String::new(),
        count => format!("; {count} layers from elsewhere were not looked at"),
    };
    let size = bytes(*blob_bytes);
    format!("{name}: sound: {manifests} manifests, {blobs} blobs ({size}){elsewhere}")
}

fn value(name: &str, found: &Validation) -> Value {
    let faults = found.faults.iter().map(|fault| {
        json!({
            "kind": match fault.kind {
                FaultKind::Wrong => "wrong",
                FaultKind::Unreadable => "unreadable",
            },
            "platform": fault.platform.as_ref().map(ToString::to_string),
            "digest": fault.digest,
            "message": fault.message,
        })
    });
    json!({
        "name": name,
        "digest": found.digest,
        "sound": found.faults.is_empty(),
        "faults": faults.collect::<Vec<_>>(),
        "manifests": found.manifests,
        "blobs": found.blobs,
        "blobBytes": found.blob_bytes,
        "foreign": found.foreign,
    })
}
