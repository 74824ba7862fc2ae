//! What to say when the sources of `COPY` and `ADD` are not there or do not fit.

use std::path::{Path, PathBuf};

use crate::dockerfile;
use crate::ignore::Reason;
use crate::layer::CopyError;
use crate::sandbox;

use super::Build;
use crate::build::Error;
use crate::build::context::Context;
use crate::build::layer::Layer;
use crate::build::plan::{Origin, Step};

/// Turns what the user can mend into a refusal at the instruction.
pub(super) fn explain(context: Option<&Context>, step: &Step, error: Error) -> Error {
    let Error::Copy(error) = error else { return error };
    match &error {
        CopyError::NotFound { pattern, excluded } => {
            let reason = context
                .filter(|_| *excluded)
                .and_then(|context| Some((context, context.reason(&relative(pattern))?)));
            let hint = match (reason, context) {
                (Some((context, reason)), _) => Some(excluded_by(context, &reason)),
                (None, Some(context)) => Some(looked_in(context, &relative(pattern))),
                (None, None) => None,
            };
            let message = format!("\"{pattern}\": not found");
            Error::Refused { message, span: Some(step.span), hint }
        }
        CopyError::Pattern(_)
        | CopyError::Exclude { .. }
        | CopyError::DestinationNotDirectory(_)
        | CopyError::NotDirectory(_)
        | CopyError::IsDirectory(_)
        | CopyError::LinkLoop(_)
        | CopyError::Outside { .. } => {
            Error::Refused { message: error.to_string(), span: Some(step.span), hint: None }
        }
        _ => Error::Copy(error),
    }
}

impl Build<'_> {
    /// Does what [`explain`] does for a copy from another stage or an image.
    pub(super) fn explain_from(&self, from: Origin, step: &Step, error: Error) -> Error {
        let Error::Sandbox(sandbox::Error::CopySourceNotFound { pattern }) = error else {
            return explain(None, step, error);
        };
        let (place, layers) = match from {
            Origin::Stage(at) => {
                let name = &self.plan.stages[at].name;
                (format!("the stage `{name}`"), self.wait_for(at).ok())
            }
            Origin::Image(at) => {
                let base = &self.plan.bases[at];
                (format!("the image `{}`", base.reference.familiar()), Some(base.layers.clone()))
            }
            Origin::Context(_) => ("the build context".to_owned(), None),
        };
        let near = layers.and_then(|layers| self.near(&layers, &relative(&pattern)));
        let hint = match near {
            Some(near) => format!("did you mean `/{}`, in {place}?", near.display()),
            None => format!("{place} has no such file"),
        };
        let message = format!("\"{pattern}\": not found");
        Error::Refused { message, span: Some(step.span), hint: Some(hint) }
    }

    /// Returns the path that `path` may have been meant to be, in the same directory.
    fn near(&self, layers: &[Layer], path: &Path) -> Option<PathBuf> {
        // Only for the hint: what cannot be read has no near names.
        let view = self.view(layers).ok()?;
        let directory = view.resolve(path.parent()?, true).ok()?;
        let children = view.children(&directory);
        let names: Vec<_> = children.iter().filter_map(|e| e.path.file_name()?.to_str()).collect();
        let wanted = path.file_name()?.to_string_lossy();
        Some(directory.join(dockerfile::suggest(&wanted, names.iter().copied())?))
    }
}

fn relative(pattern: &str) -> PathBuf {
    Path::new(pattern)
        .components()
        .filter(|part| matches!(part, std::path::Component::Normal(_)))
        .collect()
}

/// Says where a file was looked for, and the name there that it may have been meant to be.
fn looked_in(context: &Context, path: &Path) -> String {
    let (root, place) = (&context.root, context.shown());
    let directory = path.parent().unwrap_or(Path::new(""));
    // Only for the hint: a directory that cannot be read has no near names.
    let entries = fs_err::read_dir(root.join(directory)).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    let wanted = path.file_name().unwrap_or_default().to_string_lossy();
    if let Ok(target) = fs_err::read_link(root.join(path)) {
        let (link, target) = (path.display(), target.display());
        return format!("`{link}` links to `{target}`, which {place} does not have");
    }
    let same = names.iter().map(String::as_str).find(|name| name.eq_ignore_ascii_case(&wanted));
    let near = same.or_else(|| dockerfile::suggest(&wanted, names.iter().map(String::as_str)));
    match near.map(|near| directory.join(near)) {
        Some(near) => format!("did you mean `{}`, in {place}?", near.display()),
        None => format!("the build context is {place}"),
    }
}

fn excluded_by(context: &Context, reason: &Reason) -> String {
    let file = context.ignore_file.as_deref().unwrap_or(".dockerignore");
    format!("it is there, but line {} of {file} excludes it: `{}`", reason.line, reason.pattern)
}
