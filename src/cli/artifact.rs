//! `artifact`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::image::{Reference, Tag};
use crate::operations::{
    self, ArtifactAnnotations, ArtifactFile, ArtifactNode, ArtifactToPull, ArtifactToPush, Error,
    Existing, Kind,
};

use super::args::{
    ArtifactAttachArgs, ArtifactCommand, ArtifactContentArgs, ArtifactPullArgs, ArtifactPushArgs,
    ArtifactTreeArgs,
};
use super::build::interrupted;
use super::manifest::{pinned, shown};
use super::names::name;
use super::{Context, settings};

/// Largest file of annotations.
const MAX_ANNOTATION_BYTES: u64 = 4 << 20;

/// `artifact` and what is below it.
pub(super) async fn artifact(context: &Context, command: ArtifactCommand) -> Result<(), Error> {
    let work = async {
        match command {
            ArtifactCommand::Push(args) => push(context, args).await,
            ArtifactCommand::Pull(args) => pull(context, args).await,
            ArtifactCommand::Attach(args) => attach(context, args).await,
            ArtifactCommand::Tree(args) => tree(context, args).await,
        }
    };
    tokio::select! {
        done = work => done,
        () = interrupted() => Err(Error::new(Kind::Interrupted, "interrupted")),
    }
}

/// Pushes files, and prints the artifact's name by digest.
async fn push(context: &Context, args: ArtifactPushArgs) -> Result<(), Error> {
    let (name, mut tags) = names(&args.name)?;
    tags.extend(args.tags.iter().map(|tag| parse_tag(tag)).collect::<Result<Vec<_>, _>>()?);
    let config = args.config.as_deref().map(file).transpose()?;
    let request = request(&name, args.content)?;
    let request = ArtifactToPush { tags, config, ..request };
    let pushed = operations::push_artifact(&context.session, request).await?;
    context.progress.finish();
    args.format.print(&pinned(&name, &pushed), &shown(&name, &pushed))
}

/// Pushes files that refer to an image, and prints the artifact's name by digest.
async fn attach(context: &Context, args: ArtifactAttachArgs) -> Result<(), Error> {
    let name = name(&args.name)?.or_latest();
    let platform = settings::platform_given(args.platform.as_deref())?;
    if args.content.artifact_type.is_none() {
        return Err(Error::new(Kind::Settings, "what is attached needs an artifact type")
            .hint("name it with `--artifact-type`, as in `application/spdx+json`"));
    }
    let request = request(&name, args.content)?;
    let subject = operations::head_manifest(&context.session, &name, platform.as_ref()).await?;
    let request = ArtifactToPush { subject: Some(subject), ..request };
    let pushed = operations::push_artifact(&context.session, request).await?;
    context.progress.finish();
    args.format.print(&pinned(&name, &pushed), &shown(&name, &pushed))
}

/// Takes `NAME:TAG,TAG` apart.
fn names(text: &str) -> Result<(Reference, Vec<Tag>), Error> {
    let (first, others) = text.split_once(',').map_or((text, None), |(a, b)| (a, Some(b)));
    let name = name(first)?;
    if name.digest.is_some() {
        let message = format!("`{text}` has a digest, which the push decides");
        return Err(Error::new(Kind::Settings, message));
    }
    let mut tags: Vec<Tag> = name.tag.clone().into_iter().collect();
    for other in others.into_iter().flat_map(|others| others.split(',')) {
        tags.push(parse_tag(other)?);
    }
    Ok((name, tags))
}

fn parse_tag(text: &str) -> Result<Tag, Error> {
    text.parse().map_err(|error: crate::image::Error| {
        Error::new(Kind::Settings, "invalid tag").because(error)
    })
}

fn request(name: &Reference, args: ArtifactContentArgs) -> Result<ArtifactToPush, Error> {
    if let Some(kind) = &args.artifact_type {
        check_media_type(kind)?;
    }
    let mut annotations = match &args.annotation_file {
        Some(path) => annotation_file(path)?,
        None => ArtifactAnnotations::default(),
    };
    for text in &args.annotations {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                annotations.manifest.insert(key.to_owned(), value.to_owned());
            }
            _ => {
                let message = format!("invalid `--annotation {text}`: expected KEY=VALUE");
                return Err(Error::new(Kind::Settings, message));
            }
        }
    }
    Ok(ArtifactToPush {
        repository: name.repository.clone(),
        tags: Vec::new(),
        artifact_type: args.artifact_type,
        config: None,
        files: args.files.iter().map(|text| file(text)).collect::<Result<_, _>>()?,
        annotations,
        subject: None,
    })
}

/// Takes `FILE[:TYPE]` apart. A file that has that whole name is meant.
fn file(text: &str) -> Result<ArtifactFile, Error> {
    let whole = || ArtifactFile { path: PathBuf::from(text), media_type: None };
    match text.rsplit_once(':') {
        Some((path, kind)) if !path.is_empty() && !Path::new(text).exists() => {
            check_media_type(kind)?;
            Ok(ArtifactFile { path: PathBuf::from(path), media_type: Some(kind.to_owned()) })
        }
        _ => Ok(whole()),
    }
}

/// RFC 6838, section 4.2: `type/subtype`, each of a few characters.
fn check_media_type(text: &str) -> Result<(), Error> {
    let is_name = |part: &str| {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&c);
        (1..=127).contains(&part.len()) && part.bytes().all(allowed)
    };
    match text.split_once('/') {
        Some((first, second)) if is_name(first) && is_name(second) => Ok(()),
        _ => Err(Error::new(Kind::Settings, format!("`{text}` is no media type"))
            .hint("a media type is a type and a subtype, as in `text/plain`")),
    }
}

/// Reads annotations in oras' form: `{"$manifest": {...}, "$config": {...}, "file": {...}}`.
fn annotation_file(path: &Path) -> Result<ArtifactAnnotations, Error> {
    let failed = |error: std::io::Error| {
        Error::new(Kind::Settings, "failed to read the `--annotation-file`").because(error)
    };
    let mut text = String::new();
    let opened = fs_err::File::open(path).map_err(failed)?;
    opened.take(MAX_ANNOTATION_BYTES).read_to_string(&mut text).map_err(failed)?;
    let mut parts: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(&text)
        .map_err(|error| {
            let message = format!("the `--annotation-file` `{}` is wrong", path.display());
            Error::new(Kind::Settings, message)
                .because(error)
                .hint("it has the form `{\"$manifest\": {\"key\": \"value\"}, \"file\": {...}}`")
        })?;
    Ok(ArtifactAnnotations {
        manifest: parts.remove("$manifest").unwrap_or_default(),
        config: parts.remove("$config").unwrap_or_default(),
        files: parts,
    })
}

/// Pulls files, and prints where they are.
async fn pull(context: &Context, args: ArtifactPullArgs) -> Result<(), Error> {
    let name = name(&args.name)?.or_latest();
    let existing = if args.overwrite { Existing::Overwrite } else { Existing::Refuse };
    let request = ArtifactToPull {
        name: name.clone(),
        platform: settings::platform_given(args.platform.as_deref())?,
        directory: args.output.clone(),
        existing,
    };
    let pulled = operations::pull_artifact(&context.session, request).await?;
    if !pulled.unnamed.is_empty() {
        let count = pulled.unnamed.len();
        context.session.warn(format!(
            "{count} parts of the artifact have no file name: get them with `rpub blob get`"
        ));
    }
    context.progress.finish();
    let path = |title: &Path| args.output.join(title).display().to_string();
    let lines: Vec<String> = pulled.files.iter().map(|(title, _)| path(title)).collect();
    let mut value = shown(&name, &pulled.manifest);
    value["artifactType"] = json!(pulled.artifact_type);
    let files = pulled.files.iter().map(|(title, descriptor)| {
        let mut file = shown(&name, descriptor);
        file["path"] = json!(path(title));
        file
    });
    value["files"] = files.collect();
    if lines.is_empty() && args.format.format.is_none() {
        return Ok(());
    }
    args.format.print(&lines.join("\n"), &value)
}

/// Draws the tree of what refers to an image.
async fn tree(context: &Context, args: ArtifactTreeArgs) -> Result<(), Error> {
    let name = name(&args.name)?.or_latest();
    let platform = settings::platform_given(args.platform.as_deref())?;
    let wanted = args.artifact_type.as_deref();
    let root =
        operations::artifact_tree(&context.session, &name, platform.as_ref(), wanted).await?;
    let mut text = pinned(&name, &root.descriptor);
    draw(&root, "", &mut text);
    args.format.print(&text, &node(&name, &root))
}

fn draw(parent: &ArtifactNode, indent: &str, text: &mut String) {
    let count = parent.referrers.len();
    for (number, child) in parent.referrers.iter().enumerate() {
        let is_last = number + 1 == count;
        let (branch, below) =
            if is_last { ("└── ", "    ") } else { ("├── ", "│   ") };
        let kind = child.descriptor.artifact_type.as_deref().unwrap_or("<no artifact type>");
        let kind = kind.replace(char::is_control, "");
        let more = if child.is_cut { " ..." } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{indent}{branch}{} {kind}{more}", child.descriptor.digest);
        draw(child, &format!("{indent}{below}"), text);
    }
}

fn node(name: &Reference, from: &ArtifactNode) -> Value {
    let mut value = shown(name, &from.descriptor);
    value["referrers"] = from.referrers.iter().map(|child| node(name, child)).collect();
    if from.is_cut {
        value["cut"] = json!(true);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_may_have_a_type() {
        let parsed = |text: &str| {
            file(text).ok().map(|file| (file.path.display().to_string(), file.media_type))
        };
        let typed = |path: &str, kind: &str| Some((path.to_owned(), Some(kind.to_owned())));
        assert_eq!(parsed("a.txt"), Some(("a.txt".to_owned(), None)));
        assert_eq!(parsed("a.txt:text/plain"), typed("a.txt", "text/plain"));
        assert_eq!(parsed("a:b:text/plain"), typed("a:b", "text/plain"));
        assert_eq!(parsed("a:plain"), None);
        assert_eq!(parsed("a:text/pl ain"), None);
    }

    #[test]
    fn names_may_have_several_tags() {
        let tags = |text: &str| {
            let (_, tags) = names(text).ok()?;
            Some(tags.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(tags("r.example/a"), Some(vec![]));
        assert_eq!(
            tags("r.example/a:1,2,latest"),
            Some(["1", "2", "latest"].map(Into::into).into())
        );
        assert_eq!(tags("r.example/a:1,"), None);
    }
}
