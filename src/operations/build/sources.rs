//! The files that a build starts from: Dockerfile and ignore file.

use std::path::{Path, PathBuf};

use crate::build;
use crate::dockerfile::{Patterns, Span};

use crate::operations::{Error, Kind, Snippet};

use super::plan::PlanError;
use super::request::DockerfileSource;

/// Largest Dockerfile that is read.
const MAX_DOCKERFILE_BYTES: u64 = 4 << 20;

/// The texts of a build.
#[derive(Debug)]
pub(super) struct Sources {
    /// The Dockerfile's name as the user knows it.
    pub(super) name: String,
    /// Its text.
    pub(super) text: String,
    /// What the ignore file leaves out of the context.
    pub(super) ignored: Patterns,
    /// The ignore file's name, when there is one.
    pub(super) ignore_file: Option<String>,
}

impl Sources {
    /// Reads the Dockerfile and the ignore file that goes with it: `<name>.dockerignore` beside the
    /// Dockerfile, else `.dockerignore` in the context.
    pub(super) fn read(context: &Path, dockerfile: &DockerfileSource) -> Result<Self, Error> {
        if !context.is_dir() {
            let message = format!("the build context `{}` is not a directory", context.display());
            return Err(Error::new(Kind::User, message));
        }
        let (name, path, text) = match dockerfile {
            DockerfileSource::Text(text) => ("Dockerfile".to_owned(), None, text.clone()),
            DockerfileSource::File(path) => {
                (path.display().to_string(), Some(path.clone()), read_dockerfile(path)?)
            }
            DockerfileSource::Default => {
                let path = default_dockerfile(context)?;
                let name = path
                    .file_name()
                    .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
                let text = read_dockerfile(&path)?;
                (name, Some(path), text)
            }
        };
        let (ignored, ignore_file) = ignore_patterns(context, path.as_deref())?;
        Ok(Self { name, text, ignored, ignore_file })
    }

    pub(super) fn snippet(&self, span: Span) -> Snippet {
        Snippet { file: self.name.clone(), text: self.text.clone(), span }
    }

    /// Turns an error of planning or building into one that shows its place.
    pub(super) fn explain(&self, error: PlanError) -> Error {
        match error {
            PlanError::Operation(error) => error,
            PlanError::Dockerfile(error) => {
                Error::new(Kind::Build, error.to_string()).at(self.snippet(error.span))
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

fn default_dockerfile(context: &Path) -> Result<PathBuf, Error> {
    // The lower-case name is docker's fallback.
    for name in ["Dockerfile", "dockerfile"] {
        let path = context.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let message = format!("no Dockerfile in `{}`", context.display());
    Err(Error::new(Kind::User, message).hint("name another file with `-f`"))
}

fn read_dockerfile(path: &Path) -> Result<String, Error> {
    let what = || format!("failed to read Dockerfile `{}`", path.display());
    let size = fs_err::metadata(path).map_err(|e| Error::new(Kind::User, what()).because(e))?.len();
    if size > MAX_DOCKERFILE_BYTES {
        let message = format!("{}: it is larger than {MAX_DOCKERFILE_BYTES} bytes", what());
        return Err(Error::new(Kind::User, message));
    }
    fs_err::read_to_string(path).map_err(|error| Error::new(Kind::User, what()).because(error))
}

fn ignore_patterns(
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
