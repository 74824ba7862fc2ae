//! A layout, an archive or a bundle that images are copied into.

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::archive::{ArchiveWriter, Form, Stored};
use crate::blob::{Source, VerifyingReader};
use crate::image::{Descriptor, Manifest};
use crate::operations::session::blocking;
use crate::operations::{Error, transport};
use crate::registry::Pushed;

use super::carrier::spoilt;

/// How much is copied at once.
const BUFFER_BYTES: usize = 256 << 10;

/// It, being written; nothing in it has a name before [`ArchiveTarget::finish`]. Clones are the same.
#[derive(Clone)]
pub struct ArchiveTarget(Arc<Inner>);

struct Inner {
    writer: ArchiveWriter,
    label: String,
    images: Mutex<Vec<Stored>>,
    /// Whose turn it is to write, where one blob has to follow the other.
    turn: Option<tokio::sync::Mutex<()>>,
}

impl ArchiveTarget {
    /// Opens an archive to add images to, or makes it: a layout is added to, so is a bundle when
    /// `adds`; any other archive is new and takes the place of what is there. Without `path` it goes
    /// to standard output.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or is something else.
    pub async fn open(form: Form, path: Option<&Path>, adds: bool) -> Result<Self, Error> {
        let name = path.map_or_else(|| "-".to_owned(), |path| path.display().to_string());
        let label = format!("{}:{name}", transport(form));
        let path = path.map(ToOwned::to_owned);
        let writer = blocking(move || match path {
            None => ArchiveWriter::stream(Box::new(io::stdout()), form, 0),
            Some(path) if form == Form::Layout => ArchiveWriter::directory(&path, form),
            Some(path) if adds && path.exists() => ArchiveWriter::append(&path),
            Some(path) => ArchiveWriter::create(&path, form, 0),
        });
        let about = |error: Error| error.about(format!("failed to write `{label}`"));
        let writer = writer.await.map_err(about)?;
        Ok(Self::new(writer, label))
    }

    /// Returns a target that writes by `writer` and is called `label` in messages.
    pub(in crate::operations) fn new(writer: ArchiveWriter, label: String) -> Self {
        let turn = writer.is_sequential().then(tokio::sync::Mutex::default);
        Self(Arc::new(Inner { writer, label, images: Mutex::default(), turn }))
    }

    /// Gives the images their names: all of them, or none.
    ///
    /// # Errors
    ///
    /// When the form cannot hold them, or writing fails.
    pub async fn finish(&self) -> Result<(), Error> {
        let target = self.clone();
        blocking(move || {
            let mut images = target.0.images.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // They came as they were done: the archive must not depend on that.
            images.sort_by_key(|image| {
                let Stored { name, descriptor, .. } = image;
                (name.is_none(), name.clone(), descriptor.digest.clone())
            });
            target.0.writer.finish(&images)
        })
        .await
        .map_err(|error: Error| error.about(format!("failed to write `{self}`")))
    }

    pub(super) fn id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Adds an image, whose parts are all there.
    pub(super) fn add(&self, image: Stored) {
        let mut images = self.0.images.lock().unwrap_or_else(PoisonError::into_inner);
        if !images.contains(&image) {
            images.push(image);
        }
    }

    pub(super) async fn put(&self, manifest: &Manifest) -> Result<(), Error> {
        let _turn = self.turn().await;
        let (target, manifest) = (self.clone(), manifest.clone());
        blocking(move || target.0.writer.put(&manifest.descriptor(), &manifest.bytes)).await
    }

    /// Writes a blob, unless it is there.
    pub(super) async fn bring(
        &self,
        blob: &Descriptor,
        source: Arc<dyn Source>,
    ) -> Result<Pushed, Error> {
        let _turn = self.turn().await;
        let (target, blob) = (self.clone(), blob.clone());
        blocking(move || target.write(&blob, &*source)).await
    }

    async fn turn(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        match &self.0.turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        }
    }

    fn write(&self, blob: &Descriptor, source: &dyn Source) -> Result<Pushed, Error> {
        let writer = &self.0.writer;
        if writer.has(blob) {
            return Ok(Pushed::AlreadyThere);
        }
        let mut out = writer.blob(blob)?;
        let failed = |error| spoilt(blob, error);
        let reader = source.open(0).map_err(failed)?;
        let mut reader =
            io::BufReader::with_capacity(BUFFER_BYTES, VerifyingReader::new(reader, blob.clone()));
        loop {
            let bytes = io::BufRead::fill_buf(&mut reader).map_err(failed)?;
            if bytes.is_empty() {
                break;
            }
            out.write_all(bytes).map_err(failed)?;
            let count = bytes.len();
            io::BufRead::consume(&mut reader, count);
        }
        out.commit()?;
        Ok(Pushed::Uploaded { bytes: blob.size })
    }
}

impl PartialEq for ArchiveTarget {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ArchiveTarget {}

impl fmt::Display for ArchiveTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.label)
    }
}

impl fmt::Debug for ArchiveTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("ArchiveTarget").field(&self.0.label).finish()
    }
}
