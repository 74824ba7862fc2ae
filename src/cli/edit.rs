//! What all edits of images share: where they go, and what is said about them.

use std::pin::Pin;

use serde_json::{Value, json};

use crate::image::{Platform, Reference};
use crate::operations::{
    self, ArchiveForm, EditReport, EditTarget, Error, ImageSource, Kind, Location,
};

use super::Context;
use super::args::{EditArgs, EditMannerArgs, IndexEditArgs};
use super::build::{interrupted, reference, summary};
use super::output::{Format, print_bytes};

impl EditArgs {
    /// Returns what an edit of `source` is to do with the result.
    pub(super) fn target(&self, source: Option<&str>) -> Result<EditTarget, Error> {
        let platforms = self.platforms.iter().map(|text| platform("--platform", text));
        let tags = self.tags.iter().map(|tag| new_name(tag));
        Ok(EditTarget {
            source: source.map(reference).transpose()?,
            names: tags.collect::<Result<_, Error>>()?,
            repository: None,
            location: if self.manner.local { Location::Store } else { Location::Registry },
            platforms: platforms.collect::<Result<_, Error>>()?,
            is_dry_run: self.manner.dry_run,
        })
    }
}

impl IndexEditArgs {
    /// Returns what an edit of `source` is to do with the result.
    pub(super) fn target(&self, source: &str) -> Result<EditTarget, Error> {
        let tags = self.tags.iter().map(|tag| new_name(tag));
        Ok(EditTarget {
            source: Some(reference(source)?),
            names: tags.collect::<Result<_, Error>>()?,
            location: if self.manner.local { Location::Store } else { Location::Registry },
            is_dry_run: self.manner.dry_run,
            ..EditTarget::default()
        })
    }
}

/// Reads the name of a result: a digest cannot be chosen.
fn new_name(text: &str) -> Result<Reference, Error> {
    let name = reference(text)?;
    if name.digest.is_none() {
        return Ok(name);
    }
    let message = format!("invalid `--tag {text}`: the result's digest is not known before");
    Err(Error::new(Kind::Settings, message).hint("give a name and a tag"))
}

/// Reads a platform that the flag `flag` gives.
pub(super) fn platform(flag: &str, text: &str) -> Result<Platform, Error> {
    text.trim().parse().map_err(|error: crate::image::Error| {
        Error::new(Kind::Settings, format!("invalid `{flag} {text}`")).because(error)
    })
}

/// Reads where an image is: one of a layout, an archive or a bundle, as `oci:DIR[:TAG|@DIGEST]`, a
/// name in a registry, or one in the store.
pub(super) fn image_source(text: &str, is_local: bool) -> Result<ImageSource, Error> {
    if let Some((form, path, image)) = archive_name(text) {
        if text.contains('@') {
            let digest = image.rsplit('@').next().unwrap_or_default();
            digest.parse::<crate::image::Digest>()?;
        }
        let image = Some(image.to_owned()).filter(|image| !image.is_empty());
        return Ok(ImageSource::Archive { form, path: path.into(), image });
    }
    if is_local {
        return Ok(ImageSource::Store(text.to_owned()));
    }
    Ok(ImageSource::Registry(reference(text)?))
}

/// Splits `TRANSPORT:PATH[:NAME|@DIGEST]`; the path ends where skopeo ends it, at the first `:`.
pub(super) fn archive_name(text: &str) -> Option<(ArchiveForm, &str, &str)> {
    let forms = [ArchiveForm::Layout, ArchiveForm::Oci, ArchiveForm::Docker, ArchiveForm::Bundle];
    let of =
        |form| Some((form, text.strip_prefix(operations::transport(form))?.strip_prefix(':')?));
    let (form, rest) = forms.into_iter().find_map(of)?;
    let end = rest.find([':', '@']).unwrap_or(rest.len());
    Some((form, &rest[..end], rest.get(end + 1..).unwrap_or_default()))
}

/// Reads a date: seconds since 1970, or RFC 3339.
pub(super) fn time(text: Option<&str>) -> Result<Option<i64>, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let seconds = text.parse::<i64>().ok().filter(|seconds| *seconds >= 0);
    let date = || text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
    let is_date = |seconds: &i64| jiff::Timestamp::from_second(*seconds).is_ok();
    seconds.or_else(date).filter(is_date).map(Some).ok_or_else(|| {
        Error::new(Kind::Settings, format!("invalid time `{text}`"))
            .hint("give seconds since 1970, or a time such as 2026-01-31T12:00:00Z")
    })
}

/// Does work that Ctrl-C ends. It is boxed, because it is large.
pub(super) async fn interruptible<T>(
    work: Pin<Box<impl Future<Output = Result<T, Error>>>>,
) -> Result<T, Error> {
    tokio::select! {
        done = work => done,
        () = interrupted() => Err(Error::new(Kind::Interrupted, "interrupted")),
    }
}

/// Says what an edit did.
pub(super) fn report(
    context: &Context,
    report: &EditReport,
    manner: &EditMannerArgs,
) -> Result<(), Error> {
    say(context, report, manner.dry_run);
    context.progress.finish();
    let format = &manner.format;
    if manner.dry_run && matches!(format.format(), Format::Table) {
        return print_bytes(&report.bytes);
    }
    let digest = &report.manifest.digest;
    let line = |name: &Reference| {
        format!("{}@{digest}", Reference { digest: None, ..name.clone() }.familiar())
    };
    let lines: Vec<String> = report.names.iter().map(line).collect();
    format.print(&lines.join("\n"), &value(report))
}

fn say(context: &Context, report: &EditReport, is_dry_run: bool) {
    let session = &context.session;
    for image in &report.images {
        let platform = image.platform.as_ref().map(|platform| format!("{platform}: "));
        let platform = platform.unwrap_or_default();
        session.note(format!("edited {platform}{} is now {}", image.previous, image.digest));
    }
    for entry in &report.dropped {
        let what = match &entry.platform {
            Some(platform) if platform.os != "unknown" => format!("the image for {platform}"),
            _ => "the attestation".to_owned(),
        };
        session.note(format!("left out {what} ({})", entry.digest));
    }
    for left in &report.left_behind {
        let (count, digest) = (left.referrers, &left.digest);
        session.note(format!(
            "{count} referrers (signatures and the like) stay with {digest}, which they state"
        ));
    }
    match &report.previous {
        Some(previous) if !report.has_changed() => {
            session.note(format!("nothing changed: the digest is still {previous}"));
        }
        Some(previous) => session.note(format!("was {previous}")),
        None => {}
    }
    if !is_dry_run && report.traffic != crate::operations::Traffic::default() {
        session.note(summary(&report.traffic));
    }
}

fn value(report: &EditReport) -> Value {
    let images = report.images.iter().map(|image| {
        json!({
            "platform": image.platform.as_ref().map(ToString::to_string),
            "previous": image.previous,
            "digest": image.digest,
        })
    });
    let left = report.left_behind.iter();
    let left = left.map(|left| json!({ "digest": left.digest, "referrers": left.referrers }));
    json!({
        "names": report.names.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "digest": report.manifest.digest,
        "mediaType": report.manifest.media_type,
        "size": report.manifest.size,
        "previous": report.previous,
        "changed": report.has_changed(),
        "images": images.collect::<Vec<_>>(),
        "dropped": report.dropped,
        "leftBehind": left.collect::<Vec<_>>(),
        "sent": report.traffic.sent,
        "sentBytes": report.traffic.sent_bytes,
        "mounted": report.traffic.mounted,
        "alreadyThere": report.traffic.already_there,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_registries_layouts_or_the_store() {
        let read = |text: &str| image_source(text, false).map(|source| source.to_string());
        for (text, expected) in [
            ("alpine", "alpine:latest"),
            ("oci:dir", "oci:dir"),
            ("oci:/a/dir:1.0", "oci:/a/dir:1.0"),
            ("oci-archive:a.tar@sha256:{0}", "oci-archive:a.tar@sha256:{0}"),
            ("bundle:/a/file:alpine:3", "bundle:/a/file:alpine:3"),
        ] {
            let hex = "0".repeat(64);
            let [text, expected] = [text, expected].map(|text| text.replace("{0}", &hex));
            assert_eq!(read(&text).expect("valid"), expected);
        }
        assert_eq!(
            archive_name("bundle:/a/file:alpine:3"),
            Some((ArchiveForm::Bundle, "/a/file", "alpine:3"))
        );
        assert!(read("oci:dir@sha256:x").is_err());
        assert_eq!(image_source("abc", true).expect("valid"), ImageSource::Store("abc".into()));
    }

    #[test]
    fn times_are_seconds_or_dates() {
        assert_eq!(time(Some("1700000000")).expect("valid"), Some(1_700_000_000));
        assert_eq!(time(Some("1970-01-02T00:00:00Z")).expect("valid"), Some(86400));
        assert_eq!(time(Some("")).expect("valid"), None);
        for text in ["-1", "yesterday", "99999999999999999"] {
            assert!(time(Some(text)).is_err(), "{text}");
        }
    }
}
