//! The files that a build starts from: Dockerfile and ignore file.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::build;
use crate::dockerfile::{Frontend, Span};
use crate::ignore::Patterns;

use crate::operations::lock::{LOCK_FILE_NAME, Pins};
use crate::operations::{Error, Kind, Snippet};
use crate::remote::FileName;

use super::contexts::{MainContext, MainKind, SINGLE_FILE, dockerfile_text};
use super::online::Online;
use super::plan::PlanError;
use super::request::{BuildRequest, DockerfileSource};

/// Largest Dockerfile that is read.
pub(super) const MAX_DOCKERFILE_BYTES: u64 = 4 << 20;

/// The texts of a build.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    /// The Dockerfile's name as the user knows it.
    pub(super) name: String,
    /// Its text.
    pub(super) text: String,
    /// What the ignore file leaves out of the context.
    pub(super) ignored: Patterns,
    /// The ignore file's name, when there is one.
    pub(super) ignore_file: Option<String>,
    /// What is taken by digest.
    pub(super) pins: Pins,
}

impl Sources {
    /// Reads the Dockerfile and the ignore file that goes with it: `<name>.dockerignore` beside the
    /// Dockerfile, else `.dockerignore` in the context. Contexts from elsewhere have no ignore file
    /// (BuildKit, `dockerui/context.go`). Blocks.
    pub(super) fn read(
        context: &MainContext,
        request: &BuildRequest,
        online: &Online,
    ) -> Result<Self, Error> {
        let (name, path, text) = find_dockerfile(context, &request.dockerfile, online)?;
        let (ignored, ignore_file) = match &context.kind {
            MainKind::Local => ignore_patterns(&context.root, path.as_deref())?,
            MainKind::Remote | MainKind::SingleFile | MainKind::Dockerfile(_) => {
                (Patterns::default(), None)
            }
        };
        let beside = path.map(|path| path.with_file_name(LOCK_FILE_NAME));
        let pins = Pins::read(request.lock_file.clone().or(beside))?;
        Ok(Self { name, text, ignored, ignore_file, pins })
    }

    pub(super) fn snippet(&self, span: Span) -> Snippet {
        Snippet { file: self.name.clone(), text: self.text.clone(), span }
    }

    /// Turns an error of planning or building into one that shows its place.
    pub(super) fn explain(&self, error: PlanError) -> Error {
        match error {
            PlanError::Operation(error) => error,
            PlanError::Dockerfile(error) => {
                let explained =
                    Error::new(Kind::Build, error.to_string()).at(self.snippet(error.span));
                match Frontend::of(&self.text, &BTreeMap::new()) {
                    Some(frontend) if !frontend.is_known() => explained.hint(format!(
                        "the file asks for the frontend `{}`, which rpub does not have: it reads \
                         the language of docker/dockerfile",
                        frontend.name
                    )),
                    _ => explained,
                }
            }
            PlanError::Build(error) => self.explain_build(error),
        }
    }

    fn explain_build(&self, error: build::Error) -> Error {
        match error {
            build::Error::Refused { message, span, hint } => {
                let mut explained = Error::new(Kind::Build, message);
                explained.snippet = span.map(|span| Box::new(self.snippet(span)));
                explained.hints.extend(hint);
                explained
            }
            build::Error::StepFailed { reason, span, output } => {
                let mut explained = Error::new(Kind::Build, reason).at(self.snippet(span));
                explained.output = Some(output);
                explained
            }
            build::Error::Step { step, span, source } => {
                let explained = Error::from(*source).about(format!("failed to run `{step}`"));
                explained.at(self.snippet(span))
            }
            other => other.into(),
        }
    }
}

/// Finds and reads the Dockerfile: its name, where it is when that is a directory of the user, its text.
fn find_dockerfile(
    context: &MainContext,
    dockerfile: &DockerfileSource,
    online: &Online,
) -> Result<(String, Option<PathBuf>, String), Error> {
    Ok(match (dockerfile, &context.kind) {
        (DockerfileSource::Default, MainKind::Dockerfile(text)) => {
            ("Dockerfile".to_owned(), None, text.clone())
        }
        (_, MainKind::Dockerfile(_)) => {
            let message = "ambiguous Dockerfile source: both stdin and flag correspond to \
                               Dockerfiles";
            return Err(Error::new(Kind::User, message));
        }
        (DockerfileSource::Stdin(bytes), _) => {
            let text = dockerfile_text(bytes.clone(), "Dockerfile")?;
            ("Dockerfile".to_owned(), None, text)
        }
        (DockerfileSource::Url(url), _) => {
            let file = online.file(url, FileName::OfUrl, None)?;
            let text = read_dockerfile(&file.path())?;
            (file.name, None, text)
        }
        (DockerfileSource::File(path), MainKind::Local) => {
            (path.display().to_string(), Some(path.clone()), read_dockerfile(path)?)
        }
        (DockerfileSource::File(path), MainKind::Remote | MainKind::SingleFile) => {
            let name = path.display().to_string();
            if path.is_absolute() {
                (name, None, read_dockerfile(path)?)
            } else {
                (name, None, read_inside(&context.root, path)?)
            }
        }
        (DockerfileSource::Default, _) => {
            let name = context.default_dockerfile()?;
            let path = context.root.join(&name);
            match &context.kind {
                MainKind::Local => (name, Some(path.clone()), read_dockerfile(&path)?),
                _ => (name.clone(), None, read_inside(&context.root, Path::new(&name))?),
            }
        }
    })
}

impl MainContext {
    /// Returns the name of the Dockerfile of a context that the command does not name.
    fn default_dockerfile(&self) -> Result<String, Error> {
        if self.kind == MainKind::SingleFile {
            return Ok(SINGLE_FILE.to_owned());
        }
        // The lower-case name is docker's fallback.
        for name in ["Dockerfile", "dockerfile"] {
            if self.root.join(name).symlink_metadata().is_ok() {
                return Ok(name.to_owned());
            }
        }
        let place = match &self.kind {
            MainKind::Local => format!("`{}`", self.root.display()),
            _ => "the build context".to_owned(),
        };
        let message = format!("no Dockerfile in {place}");
        Err(Error::new(Kind::User, message).hint("name another file with `-f`"))
    }
}

/// Reads a Dockerfile of a tree from elsewhere, whose links must not lead out of it.
fn read_inside(root: &Path, path: &Path) -> Result<String, Error> {
    let what = || format!("failed to read Dockerfile `{}` of the build context", path.display());
    let failed = |error: std::io::Error| Error::new(Kind::User, what()).because(error);
    let root = root.canonicalize().map_err(failed)?;
    let inside = root.join(path).canonicalize().map_err(failed)?;
    if !inside.starts_with(&root) {
        let message = format!("{}: it leads out of it", what());
        return Err(Error::new(Kind::User, message));
    }
    read_dockerfile(&inside)
}

fn read_dockerfile(path: &Path) -> Result<String, Error> {
    let what = || format!("failed to read Dockerfile `{}`", path.display());
    let failed = |error: std::io::Error| Error::new(Kind::User, what()).because(error);
    let file = fs_err::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_DOCKERFILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    dockerfile_text(bytes, &path.display().to_string())
}

/// Reads the ignore file of a context.
pub(super) fn ignore_patterns(
    context: &Path,
    dockerfile: Option<&Path>,
) -> Result<(Patterns, Option<String>), Error> {
    let beside = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in beside.into_iter().chain([context.join(".dockerignore")]) {
        let text = match fs_err::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(Error::new(Kind::User, "failed to read the ignore file").because(error));
            }
        };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let patterns = Patterns::parse(&text).map_err(|error| {
            let message = format!("{}:{}: {error}", path.display(), error.line);
            Error::new(Kind::Build, message)
        })?;
        return Ok((patterns, name));
    }
    Ok((Patterns::default(), None))
}
