//! Files that a step reads without copying them into a layer: their content's digest, and a snapshot
//! of them to mount (`RUN --mount=type=bind`).

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::image::Digest;
use crate::layer::{
    Compression, CopyInput, CopyRequest, LayerTar, LayerWriter, Selection, SourceTree, View, select,
};
use crate::sandbox::UnpackRequest;

use super::Build;
use super::stack::chain_of;
use crate::build::Error;
use crate::build::context::Context;
use crate::build::layer::Layer;
use crate::build::plan::Origin;

/// The name that files of a context have in their snapshot.
const NAME: &str = "content";

/// Files of a build context, unpacked under mapped ids and owned by root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContextFiles {
    /// The snapshot's directory: a layer of its own, which no image has.
    pub(super) snapshot: PathBuf,
    /// Its path index.
    pub(super) index: PathBuf,
    /// Where in it the asked for file or directory is.
    pub(super) path: PathBuf,
}

impl Build<'_> {
    /// Returns the digest of what is at the absolute `path` of `from`: names, kinds, modes, owners,
    /// link targets and contents, not times. Of a whole stage or image, the digest of its layers.
    ///
    /// # Errors
    ///
    /// [`CopyError::NotFound`](crate::layer::CopyError::NotFound) when nothing is there, or the
    /// ignore file leaves it out.
    pub(super) fn content_of(&self, from: Origin, path: &str) -> Result<Digest, Error> {
        let source = match from {
            Origin::Context(position) => {
                return self.context_digest(position, &mount_request(path, false));
            }
            Origin::Stage(position) => self.wait_for(position)?,
            Origin::Image(image) => self.plan.bases[image].layers.clone(),
        };
        if Path::new(path).components().all(|part| !matches!(part, std::path::Component::Normal(_)))
        {
            return Ok(chain_digest(&source));
        }
        let request = self.copy_from_request(mount_request(path, true), &[], &source)?;
        Ok(self.worker()?.copy_digest(request)?)
    }

    /// Unpacks what is at the absolute `path` of the context at `position`, as
    /// [`Build::content_of`] sees it and with the times that the files have now. The snapshot is
    /// neither compressed nor uploaded nor part of an image; it is kept until the store is pruned.
    ///
    /// # Errors
    ///
    /// Those of [`Build::content_of`], and of writing.
    pub(super) fn context_files(&self, position: usize, path: &str) -> Result<ContextFiles, Error> {
        let selection = context_selection(self.context(position)?, path)?;
        let request = mount_request(path, false);
        let store = self.engine.store;
        let ingest = store.ingest_file()?;
        let clone = || {
            let file = ingest.file().try_clone();
            file.map_err(|source| Error::Io { what: "open a temporary file", source })
        };
        let mut tar = LayerTar::new(LayerWriter::new(clone()?, Compression::None));
        selection.write(&View::default(), &request, &mut tar)?;
        let (writer, _) = tar.finish()?;
        let sealed = writer
            .finish()
            .map_err(|source| Error::Io { what: "write a temporary file", source })?;
        let worker = self.worker()?;
        let target = store.snapshot_path(worker.mapping(), &sealed.diff_id);
        let index = store.paths_index_path(&sealed.diff_id);
        let unpack = UnpackRequest {
            diff_id: sealed.diff_id,
            temporary: store.snapshot_temporary(worker.mapping())?,
            target: target.clone(),
            index: index.clone(),
        };
        let mut file = clone()?;
        std::io::Seek::rewind(&mut file)
            .map_err(|source| Error::Io { what: "read a temporary file", source })?;
        worker.unpack(unpack, OwnedFd::from(file))?;
        Ok(ContextFiles { snapshot: target, index, path: PathBuf::from(NAME) })
    }

    /// Returns the context at `position` of the plan's contexts.
    pub(super) fn context(&self, position: usize) -> Result<&Context, Error> {
        self.engine.contexts.get(position).ok_or_else(|| Error::Refused {
            message: "a build context is needed".to_owned(),
            span: None,
            hint: None,
        })
    }
}

/// Finds `request`'s sources, paths in `context` without what its ignore file leaves out.
pub(super) fn select_in(
    context: Option<&Context>,
    request: &CopyRequest,
) -> Result<Selection, Error> {
    let tree = context.map(|context| SourceTree {
        root: &context.root,
        ignored: Some(&context.ignored),
        owners: context.owners.as_deref(),
        metadata: context.metadata,
    });
    Ok(select(tree.as_ref(), request)?)
}

fn context_selection(context: &Context, path: &str) -> Result<Selection, Error> {
    select_in(Some(context), &mount_request(path, false))
}

/// Returns the request that takes `path` as it is to [`NAME`].
pub(super) fn mount_request(path: &str, keep_ownership: bool) -> CopyRequest {
    CopyRequest {
        sources: vec![CopyInput::Exact(path.to_owned())],
        destination: format!("/{NAME}"),
        keep_ownership,
        ..CopyRequest::default()
    }
}

/// Returns the digest of a stack of layers; of nothing, that of no bytes.
pub(super) fn chain_digest(layers: &[Layer]) -> Digest {
    chain_of(layers).map_or_else(|| Digest::of(b""), |chain| chain.0)
}
