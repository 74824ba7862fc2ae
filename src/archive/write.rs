//! Writing images to files, whatever their form.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fs_err as fs;

use crate::blob::{Hasher, Mismatch};
use crate::image::{Descriptor, Digest, Manifest, Reference};

use super::bundle::{self, Delta, LeftOut, Located};
use super::directory::{Directory, NewFile};
use super::docker::{self, Entry};
use super::read::{Archive, Form, INDEX_FILE, LAYOUT_FILE};
use super::stored::{self, LAYOUT, Name, ShortNames, Stored};
use super::tar::BLOCK;
use super::tar_writer::{Out, Slot, TarWriter};
use super::{Error, Result};

/// Images being written to a file or directory. Nothing of it counts before
/// [`ArchiveWriter::finish`]. All methods block; any number of threads may write blobs at once.
pub struct ArchiveWriter {
    form: Form,
    target: Target,
    /// What is there already, when something is added.
    earlier: Earlier,
    /// Manifests that were written, for docker's file.
    manifests: Mutex<BTreeMap<Digest, Vec<u8>>>,
    leaving_out: Option<LeavingOut>,
}

enum Target {
    Directory(Directory),
    Tar { tar: Arc<TarWriter>, place: Place },
}

/// What becomes of a tar at the end.
enum Place {
    Stream,
    /// A temporary file gets its name.
    New {
        file: tempfile::TempPath,
        target: PathBuf,
    },
    /// So does a file that stays when the writer dies. The lock keeps others away.
    Partial {
        partial: PathBuf,
        target: PathBuf,
        _lock: Arc<File>,
    },
    /// The zeros at this byte, which ended it, give way.
    Added {
        zeros: u64,
        _lock: Arc<File>,
    },
}

#[derive(Default)]
struct Earlier {
    images: Vec<Stored>,
    docker: Vec<Entry>,
    delta: Option<Delta>,
}

/// What the other side of a delta bundle has.
struct LeavingOut {
    against: String,
    blobs: BTreeSet<Digest>,
    left_out: Mutex<BTreeMap<Digest, u64>>,
}

impl ArchiveWriter {
    /// Writes to an OCI layout in a directory, which is made when it is missing. Images that are
    /// there stay, unless they have the same names. With [`Form::Docker`] it gets docker's
    /// `manifest.json` too, about the new images.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] when there is an `index.json` that is something else, [`Error::Io`].
    pub fn directory(path: &Path, form: Form) -> Result<Self> {
        Ok(Self::new(form, Target::Directory(Directory::open(path)?), Earlier::default()))
    }

    /// Writes a new tar, which takes the place of what is at `path` when it is finished. `time` is
    /// that of its members, in seconds since 1970.
    ///
    /// A bundle that is not finished stays as `<path>.partial`, where the next writer goes on.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when another process writes the bundle, [`Error::Io`].
    pub fn create(path: &Path, form: Form, time: u64) -> Result<Self> {
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            let file = fs::OpenOptions::new().write(true).open(path)?;
            return Self::stream(Box::new(file), form, time);
        }
        if form == Form::Bundle {
            return Self::create_bundle(path);
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut builder = tempfile::Builder::new();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        let builder = builder.prefix(".rpub-output-").permissions(mode);
        let file = builder.tempfile_in(parent.unwrap_or(Path::new(".")))?;
        let (file, name) = file.into_parts();
        let place = Place::New { file: name, target: path.to_owned() };
        Self::tar(TarWriter::new(Out::File(Arc::new(file)), time), place, form)
    }

    /// Writes a tar to something that is not a file, such as a pipe: one blob after another, so that
    /// a second waits for the first to be whole.
    pub fn stream(out: Box<dyn Write + Send>, form: Form, time: u64) -> Result<Self> {
        let out = io::BufWriter::with_capacity(256 << 10, out);
        Self::tar(TarWriter::new(Out::Stream(Box::new(out)), time), Place::Stream, form)
    }

    fn tar(tar: TarWriter, place: Place, form: Form) -> Result<Self> {
        if form == Form::Bundle {
            tar.append(&bundle_start())?;
        } else {
            tar.directory("blobs/")?;
            tar.directory("blobs/sha256/")?;
        }
        Ok(Self::new(form, Target::Tar { tar: Arc::new(tar), place }, Earlier::default()))
    }

    fn create_bundle(path: &Path) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".partial");
        let partial = PathBuf::from(name);
        let file = open_locked(&partial, fs::OpenOptions::new().create(true))?;
        let start = bundle_start();
        let begun = super::tar::read_exact_at(&file, 0, start.len());
        let tar = TarWriter::new(Out::File(Arc::clone(&file)), 0);
        if begun.is_ok_and(|begun| begun == start) {
            tar.take_up(start.len() as u64, BTreeMap::new())?;
        } else {
            file.set_len(0)?;
            tar.append(&start)?;
        }
        let place = Place::Partial { partial, target: path.to_owned(), _lock: file };
        let target = Target::Tar { tar: Arc::new(tar), place };
        Ok(Self::new(Form::Bundle, target, Earlier::default()))
    }

    /// Adds to what is at `path`, which keeps its form. Until this is finished, and when it never
    /// is, readers see what was there; what was written stays for the next writer.
    ///
    /// # Errors
    ///
    /// Those of [`Archive::open`]; [`Error::NotAnArchive`] for a compressed one, [`Error::Busy`].
    pub fn append(path: &Path) -> Result<Self> {
        if fs::metadata(path)?.is_dir() {
            return Self::directory(path, Form::Layout);
        }
        let file = open_locked(path, &mut fs::OpenOptions::new())?;
        let archive = Archive::open(path)?;
        let Some(end) = archive.end_in(&file)? else {
            let reason = "a compressed one cannot be added to; unpack it first";
            return Err(Error::NotAnArchive { path: path.to_owned(), reason });
        };
        let tar = TarWriter::new(Out::File(Arc::clone(&file)), 0);
        for earlier in end.to_join {
            tar.join_at(earlier)?;
        }
        tar.take_up(end.zeros + 2 * BLOCK, archive.extents())?;
        let earlier = Earlier {
            images: archive.images().to_vec(),
            docker: end.docker,
            delta: archive.delta().cloned(),
        };
        let place = Place::Added { zeros: end.zeros, _lock: file };
        Ok(Self::new(archive.form(), Target::Tar { tar: Arc::new(tar), place }, earlier))
    }

    fn new(form: Form, target: Target, earlier: Earlier) -> Self {
        let manifests = Mutex::new(BTreeMap::new());
        Self { form, target, earlier, manifests, leaving_out: None }
    }

    /// Leaves out what the other side has: its blobs count as being there. Manifests are never left
    /// out. Only of bundles.
    #[must_use]
    pub fn leave_out(mut self, against: String, blobs: BTreeSet<Digest>) -> Self {
        let left_out = Mutex::new(BTreeMap::new());
        self.leaving_out = Some(LeavingOut { against, blobs, left_out });
        self
    }

    /// Returns whether blobs have to be written one after another.
    #[must_use]
    pub fn is_sequential(&self) -> bool {
        matches!(&self.target, Target::Tar { place: Place::Stream, .. })
    }

    /// Returns whether the blob is there, whole, so that it need not be written. What a writer left
    /// behind that died is read for it, once.
    #[must_use]
    pub fn has(&self, descriptor: &Descriptor) -> bool {
        let is_there = match &self.target {
            Target::Directory(directory) => directory.has(descriptor),
            Target::Tar { tar, .. } => tar.has(descriptor),
        };
        is_there || self.is_left_out(descriptor)
    }

    fn is_left_out(&self, descriptor: &Descriptor) -> bool {
        let Descriptor { digest, size, .. } = descriptor;
        let is_had = |it: &&LeavingOut| it.blobs.contains(digest) && !descriptor.is_manifest();
        let Some(leaving_out) = self.leaving_out.as_ref().filter(is_had) else { return false };
        locked(&leaving_out.left_out).insert(digest.clone(), *size);
        true
    }

    /// Starts a blob.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] when a blob before it in a stream failed, [`Error::Io`].
    pub fn blob(&self, descriptor: &Descriptor) -> Result<BlobWriter> {
        let to = match &self.target {
            Target::Directory(directory) => To::File(directory.blob(&descriptor.digest)?),
            Target::Tar { tar, .. } => To::Slot(tar.slot(descriptor)?),
        };
        let hasher = Hasher::new(descriptor.digest.algorithm());
        Ok(BlobWriter { to, hasher, expected: descriptor.clone() })
    }

    /// Writes a small blob, such as a manifest; nothing when it is there. Manifests have to come this
    /// way for docker's form.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`]; those of [`ArchiveWriter::blob`].
    pub fn put(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        if self.form == Form::Docker {
            locked(&self.manifests).insert(descriptor.digest.clone(), bytes.to_vec());
        }
        if self.has(descriptor) {
            return Ok(());
        }
        let mut blob = self.blob(descriptor)?;
        blob.write_all(bytes)?;
        blob.commit()
    }

    /// Makes the images, whose blobs are all written, those of the archive: all of them or none.
    /// To what was there they are added. A tar takes no more afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::NotOneImage`] when docker's form cannot have them, [`Error::Broken`],
    /// [`Error::Io`].
    pub fn finish(&self, images: &[Stored]) -> Result<()> {
        let docker = match self.form {
            Form::Docker => {
                let entries = Entry::merged(self.earlier.docker.clone(), self.entries(images)?);
                Some(docker::to_bytes(&entries))
            }
            Form::Layout | Form::Oci | Form::Bundle => None,
        };
        match &self.target {
            Target::Directory(directory) => directory.finish(images, docker.as_deref()),
            Target::Tar { tar, place } => {
                let images = stored::merged(&self.earlier.images, images);
                self.end_tar(tar, &images, docker.as_deref())?;
                place.finish(tar)
            }
        }
    }

    fn end_tar(&self, tar: &TarWriter, images: &[Stored], docker: Option<&[u8]>) -> Result<()> {
        let blobs = tar.settle()?;
        let style = if self.form == Form::Bundle { ShortNames::Whole } else { ShortNames::Tags };
        let index = stored::index_json(images, style);
        let offset = tar.small_file(INDEX_FILE, &index)?;
        if let Some(docker) = docker {
            tar.small_file(docker::MANIFEST, docker)?;
        }
        if self.form == Form::Bundle {
            let size = index.len() as u64;
            let located = Located { digest: Digest::of(&index), offset, size };
            let delta = self.delta(&blobs);
            tar.bundle_end(blobs, located, delta)?;
        } else {
            tar.small_file(LAYOUT_FILE, LAYOUT)?;
            tar.append(&[0; 1024])?;
        }
        tar.close()
    }

    /// Returns what the bundle leaves out: what it did before, without what is there now.
    fn delta(&self, blobs: &[Located]) -> Option<Delta> {
        let here: BTreeSet<&Digest> = blobs.iter().map(|blob| &blob.digest).collect();
        let mut left_out = BTreeMap::new();
        let mut against = None;
        if let Some(delta) = &self.earlier.delta {
            left_out.extend(delta.left_out.iter().map(|it| (it.digest.clone(), it.size)));
            against = Some(delta.against.clone());
        }
        if let Some(now) = &self.leaving_out {
            left_out.extend(locked(&now.left_out).clone());
            against = Some(now.against.clone());
        }
        left_out.retain(|digest, _| !here.contains(digest));
        let left_out = left_out.into_iter().map(|(digest, size)| LeftOut { digest, size });
        against.map(|against| Delta { against, left_out: left_out.collect() })
    }

    /// Describes the images as docker's file does.
    fn entries(&self, images: &[Stored]) -> Result<Vec<Entry>> {
        let images_only = images.iter().filter(|image| image.subject.is_none());
        let mut entries = Vec::new();
        for image in stored::distinct(images_only) {
            let digest = &image.descriptor.digest;
            let same = images.iter().filter(|other| other.descriptor.digest == *digest);
            let names: Vec<&Reference> =
                same.filter_map(|image| image.name.as_ref().and_then(Name::reference)).collect();
            let not_one = || Error::NotOneImage(digest.clone());
            let bytes = self.manifest(digest)?.ok_or_else(not_one)?;
            let manifest = Manifest::parse(bytes, Some(&image.descriptor.media_type));
            let manifest = manifest.map_err(|_| not_one())?;
            entries.push(Entry::of(manifest.as_image().ok_or_else(not_one)?, &names));
        }
        Ok(entries)
    }

    /// Returns the bytes of a manifest that was written.
    fn manifest(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        if let Some(bytes) = locked(&self.manifests).get(digest) {
            return Ok(Some(bytes.clone()));
        }
        match &self.target {
            Target::Directory(directory) => directory.read(digest).map(Some),
            Target::Tar { tar, .. } => tar.read(digest),
        }
    }
}

impl Place {
    fn finish(&self, tar: &TarWriter) -> Result<()> {
        match self {
            Self::Stream => {}
            Self::New { file, target } => fs::rename(file, target)?,
            Self::Partial { partial, target, .. } => fs::rename(partial, target)?,
            Self::Added { zeros, .. } => tar.join_at(*zeros)?,
        }
        Ok(())
    }
}

/// A blob being written: hashes what passes through. Nothing of it counts before
/// [`BlobWriter::commit`].
pub struct BlobWriter {
    to: To,
    hasher: Hasher,
    expected: Descriptor,
}

enum To {
    File(NewFile),
    Slot(Slot),
}

impl BlobWriter {
    /// Returns how many bytes are written.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.hasher.count()
    }

    /// Makes the bytes a blob of the archive, when they are those of the descriptor.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`], [`Error::Io`].
    pub fn commit(self) -> Result<()> {
        self.hasher.verify(&self.expected)?;
        match self.to {
            To::File(file) => file.place(),
            To::Slot(slot) => slot.place(),
        }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (position, expected) = (self.hasher.count(), self.expected.size);
        let actual = position + bytes.len() as u64;
        // The next blob begins there.
        if actual > expected {
            let digest = self.expected.digest.clone();
            let mismatch = Mismatch::Size { digest, expected, actual };
            return Err(io::Error::new(io::ErrorKind::InvalidData, mismatch));
        }
        match &mut self.to {
            To::File(file) => file.file.write_all(bytes)?,
            To::Slot(slot) => slot.write_at(position, bytes)?,
        }
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns what a bundle begins with.
fn bundle_start() -> Vec<u8> {
    [bundle::marker(), bundle::member(LAYOUT_FILE, LAYOUT)].concat()
}

/// Opens a file for writing that no other process is writing.
fn open_locked(path: &Path, options: &mut fs::OpenOptions) -> Result<Arc<File>> {
    let file = options.read(true).write(true).open(path)?;
    match rustix::fs::flock(file.file(), rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Arc::new(file.into_parts().0)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Busy(path.to_owned())),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
