//! Where a date may come from: a build context, or the one remote source of a stage.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::dockerfile::{
    Add, ArgPair, Dockerfile, GitReference, Instruction, InstructionKind, Source, Span, Stage,
    expand_word,
};
use crate::image::Digest;
use crate::operations::build::contexts::{MainContext, MainKind, SINGLE_FILE, archive};
use crate::operations::build::location::ContextLocation;
use crate::operations::build::online::Online;
use crate::operations::build::sources::Sources;
use crate::operations::{Error, Kind};
use crate::remote::{FileName, GitTree};

use super::epoch::NAME;

const ONE_ADD: &str = "it must have exactly one instruction: an `ADD` of one URL or git repository";

/// Something that has a date.
pub(super) enum Dated {
    /// A file of an HTTP server: when it was last modified, else its newest file if it is an
    /// archive.
    Http { url: String, checksum: Option<Digest>, name: FileName<'static> },
    /// A commit.
    Git { reference: GitReference, checksum: Option<String> },
    /// An unpacked archive: its newest file.
    Tree(PathBuf),
    /// An image, which has none.
    Image,
}

impl Dated {
    /// Returns the date, in seconds since 1970. Blocks.
    pub(super) fn date(&self, online: &Online) -> Result<Option<i64>, Error> {
        let unreadable = |error| Error::new(Kind::Internal, "failed to read a file").because(error);
        match self {
            Self::Http { url, checksum, name } => {
                let file = online.file(url, *name, checksum.as_ref())?;
                let modified = fs_err::metadata(file.path()).map_err(unreadable)?.mtime();
                if modified != 0 {
                    return Ok(Some(modified));
                }
                // What only looks like an archive has no date.
                let tree = archive(&file, online).ok().flatten();
                tree.map_or(Ok(None), |tree| newest(&tree.root).map_err(unreadable))
            }
            Self::Git { reference, checksum } => {
                let checksum = checksum.as_deref();
                let wanted = GitTree { reference, checksum, keep_git_dir: false };
                online.commit_time(&wanted).map(Some)
            }
            Self::Tree(root) => newest(root).map_err(unreadable),
            Self::Image => Ok(None),
        }
    }
}

/// Returns the time of the newest regular file of a tree.
fn newest(root: &Path) -> std::io::Result<Option<i64>> {
    let mut newest = None;
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs_err::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                newest = newest.max(Some(entry.metadata()?.mtime()));
            }
        }
    }
    Ok(newest)
}

/// Returns what dates a build context; `main` is given for the main one.
pub(super) fn of_context(
    name: &str,
    location: &ContextLocation,
    main: Option<&MainContext>,
) -> Result<Dated, Error> {
    let local = || {
        let message = format!("{NAME}: `{name}` is a local directory, which has no date");
        Err(Error::new(Kind::Settings, message).hint(
            "give the seconds, such as those of `git log -1 --format=%ct`, or build from a git \
             repository or a URL",
        ))
    };
    match location {
        ContextLocation::Directory(_) => local(),
        ContextLocation::Stdin => match main {
            Some(main) if main.kind == MainKind::Remote => Ok(Dated::Tree(main.root.clone())),
            _ => local(),
        },
        ContextLocation::Http(url) => {
            let (url, name) = (url.clone(), FileName::Given(SINGLE_FILE));
            Ok(Dated::Http { url, checksum: None, name })
        }
        ContextLocation::Git(reference) => {
            Ok(Dated::Git { reference: (**reference).clone(), checksum: None })
        }
        ContextLocation::Image(_) | ContextLocation::Scratch | ContextLocation::Layout { .. } => {
            Ok(Dated::Image)
        }
    }
}

/// Returns what dates a stage: it may only be `FROM scratch` and one `ADD` from elsewhere.
pub(super) fn of_stage(
    stage: &Stage,
    dockerfile: &Dockerfile,
    build_args: &BTreeMap<String, String>,
    sources: &Sources,
) -> Result<Dated, Error> {
    let mut values = BTreeMap::new();
    declare(&dockerfile.global_args, dockerfile, build_args, &mut values);
    // The date is what is looked for.
    values.remove(NAME);
    let refused = |reason: String, span: Span| {
        let name = stage.name.as_ref().map(ToString::to_string).unwrap_or_default();
        let message = format!("{NAME}: the stage `{name}` has no date: {reason}");
        Error::new(Kind::Build, message).at(sources.snippet(span))
    };
    let expand = |text: &str, values: &BTreeMap<String, String>, span: Span| {
        let lookup = |name: &str| values.get(name).cloned();
        expand_word(text, dockerfile.escape, &lookup)
            .map_err(|error| refused(error.to_string(), span))
    };
    if expand(&stage.base.text, &values, stage.base.span)? != "scratch" {
        return Err(refused("it must be `FROM scratch`".to_owned(), stage.base.span));
    }
    let mut found = None;
    for instruction in &stage.instructions {
        let span = instruction.keyword_span;
        match &instruction.kind {
            InstructionKind::Arg(args) => declare(args, dockerfile, build_args, &mut values),
            InstructionKind::Add(add) if found.is_none() => {
                let expand = |text: &str| expand(text, &values, span);
                let source = remote_source(instruction, add, &expand)?;
                found = Some(source.ok_or_else(|| refused(ONE_ADD.to_owned(), span))?);
            }
            _ => return Err(refused(ONE_ADD.to_owned(), span)),
        }
    }
    found.ok_or_else(|| refused(ONE_ADD.to_owned(), stage.span))
}

/// Returns the one source of `ADD`, if it is one and from elsewhere.
fn remote_source(
    instruction: &Instruction,
    add: &Add,
    expand: &dyn Fn(&str) -> Result<String, Error>,
) -> Result<Option<Dated>, Error> {
    let [Source::Path(word)] = add.sources.as_slice() else { return Ok(None) };
    let url = expand(&word.text)?;
    let checksum = add.checksum.as_ref().map(|word| expand(&word.text)).transpose()?;
    let checksum = checksum.filter(|text| !text.is_empty());
    let reference = match instruction.flag("keep-git-dir") {
        Some(_) => GitReference::parse_known(&url),
        None => GitReference::parse(&url),
    };
    let invalid = |error: String| Error::new(Kind::Build, format!("invalid source: {error}"));
    let reference = reference.map_err(|error| invalid(error.to_string()))?;
    if let Some(reference) = reference.filter(|reference| !reference.is_ambiguous) {
        return Ok(Some(Dated::Git { reference, checksum }));
    }
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Ok(None);
    }
    let checksum = checksum.map(|text| text.parse::<Digest>()).transpose();
    let checksum = checksum.map_err(|error| invalid(error.to_string()))?;
    Ok(Some(Dated::Http { url, checksum, name: FileName::OfUrl }))
}

/// Gives arguments their values, each after the ones before it. What cannot be expanded has none:
/// planning says what is wrong with it.
pub(super) fn declare(
    args: &[ArgPair],
    dockerfile: &Dockerfile,
    build_args: &BTreeMap<String, String>,
    values: &mut BTreeMap<String, String>,
) {
    for arg in args {
        let name = &arg.name.text;
        let lookup = |name: &str| values.get(name).cloned();
        let value = build_args.get(name).cloned().or_else(|| {
            let default = arg.default.as_ref()?;
            expand_word(&default.text, dockerfile.escape, &lookup).ok()
        });
        if let Some(value) = value {
            values.insert(name.clone(), value);
        }
    }
}
