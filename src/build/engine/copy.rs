//! `COPY` and `ADD` steps.
//!
//! From the context, the layer's tar is made straight from the files: read once, no mount, no copy.
//! From another stage or image, the worker does the same below a merged view of its snapshots. With
//! `--link` the layers below do not matter: neither to the key nor to the destination.

use std::thread;

use serde_json::{Value, json};

use crate::event::StepOutcome;
use crate::image::Digest;
use crate::layer::{Compression, CopyInput, CopyRequest, View};
use crate::sandbox::CopyFromRequest;

use super::content::{chain_digest, select_in};
use super::missing::explain;
use super::{Build, Stack};
use crate::build::Error;
use crate::build::cache;
use crate::build::layer::Layer;
use crate::build::owner;
use crate::build::plan::{Copy, CopySource, Origin, Remote, Stage, Step, Unpack};
use crate::dockerfile::{GitReference, GitTimes};

impl Build<'_> {
    pub(super) fn copy(
        &self,
        stage: &Stage,
        step: &Step,
        copy: &Copy,
        layers: &Stack,
    ) -> Result<(Layer, StepOutcome), Error> {
        let nothing = Stack::default();
        let below = if copy.link { &nothing } else { layers };
        let context = match copy.from {
            Origin::Context(position) => self.engine.contexts.get(position),
            Origin::Stage(_) | Origin::Image(_) => None,
        };
        let done = match copy.from {
            Origin::Context(position) => self.copy_context(stage, step, copy, below, position),
            Origin::Stage(position) => {
                let source = self.wait_for(position)?;
                self.copy_from(stage, copy, below, &source)
            }
            Origin::Image(image) => {
                self.copy_from(stage, copy, below, &self.plan.bases[image].layers)
            }
        };
        done.map_err(|error| match copy.from {
            Origin::Context(_) => explain(context, step, error),
            from => self.explain_from(from, step, error),
        })
    }

    fn copy_context(
        &self,
        stage: &Stage,
        step: &Step,
        copy: &Copy,
        below: &Stack,
        position: usize,
    ) -> Result<(Layer, StepOutcome), Error> {
        let mut request = self.request(copy)?;
        let selection = select_in(self.engine.contexts.get(position), &request)?;
        let selected = request.clone();
        let content = || self.content_digest(position, &selected, &selection);
        let definition = definition(copy);
        // Recorded along with each layer that this instruction made on these layers: where it is
        // missing there is nothing to find, and nothing to know before the layer is made.
        let any = json!({ "any": definition });
        let any = Self::preimage(any, below, &stage.platform, Vec::new());
        let by_content = |content: Digest| {
            Self::preimage(definition.clone(), below, &stage.platform, vec![content])
        };
        let mut known = None;
        if self.cached(stage, &any)?.is_some() {
            let preimage = by_content(content()?);
            if let Some(layer) = self.cached(stage, &preimage)? {
                return Ok((layer, StepOutcome::Cached));
            }
            known = Some(preimage);
        }
        let view = self.view(below)?;
        request.owner = owner_of(copy, &view)?;
        let _slot = self.slots.take();
        let followed = self.is_final(stage).then_some(step);
        let seal = || self.seal(followed, |tar| Ok(selection.write(&view, &request, tar)?));
        let (preimage, layer) = if let Some(preimage) = known {
            (preimage, seal()?)
        } else {
            let (content, layer) = beside_digest(content, seal)?;
            (by_content(content), layer)
        };
        cache::record(self.engine.store, &preimage, &layer)?;
        cache::record(self.engine.store, &any, &layer)?;
        Ok((layer, StepOutcome::Done))
    }

    /// Two keys lead to the layer: by the source's layers, which costs nothing to look up, and by
    /// the content of what is copied, which still fits when the source was rebuilt.
    fn copy_from(
        &self,
        stage: &Stage,
        copy: &Copy,
        below: &Stack,
        source: &[Layer],
    ) -> Result<(Layer, StepOutcome), Error> {
        let definition = definition(copy);
        let inputs = inputs_from_layers(copy, source);
        let by_layers = Self::preimage(definition.clone(), below, &stage.platform, inputs);
        if let Some(layer) = self.cached(stage, &by_layers)? {
            return Ok((layer, StepOutcome::Cached));
        }
        let view = self.view(below)?;
        let mut copy_request = self.request(copy)?;
        copy_request.owner = owner_of(copy, &view)?;
        let request = self.copy_from_request(copy_request, below, source)?;
        let worker = self.worker()?;
        let _slot = self.slots.take();
        let content = worker.copy_digest(request.clone())?;
        let definition = json!({ "content": definition });
        let by_content = Self::preimage(definition, below, &stage.platform, vec![content]);
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
        below: &[Layer],
        source: &[Layer],
    ) -> Result<CopyFromRequest, Error> {
        let snapshots = self.snapshots(source)?;
        let store = self.engine.store;
        Ok(CopyFromRequest {
            copy,
            layers: snapshots,
            indexes: self.index_paths(source),
            destination_indexes: self.index_paths(below),
            snapshots_directory: store.snapshots_directory(self.worker()?.mapping()),
            paths_directory: store.paths_directory(),
            compression: Compression::default(),
            latest_mtime: None,
        })
    }

    /// Returns the request without the owner, whose name only the destination's files explain. Gets
    /// what is elsewhere.
    pub(super) fn request(&self, copy: &Copy) -> Result<CopyRequest, Error> {
        let mode = copy.chmod.as_deref().map(str::parse).transpose();
        let mode = mode.map_err(|error: crate::layer::InvalidMode| {
            let hint =
                "give `--chmod` an octal number such as 755, or a change such as u=rwX,go=rX";
            Error::Refused { message: error.to_string(), span: None, hint: Some(hint.to_owned()) }
        })?;
        let sources = copy.sources.iter().map(|source| match source {
            CopySource::Path(path) => Ok(CopyInput::Path(path.clone())),
            CopySource::Inline { name, content } => {
                Ok(CopyInput::Inline { name: name.clone(), content: content.clone() })
            }
            CopySource::Remote(remote) => self.fetch(remote, copy.unpack),
        });
        Ok(CopyRequest {
            sources: sources.collect::<Result<_, _>>()?,
            destination: copy.destination.clone(),
            owner: None,
            mode,
            keep_ownership: !matches!(copy.from, Origin::Context(_)),
            parents: copy.parents,
            exclude: copy.exclude.clone(),
            extract: copy.unpack != Unpack::Never,
        })
    }

    /// Brings `remote` here.
    fn fetch(&self, remote: &Remote, unpack: Unpack) -> Result<CopyInput, Error> {
        let fetched = self.engine.remotes.fetch(remote);
        let fetched = fetched.map_err(|source| Error::Remote { source })?;
        Ok(match fetched.file {
            Some(name) => {
                let extract = unpack == Unpack::Always;
                CopyInput::File { directory: fetched.root, name, extract }
            }
            None => CopyInput::Directory(fetched.root),
        })
    }
}

/// Computes the content's digest on a thread of its own while `seal` makes the layer.
fn beside_digest(
    digest: impl FnOnce() -> Result<Digest, Error> + Send,
    seal: impl FnOnce() -> Result<Layer, Error>,
) -> Result<(Digest, Layer), Error> {
    thread::scope(|scope| {
        let hashing = scope.spawn(digest);
        let layer = seal();
        let content = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((content?, layer?))
    })
}

/// Returns what the key says of the instruction: everything but where the sources are and what is
/// in them, which counts by content.
fn definition(copy: &Copy) -> Value {
    let source = |source: &CopySource| match source {
        CopySource::Path(path) => json!(path),
        CopySource::Inline { name, .. } => json!({ "inline": name }),
        CopySource::Remote(Remote::Http { .. }) => json!({ "remote": "file" }),
        // The content does not tell what times its files have.
        CopySource::Remote(Remote::Git { url, .. }) => {
            let reference = GitReference::parse_known(url).ok().flatten();
            let times = reference.map(|reference| reference.times).unwrap_or_default();
            json!({ "remote": "repository", "commit_times": times == GitTimes::Commit })
        }
    };
    json!({
        "copy": copy.instruction,
        "sources": copy.sources.iter().map(source).collect::<Vec<_>>(),
        "destination": copy.destination,
        "chown": copy.chown,
        "chmod": copy.chmod,
        "parents": copy.parents,
        "exclude": copy.exclude,
        "unpack": match copy.unpack {
            Unpack::Never => "never",
            Unpack::Local => "local",
            Unpack::Always => "always",
        },
    })
}

/// Returns what the key of a copy from `source` has as its inputs when only layers are looked at:
/// theirs, and the content of here-documents.
fn inputs_from_layers(copy: &Copy, source: &[Layer]) -> Vec<Digest> {
    let inline = copy.sources.iter().filter_map(|source| match source {
        CopySource::Inline { content, .. } => Some(Digest::of(content.as_bytes())),
        CopySource::Path(_) | CopySource::Remote(_) => None,
    });
    std::iter::once(chain_digest(source)).chain(inline).collect()
}

fn owner_of(copy: &Copy, view: &View) -> Result<Option<(u32, u32)>, Error> {
    let Some(text) = &copy.chown else { return Ok(None) };
    let hint = "with `--link` the image below is not looked at: give `--chown` numbers";
    let hint = copy.link.then(|| hint.to_owned());
    let ids = owner::ids(text, view);
    ids.map(Some).map_err(|message| Error::Refused { message, span: None, hint })
}
