//! `COPY` and `ADD` steps.
//!
//! From the context, the layer's tar is made straight from the files: read once, no mount, no copy.
//! From another stage or image, the worker does the same below a merged view of its snapshots.

use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Value, json};

use crate::dockerfile::{self, Reason};
use crate::event::StepOutcome;
use crate::image::Digest;
use crate::layer::{Compression, CopyError, CopyRequest, Selection, View};
use crate::sandbox::CopyFromRequest;

use super::Build;
use super::content::{chain_digest, select_in};
use crate::build::Error;
use crate::build::cache;
use crate::build::context::Context;
use crate::build::layer::Layer;
use crate::build::owner;
use crate::build::plan::{Copy, CopySource, Origin, Stage, Step, Unpack};

impl Build<'_> {
    pub(super) fn copy(
        &self,
        stage: &Stage,
        step: &Step,
        copy: &Copy,
        layers: &[Layer],
    ) -> Result<(Layer, StepOutcome), Error> {
        let done = match copy.from {
            Origin::Context(position) => {
                self.copy_context(stage, step, copy, layers, self.context(position)?)
            }
            Origin::Stage(position) => {
                let source = self.wait_for(position)?;
                self.copy_from(stage, copy, layers, &source)
            }
            Origin::Image(image) => {
                let source = self.plan.bases[image].layers.clone();
                self.copy_from(stage, copy, layers, &source)
            }
        };
        let context = match copy.from {
            Origin::Context(position) => self.engine.contexts.get(position),
            Origin::Stage(_) | Origin::Image(_) => None,
        };
        done.map_err(|error| explain(context, step, error))
    }

    fn copy_context(
        &self,
        stage: &Stage,
        step: &Step,
        copy: &Copy,
        layers: &[Layer],
        context: &Context,
    ) -> Result<(Layer, StepOutcome), Error> {
        let mut request = request(copy)?;
        let selection = select_in(context, &request)?;
        let definition = definition(copy);
        // Recorded along with each layer that this instruction made on these layers: where it is
        // missing there is nothing to find, and nothing to know before the layer is made.
        let any = json!({ "any": definition });
        let any = Self::preimage(any, layers, &stage.platform, Vec::new());
        let by_content = |content: Digest| {
            Self::preimage(definition.clone(), layers, &stage.platform, vec![content])
        };
        let mut known = None;
        if self.cached(stage, &any)?.is_some() {
            let preimage = by_content(selection.digest(self.stat_cache())?);
            if let Some(layer) = self.cached(stage, &preimage)? {
                return Ok((layer, StepOutcome::Cached));
            }
            known = Some(preimage);
        }
        let view = self.view(layers)?;
        request.owner = owner_of(copy, &view)?;
        let _slot = self.slots.take();
        let followed = self.is_final(stage).then_some(step);
        let seal = || self.seal(followed, |tar| Ok(selection.write(&view, &request, tar)?));
        let (preimage, layer) = if let Some(preimage) = known {
            (preimage, seal()?)
        } else {
            let (content, layer) = self.beside_digest(&selection, seal)?;
            (by_content(content), layer)
        };
        cache::record(self.engine.store, &preimage, &layer)?;
        cache::record(self.engine.store, &any, &layer)?;
        Ok((layer, StepOutcome::Done))
    }

    /// Computes the selection's digest on a thread of its own while `seal` makes the layer.
    fn beside_digest(
        &self,
        selection: &Selection,
        seal: impl FnOnce() -> Result<Layer, Error>,
    ) -> Result<(Digest, Layer), Error> {
        thread::scope(|scope| {
            let hashing = scope.spawn(|| selection.digest(self.stat_cache()));
            let layer = seal();
            let content = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok((content?, layer?))
        })
    }

    /// Two keys lead to the layer: by the source's layers, which costs nothing to look up, and by
    /// the content of what is copied, which still fits when the source was rebuilt.
    fn copy_from(
        &self,
        stage: &Stage,
        copy: &Copy,
        layers: &[Layer],
        source: &[Layer],
    ) -> Result<(Layer, StepOutcome), Error> {
        let definition = definition(copy);
        let inputs = vec![chain_digest(source)];
        let by_layers = Self::preimage(definition.clone(), layers, &stage.platform, inputs);
        if let Some(layer) = self.cached(stage, &by_layers)? {
            return Ok((layer, StepOutcome::Cached));
        }
        let view = self.view(layers)?;
        let mut copy_request = request(copy)?;
        copy_request.owner = owner_of(copy, &view)?;
        let request = self.copy_from_request(copy_request, layers, source)?;
        let worker = self.worker()?;
        let _slot = self.slots.take();
        let content = worker.copy_digest(request.clone())?;
        let definition = json!({ "content": definition });
        let by_content = Self::preimage(definition, layers, &stage.platform, vec![content]);
        if let Some(layer) = self.cached(stage, &by_content)? {
            cache::record(self.engine.store, &by_layers, &layer)?;
            return Ok((layer, StepOutcome::Cached));
        }
        let layer = self.keep_sealed(|output| worker.copy_from(request, output))?;
        cache::record(self.engine.store, &by_layers, &layer)?;
        cache::record(self.engine.store, &by_content, &layer)?;
        Ok((layer, StepOutcome::Done))
    }

    pub(super) fn copy_from_request(
        &self,
        copy: CopyRequest,
        layers: &[Layer],
        source: &[Layer],
    ) -> Result<CopyFromRequest, Error> {
        let snapshots = self.snapshots(source)?;
        let store = self.engine.store;
        Ok(CopyFromRequest {
            copy,
            layers: snapshots,
            indexes: self.index_paths(source),
            destination_indexes: self.index_paths(layers),
            snapshots_directory: store.snapshots_directory(self.worker()?.mapping()),
            paths_directory: store.paths_directory(),
            compression: Compression::default(),
            latest_mtime: None,
        })
    }
}

fn paths(copy: &Copy) -> Vec<String> {
    let path = |source: &CopySource| match source {
        CopySource::Path(path) => Some(path.clone()),
        CopySource::Inline { .. } | CopySource::Remote(_) => None,
    };
    copy.sources.iter().filter_map(path).collect()
}

/// Returns what the key says of the instruction: everything but where the sources are, which
/// counts by content.
fn definition(copy: &Copy) -> Value {
    json!({
        "copy": copy.instruction,
        "sources": paths(copy),
        "destination": copy.destination,
        "chown": copy.chown,
        "chmod": copy.chmod,
        "extract": copy.unpack != Unpack::Never,
    })
}

/// Returns the request without the owner, whose name only the destination's files explain.
fn request(copy: &Copy) -> Result<CopyRequest, Error> {
    let mode = copy.chmod.as_deref().map(str::parse).transpose();
    let mode = mode.map_err(|error: crate::layer::InvalidMode| Error::Refused {
        message: error.to_string(),
        span: None,
        hint: Some(
            "give `--chmod` an octal number such as 755, or a change such as u=rwX,go=rX"
                .to_owned(),
        ),
    })?;
    Ok(CopyRequest {
        sources: paths(copy),
        destination: copy.destination.clone(),
        owner: None,
        mode,
        keep_ownership: !matches!(copy.from, Origin::Context(_)),
        extract: copy.unpack != Unpack::Never,
    })
}

fn owner_of(copy: &Copy, view: &View) -> Result<Option<(u32, u32)>, Error> {
    let Some(text) = &copy.chown else { return Ok(None) };
    let ids = owner::ids(text, view);
    ids.map(Some).map_err(|message| Error::Refused { message, span: None, hint: None })
}

/// Turns what the user can mend into a refusal at the instruction.
fn explain(context: Option<&Context>, step: &Step, error: Error) -> Error {
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

fn relative(pattern: &str) -> PathBuf {
    Path::new(pattern)
        .components()
        .filter(|part| matches!(part, std::path::Component::Normal(_)))
        .collect()
}

/// Says where a file was looked for, and the name there that it may have been meant to be.
fn looked_in(context: &Context, path: &Path) -> String {
    let root = context.root.canonicalize().unwrap_or_else(|_| context.root.clone());
    let directory = path.parent().unwrap_or(Path::new(""));
    // Only for the hint: a directory that cannot be read has no near names.
    let entries = fs_err::read_dir(root.join(directory)).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    let wanted = path.file_name().unwrap_or_default().to_string_lossy();
    let near = dockerfile::suggest(&wanted, names.iter().map(String::as_str));
    match near.map(|near| directory.join(near)) {
        Some(near) => format!("did you mean `{}`, in {}?", near.display(), root.display()),
        None => format!("the build context is {}", root.display()),
    }
}

fn excluded_by(context: &Context, reason: &Reason) -> String {
    let file = context.ignore_file.as_deref().unwrap_or(".dockerignore");
    format!("it is there, but line {} of {file} excludes it: `{}`", reason.line, reason.pattern)
}
