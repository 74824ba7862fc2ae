//! Root file systems: which snapshots a stack of layers needs, and what is in them.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{Direction, Event, TransferId, TransferOutcome};
use crate::layer::{PathIndex, View};
use crate::sandbox::UnpackRequest;

use super::Build;
use crate::build::Error;
use crate::build::layer::Layer;
use crate::build::plan::Base;

impl Build<'_> {
    /// Returns the snapshot directories of `layers`, bottom first; what is missing is fetched and
    /// unpacked, all layers side by side.
    pub(super) fn snapshots(&self, layers: &[Layer]) -> Result<Vec<PathBuf>, Error> {
        let mapping = self.worker()?.mapping().to_owned();
        let path = |layer: &Layer| self.engine.store.snapshot_path(&mapping, &layer.diff_id);
        let mut missing: Vec<&Layer> = Vec::new();
        for layer in layers.iter().filter(|layer| !path(layer).exists()) {
            if !missing.iter().any(|other| other.diff_id == layer.diff_id) {
                missing.push(layer);
            }
        }
        match missing.as_slice() {
            [] => {}
            [layer] => self.unpack(&mapping, layer)?,
            several => std::thread::scope(|scope| {
                let threads: Vec<_> = several
                    .iter()
                    .map(|layer| scope.spawn(|| self.unpack(&mapping, layer)))
                    .collect();
                threads
                    .into_iter()
                    .try_for_each(|thread| thread.join().unwrap_or(Err(Error::Canceled)))
            })?,
        }
        Ok(layers.iter().map(path).collect())
    }

    /// Returns the path index files of `layers`. They exist once the layers were unpacked or made.
    pub(super) fn index_paths(&self, layers: &[Layer]) -> Vec<PathBuf> {
        layers.iter().map(|layer| self.engine.store.paths_index_path(&layer.diff_id)).collect()
    }

    /// Returns what the root file system of `layers` holds. Needs no unpacking when every layer's
    /// path index is known.
    pub(super) fn view(&self, layers: &[Layer]) -> Result<View, Error> {
        let mut indexes = Vec::with_capacity(layers.len());
        for layer in layers {
            if let Some(index) = self.index(layer)? {
                indexes.push(index);
                continue;
            }
            self.snapshots(layers)?;
            indexes.push(self.index(layer)?.ok_or(Error::Io {
                what: "read the path index of an unpacked layer",
                source: std::io::ErrorKind::NotFound.into(),
            })?);
        }
        Ok(View::new(indexes))
    }

    fn index(&self, layer: &Layer) -> Result<Option<Arc<PathIndex>>, Error> {
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = indexes.get(&layer.diff_id) {
            return Ok(Some(Arc::clone(index)));
        }
        let path = self.engine.store.paths_index_path(&layer.diff_id);
        let Some(index) = PathIndex::load(&path)?.map(Arc::new) else { return Ok(None) };
        indexes.insert(layer.diff_id.clone(), Arc::clone(&index));
        Ok(Some(index))
    }

    /// Unpacks one layer unless another thread already does. A layer that is not in the store is
    /// unpacked while it arrives.
    fn unpack(&self, mapping: &str, layer: &Layer) -> Result<(), Error> {
        let turn = {
            let mut unpacking = self.unpacking.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(unpacking.entry(layer.diff_id.clone()).or_default())
        };
        let _turn = Mutex::lock(&turn).unwrap_or_else(PoisonError::into_inner);
        let store = self.engine.store;
        let request = UnpackRequest {
            diff_id: layer.diff_id.clone(),
            temporary: store.snapshot_temporary(mapping)?,
            target: store.snapshot_path(mapping, &layer.diff_id),
            index: store.paths_index_path(&layer.diff_id),
        };
        if request.target.exists() {
            return Ok(());
        }
        if store.has_blob(&layer.descriptor.digest) {
            let blob = OwnedFd::from(store.open_blob(&layer.descriptor.digest)?);
            return self.unpack_stored(layer, request, blob);
        }
        self.unpack_arriving(layer, request)
    }

    fn unpack_stored(
        &self,
        layer: &Layer,
        request: UnpackRequest,
        blob: OwnedFd,
    ) -> Result<(), Error> {
        let transfer = TransferId::next();
        self.engine.sink.emit(Event::TransferStarted {
            transfer,
            direction: Direction::Unpack,
            name: layer.descriptor.digest.short().to_owned(),
            total_bytes: Some(layer.descriptor.size),
        });
        let result = self.worker()?.unpack(request, blob);
        let outcome = if result.is_ok() { TransferOutcome::Moved } else { TransferOutcome::Failed };
        self.engine.sink.emit(Event::TransferFinished { transfer, outcome });
        self.tell(layer, &result?);
        Ok(())
    }

    fn unpack_arriving(&self, layer: &Layer, request: UnpackRequest) -> Result<(), Error> {
        let has_layer = |base: &&Base| {
            base.layers.iter().any(|other| other.descriptor.digest == layer.descriptor.digest)
        };
        let base = self.plan.bases.iter().find(has_layer);
        if base.is_none() && !self.engine.caches.holds(&layer.descriptor.digest) {
            return Err(Error::Io {
                what: "find a layer of an earlier step in the store",
                source: std::io::ErrorKind::NotFound.into(),
            });
        }
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|source| Error::Io { what: "make a pipe", source: source.into() })?;
        let worker = self.worker()?;
        let (fetched, unpacked) = std::thread::scope(|scope| {
            let fetch = scope.spawn(move || match base {
                Some(base) => self.engine.bases.fetch(base, layer, writer.into()),
                None => self.engine.caches.fetch(layer, writer.into()),
            });
            let unpacked = worker.unpack(request, reader);
            (fetch.join(), unpacked)
        });
        // When the transfer failed, what the worker says of the broken pipe is only a consequence.
        let fetched = fetched.map_err(|_| Error::Canceled)?;
        fetched.map_err(|source| {
            let digest = layer.descriptor.digest.clone();
            match base {
                Some(base) => Error::Base { image: base.reference.familiar(), digest, source },
                None => Error::Cached { digest, source },
            }
        })?;
        self.tell(layer, &unpacked?);
        Ok(())
    }

    /// Says what of a layer could not be restored exactly.
    fn tell(&self, layer: &Layer, warnings: &[String]) {
        for warning in warnings {
            let text = format!("layer {}: {warning}", layer.descriptor.digest.short());
            self.engine.sink.emit(Event::Warning { text });
        }
    }
}
