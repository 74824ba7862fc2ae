//! Build contexts: from where they are to directories of this machine.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::build::Context;
use crate::dockerfile::{self, NotText};
use crate::ignore::Patterns;
use crate::layer::{Metadata, PathIndex};
use crate::operations::{Error, Kind, Snippet};
use crate::remote::{
    FileName, GitTree, RemoteFile, SNIFFED_BYTES, TemporaryTree, Tree, is_archive,
};

use super::location::ContextLocation;
use super::online::Online;
use super::request::BuildRequest;
use super::sources::{MAX_DOCKERFILE_BYTES, ignore_patterns};

/// The name of the file that a URL gives, when it is no archive (BuildKit, `dockerui/context.go`).
pub(super) const SINGLE_FILE: &str = "context";
/// The build argument that keeps `.git` of a git context.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// The main build context, as a directory of this machine.
#[derive(Debug, Clone)]
pub(super) struct MainContext {
    /// The directory.
    pub(super) root: PathBuf,
    /// What it is.
    pub(super) kind: MainKind,
    /// Whose its files are, when they came as an archive.
    pub(super) owners: Option<Arc<PathIndex>>,
    /// Removes the directory when the build is done.
    _tree: Option<Arc<TemporaryTree>>,
}

/// What the main context is, as far as it decides where the Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MainKind {
    /// A directory of the user.
    Local,
    /// Files from elsewhere: untrusted, and without an ignore file.
    Remote,
    /// A single file from elsewhere: the Dockerfile.
    SingleFile,
    /// Nothing: standard input gave this Dockerfile.
    Dockerfile(String),
}

impl MainContext {
    /// Opens the main context of `request`. Blocks.
    pub(super) fn open(request: &BuildRequest, online: &Online) -> Result<Self, Error> {
        let remote = |root| Self { root, kind: MainKind::Remote, owners: None, _tree: None };
        match &request.context {
            ContextLocation::Directory(path) => {
                check_directory(path)?;
                Ok(Self { kind: MainKind::Local, ..remote(path.clone()) })
            }
            ContextLocation::Stdin => Self::from_stdin(online),
            ContextLocation::Http(url) => {
                let file = online.file(url, FileName::Given(SINGLE_FILE), None)?;
                match archive(&file, online)? {
                    Some(tree) => Ok(Self { owners: tree.owners, ..remote(tree.root) }),
                    None => Ok(Self { kind: MainKind::SingleFile, ..remote(file.directory) }),
                }
            }
            ContextLocation::Git(reference) => {
                let keeps = request.build_args.get(KEEP_GIT_DIR).is_some_and(|text| is_true(text));
                let wanted = GitTree { reference, checksum: None, keep_git_dir: keeps };
                Ok(remote(online.repository(&wanted)?.root))
            }
            ContextLocation::Image(_)
            | ContextLocation::Scratch
            | ContextLocation::Layout { .. } => {
                let message = "an image cannot be the main build context";
                Err(Error::new(Kind::Settings, message)
                    .hint("name it by `--build-context NAME=...` and use `COPY --from=NAME`"))
            }
        }
    }

    /// Reads standard input: a tar of any compression, or else a Dockerfile.
    fn from_stdin(online: &Online) -> Result<Self, Error> {
        let store = &online.session.store;
        let unreadable =
            |error| Error::new(Kind::User, "failed to read standard input").because(error);
        let mut stdin = std::io::stdin().lock();
        let mut first = Vec::with_capacity(SNIFFED_BYTES);
        stdin.by_ref().take(SNIFFED_BYTES as u64).read_to_end(&mut first).map_err(unreadable)?;
        if first.is_empty() {
            return Err(Error::new(Kind::User, "standard input is empty")
                .hint("give a Dockerfile or a tar of the build context"));
        }
        if is_archive(&first) {
            // Not locked: another thread reads on.
            drop(stdin);
            let whole = std::io::Cursor::new(first).chain(std::io::stdin());
            let tree = TemporaryTree::unpack(store, whole, "standard input")?;
            let (root, owners) = (tree.root().to_owned(), tree.owners());
            return Ok(Self { root, kind: MainKind::Remote, owners, _tree: Some(Arc::new(tree)) });
        }
        let rest = MAX_DOCKERFILE_BYTES + 1 - first.len() as u64;
        stdin.take(rest).read_to_end(&mut first).map_err(unreadable)?;
        let text = dockerfile_text(first, "standard input")?;
        let tree = TemporaryTree::new(store)?;
        let root = tree.root().to_owned();
        let kind = MainKind::Dockerfile(text);
        Ok(Self { root, kind, owners: None, _tree: Some(Arc::new(tree)) })
    }
}

/// Returns bytes as the text of a Dockerfile.
pub(super) fn dockerfile_text(bytes: Vec<u8>, name: &str) -> Result<String, Error> {
    if bytes.len() as u64 > MAX_DOCKERFILE_BYTES {
        let message = format!(
            "failed to read the Dockerfile `{name}`: it is larger than {MAX_DOCKERFILE_BYTES} bytes"
        );
        return Err(Error::new(Kind::User, message));
    }
    dockerfile::decode(bytes).map_err(|refusal| {
        let NotText { error, text } = *refusal;
        let snippet = Snippet { file: name.to_owned(), text, span: error.span };
        Error::new(Kind::Build, error.to_string()).at(snippet)
    })
}

/// Opens a named context that is files. Blocks.
pub(super) fn open_named(
    name: &str,
    location: &ContextLocation,
    online: &Online,
) -> Result<Context, Error> {
    let about = |error: Error| error.about(format!("failed to get the build context `{name}`"));
    let metadata = Metadata::All;
    let plain = |root| {
        let (ignored, ignore_file, owners) = (Patterns::default(), None, None);
        let name = location.shown();
        Context { root, name, ignored, ignore_file, owners, metadata }
    };
    match location {
        ContextLocation::Directory(path) => {
            check_directory(path).map_err(about)?;
            let (ignored, ignore_file) = ignore_patterns(path, None).map_err(about)?;
            Ok(Context { ignored, ignore_file, ..plain(path.clone()) })
        }
        ContextLocation::Http(url) => {
            // BuildKit gives the archive itself, as a file `context`, which nobody can use.
            let file = online.file(url, FileName::Given(SINGLE_FILE), None).map_err(about)?;
            let tree = archive(&file, online).map_err(about)?;
            Ok(match tree {
                Some(tree) => Context { owners: tree.owners, ..plain(tree.root) },
                None => plain(file.directory),
            })
        }
        ContextLocation::Git(reference) => {
            let wanted = GitTree { reference, checksum: None, keep_git_dir: false };
            Ok(plain(online.repository(&wanted).map_err(about)?.root))
        }
        ContextLocation::Stdin
        | ContextLocation::Image(_)
        | ContextLocation::Scratch
        | ContextLocation::Layout { .. } => {
            let message = format!("the build context `{name}` is no directory of files");
            Err(Error::new(Kind::Internal, message))
        }
    }
}

/// Unpacks `file` when it is an archive.
pub(super) fn archive(file: &RemoteFile, online: &Online) -> Result<Option<Tree>, Error> {
    let mut first = Vec::with_capacity(SNIFFED_BYTES);
    let unreadable = |error| Error::new(Kind::Internal, "failed to read a download").because(error);
    let opened = fs_err::File::open(file.path()).map_err(unreadable)?;
    opened.take(SNIFFED_BYTES as u64).read_to_end(&mut first).map_err(unreadable)?;
    if !is_archive(&first) {
        return Ok(None);
    }
    let store = &online.session.store;
    Ok(Some(Tree::of_archive(store, &file.path(), &file.digest, "the build context")?))
}

fn check_directory(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let message = format!("the build context `{}` is not a directory", path.display());
    Err(Error::new(Kind::User, message))
}

/// Reads a truth as Go's `strconv.ParseBool` does.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}
