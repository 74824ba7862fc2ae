//! `copy`.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::image::{Digest, Platform, Reference, Tag, media_type};
use crate::operations::{
    self, ArchiveForm, ArchiveName, ArchiveTarget, Arrival, Carrier, Carry, CopiedImage, CopyJob,
    CopyOptions, CopyTarget, Delivered, EditTarget, Error, ForeignLayers, ImageSource, IndexShape,
    Kind, ListRequest, Traffic,
};

use super::Context;
use super::args::{CopyArgs, CopyContentArgs, EditMannerArgs, FormatArgs};
use super::build::reference;
use super::edit::{self, archive_name, image_source, interruptible, platform};
use super::output::{Format, from_template, print, write_file};
use super::render::bytes;

/// Places that other tools know, and what to use here instead.
const FOREIGN_PLACES: [(&str, &str); 5] = [
    ("dir:", "write an OCI layout by `oci:DIRECTORY`"),
    ("containers-storage:", "push it to a registry, or write an OCI layout, with podman"),
    ("docker-daemon:", "write an archive by `docker save`, and read it by `docker-archive:FILE`"),
    ("sif:", "write an OCI layout"),
    ("ostree:", "write an OCI layout"),
];

/// Copies an image, or all tags of a repository.
pub(super) async fn copy(context: &Context, args: CopyArgs) -> Result<(), Error> {
    let options = args.content.options()?;
    let source = source(&args.source)?;
    let targets = targets(&args, &source).await?;
    if let Some(twice) = targets.iter().enumerate().find(|(at, it)| targets[..*at].contains(it)) {
        return Err(Error::new(Kind::Settings, format!("the target `{}` is given twice", twice.1)));
    }
    if !args.conversion.is_empty() {
        return convert(context, &args, &source, &targets).await;
    }
    let carrier = Carrier::new(&context.session);
    let jobs = if args.all_tags {
        every_tag(context, &carrier, &source, &targets, &options).await?
    } else {
        vec![CopyJob { source, targets, options }]
    };
    let jobs = if args.no_clobber { unclaimed(context, jobs).await? } else { jobs };
    let mut copies: Vec<Option<Result<CopiedImage, Error>>> = jobs.iter().map(|_| None).collect();
    let copying = async {
        operations::copy_images(&carrier, &jobs, |at, copied| copies[at] = Some(copied)).await;
        Ok(())
    };
    interruptible(Box::pin(copying)).await?;
    let copies: Vec<Result<CopiedImage, Error>> = copies.into_iter().flatten().collect();
    let finished = finish(&jobs, &copies).await;
    report(context, &args, &jobs, copies)?;
    finished
}

/// Gives the images of archives their names, unless none of the copies has come so far.
async fn finish(jobs: &[CopyJob], copies: &[Result<CopiedImage, Error>]) -> Result<(), Error> {
    let mut archives: Vec<&ArchiveTarget> = Vec::new();
    for target in jobs.iter().flat_map(|job| &job.targets) {
        let CopyTarget::Archive(archive, _) = target else { continue };
        let has_come = copies.iter().flatten().flat_map(|copied| &copied.deliveries).any(|it| {
            it.outcome.is_ok() && matches!(&it.target, CopyTarget::Archive(it, _) if it == archive)
        });
        if has_come && !archives.contains(&archive) {
            archives.push(archive);
        }
    }
    for archive in archives {
        archive.finish().await?;
    }
    Ok(())
}

/// Copies an image in another form: with other bytes, so under other digests.
async fn convert(
    context: &Context,
    args: &CopyArgs,
    source: &ImageSource,
    targets: &[CopyTarget],
) -> Result<(), Error> {
    let refused = |what: &str| {
        let message = format!("a copy in another form {what}");
        Err(Error::new(Kind::Settings, message)
            .hint("copy the image as it is, then change it there by `rpub mutate`"))
    };
    let ImageSource::Registry(name) = source else { return refused("is made of registries only") };
    if args.all_tags || args.no_clobber {
        return refused("is made of one image, and always");
    }
    let mut names = Vec::new();
    for target in targets {
        let CopyTarget::Registry(name) = target else { return refused("goes to registries only") };
        names.push(name.clone());
    }
    let target = EditTarget {
        source: Some(name.clone()),
        names,
        platforms: args.content.options()?.platforms,
        ..EditTarget::default()
    };
    let changes = args.conversion.changes()?;
    let done = operations::mutate(&context.session, &target, &changes);
    let done = interruptible(Box::pin(done)).await?;
    if let Some(path) = &args.digestfile {
        write_file(path, format!("{}\n", done.manifest.digest).as_bytes())?;
    }
    let format = FormatArgs { format: args.format.format.clone() };
    edit::report(context, &done, &EditMannerArgs { local: false, dry_run: false, format })
}

impl CopyContentArgs {
    /// Returns what is to be copied of an image.
    pub(super) fn options(&self) -> Result<CopyOptions, Error> {
        let carry = |leave: bool| if leave { Carry::No } else { Carry::Yes };
        Ok(CopyOptions {
            platforms: chosen_platforms(&self.platforms)?,
            shape: if self.sparse_index { IndexShape::Sparse } else { IndexShape::Trimmed },
            foreign: if self.include_external { ForeignLayers::Push } else { ForeignLayers::Skip },
            referrers: carry(self.no_referrers),
            artifact_types: self.artifact_types.clone(),
            digest_tags: carry(self.no_digest_tags),
            companions_of_present: Carry::Yes,
        })
    }
}

/// Reads `--platform`; `all` is none in particular, `local` this machine's.
pub(super) fn chosen_platforms(texts: &[String]) -> Result<Vec<Platform>, Error> {
    let wanted = texts.iter().filter(|text| !matches!(text.as_str(), "all" | ""));
    let read = |text: &String| match text.as_str() {
        "local" => Ok(Platform::host()),
        text => platform("--platform", text),
    };
    wanted.map(read).collect()
}

/// Reads where an image is.
pub(super) fn source(text: &str) -> Result<ImageSource, Error> {
    refuse_foreign(text)?;
    if let Some(name) = text.strip_prefix("store:") {
        return Ok(ImageSource::Store(name.to_owned()));
    }
    image_source(text.strip_prefix("docker://").unwrap_or(text), false)
}

/// Reads where an image goes.
async fn targets(args: &CopyArgs, source: &ImageSource) -> Result<Vec<CopyTarget>, Error> {
    let mut targets = Vec::new();
    let mut opened: Vec<(String, ArchiveTarget)> = Vec::new();
    for text in &args.targets {
        refuse_foreign(text)?;
        targets.push(if let Some(name) = text.strip_prefix("store:") {
            CopyTarget::Store(Some(reference(name)?))
        } else if let Some((form, path, name)) = archive_name(text) {
            let name = stored_name(form, name, source)?;
            let known = opened.iter().find(|(known, _)| known == path);
            let archive = match known {
                Some((_, archive)) => archive.clone(),
                None => ArchiveTarget::open(form, Some(Path::new(path)), true).await?,
            };
            opened.push((path.to_owned(), archive.clone()));
            CopyTarget::Archive(archive, name)
        } else {
            CopyTarget::Registry(reference(text.strip_prefix("docker://").unwrap_or(text))?)
        });
    }
    Ok(targets)
}

/// Returns the name that an image gets in an archive: the one given, or else the source's own. In a
/// layout a word is a tag, as other tools read it.
fn stored_name(
    form: ArchiveForm,
    name: &str,
    source: &ImageSource,
) -> Result<Option<ArchiveName>, Error> {
    let own = match source {
        ImageSource::Registry(name) => Some(name.clone()),
        ImageSource::Store(name) => reference(name).ok(),
        ImageSource::Archive { .. } => None,
    };
    if name.is_empty() {
        return Ok(own.map(|name| ArchiveName::Whole(name.or_latest())));
    }
    let is_tag = matches!(form, ArchiveForm::Layout | ArchiveForm::Oci);
    if is_tag && !name.contains(['/', ':', '@']) {
        return Ok(Some(ArchiveName::Tag(name.to_owned())));
    }
    Ok(Some(ArchiveName::Whole(reference(name)?)))
}

fn refuse_foreign(text: &str) -> Result<(), Error> {
    let known = FOREIGN_PLACES.iter().find(|(prefix, _)| text.starts_with(prefix));
    known.map_or(Ok(()), |(prefix, instead)| {
        let message = format!("`{prefix}` is no place that rpub knows");
        Err(Error::new(Kind::Settings, message).hint(*instead))
    })
}

/// Returns a job for each tag of the source's repository.
async fn every_tag(
    context: &Context,
    carrier: &Carrier,
    source: &ImageSource,
    targets: &[CopyTarget],
    options: &CopyOptions,
) -> Result<Vec<CopyJob>, Error> {
    let ImageSource::Registry(name) = source else {
        return Err(Error::new(Kind::Settings, "`--all-tags` copies from a registry only"));
    };
    let mut tags: Vec<Tag> = Vec::new();
    let all = ListRequest::default();
    operations::list_tags(&context.session, &name.repository, &all, |tag| {
        tags.extend(tag.parse());
        Ok(())
    })
    .await?;
    carrier.know_tags(&name.repository, tags.iter().map(ToString::to_string));
    // Tags made of digests go along with what they are about.
    let tags = tags.into_iter().filter(|tag| Digest::of_tag(tag.as_str()).is_none());
    let jobs = tags.map(|tag| {
        let tagged = |name: &Reference| Reference::tagged(name.repository.clone(), tag.clone());
        let to = targets.iter().map(|target| match target {
            CopyTarget::Registry(name) => CopyTarget::Registry(tagged(name)),
            CopyTarget::Store(name) => CopyTarget::Store(name.as_ref().map(tagged)),
            CopyTarget::Archive(archive, _) => {
                let whole = ArchiveName::Whole(tagged(name));
                CopyTarget::Archive(archive.clone(), Some(whole))
            }
        });
        CopyJob {
            source: ImageSource::Registry(tagged(name)),
            targets: to.collect(),
            options: CopyOptions { companions_of_present: Carry::No, ..options.clone() },
        }
    });
    Ok(jobs.collect())
}

/// Leaves out the targets whose tags are taken.
async fn unclaimed(context: &Context, jobs: Vec<CopyJob>) -> Result<Vec<CopyJob>, Error> {
    let mut left = Vec::new();
    for mut job in jobs {
        let mut targets = Vec::new();
        for target in job.targets {
            if operations::is_taken(&context.session, &target).await? {
                context.session.note(format!("left alone: `{target}` is there"));
            } else {
                targets.push(target);
            }
        }
        job.targets = targets;
        if !job.targets.is_empty() {
            left.push(job);
        }
    }
    Ok(left)
}

/// Says what was copied, and returns what failed.
fn report(
    context: &Context,
    args: &CopyArgs,
    jobs: &[CopyJob],
    copies: Vec<Result<CopiedImage, Error>>,
) -> Result<(), Error> {
    let mut failures = Vec::new();
    let mut rows = Vec::new();
    let (mut traffic, mut text, mut digests) = (Traffic::default(), String::new(), String::new());
    for (job, copied) in jobs.iter().zip(copies) {
        let copied = match copied {
            Ok(copied) => copied,
            Err(error) if jobs.len() == 1 => return Err(error),
            Err(error) => {
                failures.push(error);
                continue;
            }
        };
        traffic = traffic.and(copied.traffic());
        say(context, &copied);
        rows.push(row(job, &copied));
        let _ = writeln!(digests, "{}", copied.manifest.digest);
        for delivered in copied.deliveries {
            match delivered.outcome {
                Ok(_) => {
                    let _ = writeln!(text, "{}@{}", delivered.target, delivered.digest);
                }
                Err(error) => failures.push(error),
            }
        }
    }
    let total: usize = jobs.iter().map(|job| job.targets.len()).sum();
    context.session.note(summary(&traffic));
    context.progress.finish();
    match args.format.format() {
        Format::Table if text.is_empty() => {}
        Format::Table => print(text.trim_end())?,
        Format::Json => rows.iter().try_for_each(|row| print(&row.to_string()))?,
        Format::Template(template) => {
            rows.iter().try_for_each(|row| print(&from_template(&template, row)?))?;
        }
    }
    if let Some(path) = &args.digestfile {
        write_file(path, digests.as_bytes())?;
    }
    all_or_partial(failures, total, "copies")
}

/// Returns the only failure, or says how many of `total` there were, each having been told.
pub(super) fn all_or_partial(failures: Vec<Error>, total: usize, what: &str) -> Result<(), Error> {
    let count = failures.len();
    let mut failures = failures.into_iter();
    match (failures.next(), count) {
        (None, _) => Ok(()),
        (Some(error), 1) if total == 1 => Err(error),
        (Some(first), _) => {
            for error in std::iter::once(first).chain(failures) {
                anstream::eprint!("{}", super::render::error(&error));
            }
            Err(Error::new(Kind::Partial, format!("{count} of {total} {what} failed")))
        }
    }
}

fn say(context: &Context, copied: &CopiedImage) {
    let session = &context.session;
    if let Some(trimmed) = &copied.trimmed {
        let (digest, previous) = (&copied.manifest.digest, &trimmed.previous);
        session.note(if media_type::is_index(&copied.manifest.media_type) {
            format!("the index {previous} became {digest}, which its signatures do not cover")
        } else {
            format!("took the image {digest} out of the index {previous}")
        });
        for entry in &trimmed.left_out {
            let what = match &entry.platform {
                Some(platform) if platform.os != "unknown" => format!("the image for {platform}"),
                _ => "the attestation".to_owned(),
            };
            session.note(format!("left out {what} ({})", entry.digest));
        }
    }
    if copied.referrers + copied.digest_tags > 0 {
        let (referrers, tags) = (copied.referrers, copied.digest_tags);
        session.note(format!("with it: {referrers} referrers, {tags} digest tags"));
    }
}

/// Returns one line about what moved.
pub(super) fn summary(traffic: &Traffic) -> String {
    let Traffic { sent, sent_bytes, already_there, mounted, saved_bytes } = *traffic;
    format!(
        "copied: {sent} blobs ({}), {already_there} already there, {mounted} mounted ({} saved)",
        bytes(sent_bytes),
        bytes(saved_bytes)
    )
}

fn row(job: &CopyJob, copied: &CopiedImage) -> Value {
    json!({
        "source": job.source.to_string(),
        "digest": copied.manifest.digest,
        "mediaType": copied.manifest.media_type,
        "platforms": copied.platforms.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "previous": copied.trimmed.as_ref().map(|trimmed| &trimmed.previous),
        "leftOut": copied.trimmed.as_ref().map(|trimmed| &trimmed.left_out),
        "referrers": copied.referrers,
        "digestTags": copied.digest_tags,
        "targets": copied.deliveries.iter().map(delivered).collect::<Vec<_>>(),
    })
}

/// Returns what became of one target.
pub(super) fn delivered(delivered: &Delivered) -> Value {
    let outcome = match &delivered.outcome {
        Ok(Arrival::Copied) => "copied",
        Ok(Arrival::AlreadyThere) => "already there",
        Err(_) => "failed",
    };
    json!({
        "name": delivered.target.to_string(),
        "outcome": outcome,
        "error": delivered.outcome.as_ref().err().map(ToString::to_string),
        "sent": delivered.traffic.sent,
        "sentBytes": delivered.traffic.sent_bytes,
        "mounted": delivered.traffic.mounted,
        "alreadyThere": delivered.traffic.already_there,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_as_skopeo_names_them() {
        let read = |text: &str| source(text).map(|source| source.to_string());
        assert_eq!(read("docker://alpine:3").expect("valid"), "alpine:3");
        assert_eq!(read("oci:dir:1").expect("valid"), "oci:dir:1");
        let error = source("containers-storage:app").expect_err("refused");
        assert_eq!((error.kind, error.hints.len()), (Kind::Settings, 1));
    }
}
