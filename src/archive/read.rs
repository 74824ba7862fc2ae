//! Reading images from files, whatever their form.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fs_err as fs;
use serde_json::Value;

use crate::blob::{BytesSource, FileSource, HeldFile, Mismatch, Source};
use crate::image::{Algorithm, Descriptor, Digest, Index, MAX_MANIFEST_BYTES, Manifest};

use super::bundle::{Delta, Reader};
use super::docker::{DockerTar, Entry};
use super::stored::{self, Stored};
use super::tar::{BLOCK, Extent, Step, TarIndex, Walk, padded};
use super::{Error, MAX_SMALL_BYTES, Result, compressed};

pub(super) const LAYOUT_FILE: &str = "oci-layout";
pub(super) const INDEX_FILE: &str = "index.json";

/// The form in which images are in a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An OCI image layout in a directory (OCI image-spec, image-layout.md).
    Layout,
    /// The same in a tar.
    Oci,
    /// What `docker save` writes and `docker load` reads.
    Docker,
    /// rpub's bundle: also an OCI layout in a tar, which can be added to.
    Bundle,
}

/// Images in a file or directory, open for reading. Cloning is cheap. All methods block.
#[derive(Debug, Clone)]
pub struct Archive {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    form: Form,
    images: Vec<Stored>,
    place: Place,
    /// Manifests that are in no file.
    made: HashMap<Digest, Bytes>,
    delta: Option<Delta>,
    is_interrupted: bool,
    /// Where the zeros of a bundle are.
    end: Option<u64>,
}

#[derive(Debug)]
enum Place {
    Directory(PathBuf),
    File { file: Arc<File>, blobs: HashMap<Digest, Extent> },
}

/// Where a tar ends, to be added to.
pub(super) struct End {
    /// Where the zeros are, or have to be.
    pub(super) zeros: u64,
    /// Where zeros are that no longer end it, because a writer died at its last step.
    pub(super) to_join: Vec<u64>,
    /// What docker's file says.
    pub(super) docker: Vec<Entry>,
}

impl Inner {
    fn new(path: &Path, form: Form, images: Vec<Stored>, place: Place) -> Self {
        let (path, made) = (path.to_owned(), HashMap::new());
        Self { path, form, images, place, made, delta: None, is_interrupted: false, end: None }
    }
}

impl From<Inner> for Archive {
    fn from(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }
}

/// Two are the same when they are one opening of one file.
impl PartialEq for Archive {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Archive {}

impl Archive {
    /// Opens what is at `path`; what it is is found by its content. A compressed tar is unpacked to
    /// a temporary file, and so is what cannot be read twice, such as a pipe.
    ///
    /// # Errors
    ///
    /// [`Error::NotAnArchive`], [`Error::NotALayout`], [`Error::Cut`], [`Error::Damaged`],
    /// [`Error::NewerVersion`], [`Error::Json`], [`Error::Io`], and those of bounds.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path)?;
        if metadata.is_dir() {
            return Self::open_layout(path);
        }
        let file = fs::File::open(path)?.into_parts().0;
        if metadata.is_file() { Self::open_file(file, path) } else { Self::from_reader(file, path) }
    }

    /// Opens what `reader` gives, such as standard input; `path` is what messages call it.
    pub fn from_reader(reader: impl Read, path: &Path) -> Result<Self> {
        Self::open_file(compressed::spooled(reader, path)?, path)
    }

    fn open_layout(path: &Path) -> Result<Self> {
        let not = |reason, source| Error::NotALayout { path: path.to_owned(), reason, source };
        let version = fs::read(path.join(LAYOUT_FILE));
        let version = version.map_err(|error| not("it is no image layout", Some(error)))?;
        check_version(&version).map_err(|reason| not(reason, None))?;
        let bytes = read_small(&path.join(INDEX_FILE))?;
        let images = images_of(&bytes, path)?;
        Ok(Inner::new(path, Form::Layout, images, Place::Directory(path.to_owned())).into())
    }

    fn open_file(file: File, path: &Path) -> Result<Self> {
        let file = Arc::new(compressed::unpacked(&file, path)?.unwrap_or(file));
        let length = file.metadata()?.len();
        let reader = Reader { file: &file, length, path };
        if reader.is_bundle()? {
            let found = reader.read()?;
            let images = images_of(&found.images, path)?;
            let extent = |size, offset| Extent { offset, size };
            let blobs = found.index.blobs.into_iter();
            let blobs = blobs.map(|it| (it.digest, extent(it.size, it.offset))).collect();
            let mut inner = Inner::new(path, Form::Bundle, images, Place::File { file, blobs });
            inner.delta = found.index.delta;
            inner.end = Some(found.end);
            inner.is_interrupted = found.end + 2 * BLOCK != length;
            return Ok(inner.into());
        }
        let index = TarIndex::read(&file, length, path)?;
        let docker = DockerTar { path, file: &file, index: &index };
        if let Some(archive) = Self::oci_tar(&docker)? {
            return Ok(archive);
        }
        let Some(entries) = docker.entries()? else {
            let reason = "it is no tar with an `index.json` or a `manifest.json`";
            return Err(Error::NotAnArchive { path: path.to_owned(), reason });
        };
        let made = docker.read(&entries)?;
        let place = Place::File { file: Arc::clone(&file), blobs: made.blobs };
        let mut inner = Inner::new(path, Form::Docker, made.images, place);
        let manifests = made.manifests.into_iter();
        inner.made = manifests.map(|(digest, bytes)| (digest, bytes.into())).collect();
        Ok(inner.into())
    }

    /// Opens a tar that is an OCI layout, as new docker archives are too. One whose `index.json`
    /// names what is not there is left to docker's file.
    fn oci_tar(tar: &DockerTar) -> Result<Option<Self>> {
        let (Some(layout), Some(extent)) =
            (tar.index.find(LAYOUT_FILE), tar.index.find(INDEX_FILE))
        else {
            return Ok(None);
        };
        let path = tar.path;
        check_version(&tar.small(LAYOUT_FILE, layout)?).map_err(|reason| Error::NotALayout {
            path: path.to_owned(),
            reason,
            source: None,
        })?;
        let images = images_of(&tar.small(INDEX_FILE, extent)?, path)?;
        let blobs = tar.index.blobs();
        let is_docker = tar.index.find(super::docker::MANIFEST).is_some();
        if is_docker && !images.iter().all(|it| blobs.contains_key(&it.descriptor.digest)) {
            return Ok(None);
        }
        let form = if is_docker { Form::Docker } else { Form::Oci };
        let place = Place::File { file: Arc::clone(tar.file), blobs };
        Ok(Some(Inner::new(path, form, images, place).into()))
    }

    /// Returns the form.
    #[must_use]
    pub fn form(&self) -> Form {
        self.inner.form
    }

    /// Returns where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Returns the images, one for each name.
    #[must_use]
    pub fn images(&self) -> &[Stored] {
        &self.inner.images
    }

    /// Returns what a delta bundle leaves out.
    #[must_use]
    pub fn delta(&self) -> Option<&Delta> {
        self.inner.delta.as_ref()
    }

    /// Returns whether something was being added to the bundle when its writer died. What is read
    /// is what it held before.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.inner.is_interrupted
    }

    /// Returns the image that `wanted` means: a whole name, a tag or a digest; without it, the only
    /// one that there is. What refers to others, as signatures do, is no image.
    ///
    /// # Errors
    ///
    /// [`Error::NoImage`], [`Error::Several`].
    pub fn find(&self, wanted: Option<&str>) -> Result<&Stored> {
        let images = self.images();
        let found = match wanted {
            Some(wanted) => stored::find(images, wanted),
            None => stored::distinct(images.iter().filter(|image| image.subject.is_none())),
        };
        match found[..] {
            [image] => Ok(image),
            [] => {
                let wanted = wanted.unwrap_or_default().to_owned();
                Err(Error::NoImage { wanted, has: stored::names(images.iter()) })
            }
            _ => {
                let has = stored::names(found.iter().copied());
                Err(Error::Several { count: found.len(), has })
            }
        }
    }

    /// Returns the size of a blob in bytes; `None` when it is not there.
    #[must_use]
    pub fn size_of(&self, digest: &Digest) -> Option<u64> {
        if let Some(bytes) = self.inner.made.get(digest) {
            return Some(bytes.len() as u64);
        }
        match &self.inner.place {
            Place::Directory(root) => {
                let metadata = fs::metadata(root.join(stored::blob_path(digest))).ok()?;
                metadata.is_file().then_some(metadata.len())
            }
            Place::File { blobs, .. } => blobs.get(digest).map(|extent| extent.size),
        }
    }

    /// Returns whether a delta bundle leaves the blob out.
    fn is_left_out(&self, digest: &Digest) -> bool {
        self.delta().is_some_and(|delta| delta.left_out.iter().any(|blob| blob.digest == *digest))
    }

    /// Returns a blob as a source, readable from any offset. Its bytes are not verified: whoever
    /// reads it does that. One that a delta leaves out cannot be opened, which does not matter where
    /// it is.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when it is not there, [`Error::Mismatch`] when it has another size.
    pub fn source(&self, descriptor: &Descriptor) -> Result<Arc<dyn Source>> {
        let Descriptor { digest, size: expected, .. } = descriptor;
        if self.size_of(digest).is_none() && self.is_left_out(digest) {
            return Ok(Arc::new(Absent { reason: self.lack(digest).to_string(), size: *expected }));
        }
        let actual = self.size_of(digest).ok_or_else(|| self.lack(digest))?;
        if actual != *expected {
            let (digest, expected) = (digest.clone(), *expected);
            return Err(Mismatch::Size { digest, expected, actual }.into());
        }
        Ok(self.bytes_of(digest, actual))
    }

    fn bytes_of(&self, digest: &Digest, size: u64) -> Arc<dyn Source> {
        if let Some(bytes) = self.inner.made.get(digest) {
            return Arc::new(BytesSource(bytes.clone()));
        }
        match &self.inner.place {
            Place::Directory(root) => {
                Arc::new(FileSource::new(root.join(stored::blob_path(digest)), size))
            }
            Place::File { file, blobs } => {
                let offset = blobs.get(digest).map_or(0, |extent| extent.offset);
                Arc::new(HeldFile::part(Arc::clone(file), offset, size))
            }
        }
    }

    /// Reads a small blob, such as a manifest or config, verified.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::LeftOut`], [`Error::TooLarge`] when it has more than `limit`
    /// bytes, [`Error::Mismatch`], [`Error::Io`].
    pub fn read(&self, digest: &Digest, limit: usize) -> Result<Vec<u8>> {
        let size = self.size_of(digest).ok_or_else(|| self.lack(digest))?;
        if size > limit as u64 {
            let (path, what) = (self.inner.path.clone(), format!("blob {digest}"));
            return Err(Error::TooLarge { path, what, size, limit: limit as u64 });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(limit));
        self.bytes_of(digest, size).open(0)?.take(size).read_to_end(&mut bytes)?;
        let actual = digest.of_same_algorithm(&bytes);
        if actual != *digest {
            return Err(Mismatch::Digest { expected: digest.clone(), actual }.into());
        }
        Ok(bytes)
    }

    /// Reads a manifest or index, verified. `media_type` is what names it, where that is known.
    ///
    /// # Errors
    ///
    /// [`Error::Manifest`] when it is something else; those of [`Archive::read`].
    pub fn manifest(&self, digest: &Digest, media_type: Option<&str>) -> Result<Manifest> {
        let bytes = self.read(digest, MAX_MANIFEST_BYTES)?;
        let mut manifest = Manifest::parse(bytes, media_type).map_err(|source| {
            let (path, digest) = (self.inner.path.clone(), digest.clone());
            Error::Manifest { path, digest, source }
        })?;
        // Verified by it; the parser computes SHA-256.
        manifest.digest = digest.clone();
        Ok(manifest)
    }

    /// Returns every blob with its size in bytes, whether an image needs it or not.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn blobs(&self) -> Result<BTreeMap<Digest, u64>> {
        let made = self.inner.made.iter();
        let mut found: BTreeMap<Digest, u64> =
            made.map(|(digest, bytes)| (digest.clone(), bytes.len() as u64)).collect();
        match &self.inner.place {
            Place::File { blobs, .. } => {
                found.extend(blobs.iter().map(|(digest, extent)| (digest.clone(), extent.size)));
            }
            Place::Directory(root) => {
                for algorithm in [Algorithm::Sha256, Algorithm::Sha512].map(Algorithm::name) {
                    for name in names_in(&root.join("blobs").join(algorithm))? {
                        let Ok(digest) = format!("{algorithm}:{name}").parse() else { continue };
                        found.extend(self.size_of(&digest).map(|size| (digest, size)));
                    }
                }
            }
        }
        Ok(found)
    }

    /// Returns the file of a bundle, and where the zeros are that end it.
    pub(super) fn bundle_file(&self) -> Option<(&Arc<File>, u64)> {
        match &self.inner.place {
            Place::File { file, .. } => Some((file, self.inner.end?)),
            Place::Directory(_) => None,
        }
    }

    /// Returns where the blobs of a tar are.
    pub(super) fn extents(&self) -> BTreeMap<Digest, Extent> {
        match &self.inner.place {
            Place::Directory(_) => BTreeMap::new(),
            Place::File { blobs, .. } => blobs.clone().into_iter().collect(),
        }
    }

    /// Returns where a tar can be added to, `file` being what was opened; `None` when the images are
    /// in another, because that one is compressed.
    pub(super) fn end_in(&self, file: &File) -> Result<Option<End>> {
        let path = &self.inner.path;
        let Place::File { file: own, .. } = &self.inner.place else { return Ok(None) };
        let (ours, given) = (own.metadata()?, file.metadata()?);
        if (ours.dev(), ours.ino()) != (given.dev(), given.ino()) {
            return Ok(None);
        }
        if let Some(zeros) = self.inner.end {
            let mut walk = Walk::new(file, zeros, 0);
            let mut end = End { zeros, to_join: Vec::new(), docker: Vec::new() };
            loop {
                match walk.step().map_err(|fault| fault.in_file(path))? {
                    Step::Member(_) => {}
                    Step::End(at) => end.to_join.push(at),
                    Step::Eof => return Ok(Some(end)),
                }
            }
        }
        let index = TarIndex::read(own, ours.len(), path)?;
        let docker = DockerTar { path, file: own, index: &index }.entries()?.unwrap_or_default();
        let zeros = index.end.unwrap_or_else(|| padded(ours.len()));
        Ok(Some(End { zeros, to_join: Vec::new(), docker }))
    }

    /// Returns the error of a blob that is not there.
    #[must_use]
    pub fn lack(&self, digest: &Digest) -> Error {
        let (path, digest) = (self.inner.path.clone(), digest.clone());
        match self.inner.delta.as_ref().filter(|_| self.is_left_out(&digest)) {
            Some(delta) => Error::LeftOut { path, digest, against: delta.against.clone() },
            None => Error::Missing { path, digest },
        }
    }
}

/// A blob that a delta bundle leaves out.
struct Absent {
    reason: String,
    size: u64,
}

impl Source for Absent {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self, _offset: u64) -> std::io::Result<Box<dyn Read + Send>> {
        Err(std::io::Error::new(ErrorKind::NotFound, self.reason.clone()))
    }
}

/// Returns the names of a directory's entries; none when there is no such directory.
fn names_in(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn check_version(bytes: &[u8]) -> Result<(), &'static str> {
    let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
    match value["imageLayoutVersion"].as_str() {
        Some(version) if version.starts_with("1.") => Ok(()),
        _ => Err("its version is not 1.0.0"),
    }
}

/// Reads the images that an `index.json` names.
pub(super) fn images_of(bytes: &[u8], path: &Path) -> Result<Vec<Stored>> {
    let index: Index = serde_json::from_slice(bytes).map_err(|source| {
        let (path, name) = (path.to_owned(), INDEX_FILE.to_owned());
        Error::Json { path, name, source }
    })?;
    Ok(index.manifests.iter().map(Stored::of_entry).collect())
}

/// Reads a file that must be small.
pub(super) fn read_small(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_SMALL_BYTES + 1).read_to_end(&mut bytes)?;
    let size = bytes.len() as u64;
    if size > MAX_SMALL_BYTES {
        let (path, what) = (path.to_owned(), "a file".to_owned());
        return Err(Error::TooLarge { path, what, size, limit: MAX_SMALL_BYTES });
    }
    Ok(bytes)
}
