//! Writing a tar of blobs: many at once to a file, one after another to a stream.
//!
//! A descriptor says how large a blob will be, so each gets its place in the file before its first
//! byte is there, and any number are written side by side. Until a blob is whole its header calls it
//! pending, which a writer that comes after a kill finds again by walking over the headers.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};

use crate::blob::{HeldFile, Source as _, VerifyingReader};
use crate::image::{Descriptor, Digest};

use super::bundle::{self, BundleIndex, Delta, Located};
use super::read::INDEX_FILE;
use super::stored::blob_path;
use super::tar::{BLOCK, Extent, Kind, Member, Step, Walk, digest_of, filler, header, padded};
use super::{Error, Result};

/// Largest blob: whatever a descriptor says, nobody writes so much, and sums stay in their type.
const MAX_BLOB_BYTES: u64 = 1 << 50;

/// Where the bytes go.
pub(super) enum Out {
    File(Arc<File>),
    Stream(Box<dyn Write + Send>),
}

/// A tar being written.
pub(super) struct TarWriter {
    state: Mutex<State>,
    /// Tells those who wait for a stream that it is free.
    turn: Condvar,
    time: u64,
}

struct State {
    out: Out,
    /// Where the next member begins.
    end: u64,
    blobs: BTreeMap<Digest, Extent>,
    /// Blobs of an earlier process that nobody has asked for yet: not verified.
    unverified: BTreeMap<Digest, Extent>,
    /// Places of blobs that nobody is writing.
    idle: HashMap<Digest, Vec<Extent>>,
    /// Whether somebody writes to the stream.
    is_taken: bool,
    is_broken: bool,
}

/// A blob being written.
pub(super) struct Slot {
    tar: Arc<TarWriter>,
    digest: Digest,
    place: Extent,
    is_whole: bool,
}

impl TarWriter {
    pub(super) fn new(out: Out, time: u64) -> Self {
        let state = State {
            out,
            end: 0,
            blobs: BTreeMap::new(),
            unverified: BTreeMap::new(),
            idle: HashMap::new(),
            is_taken: false,
            is_broken: false,
        };
        Self { state: Mutex::new(state), turn: Condvar::new(), time }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes blocks at the end.
    pub(super) fn append(&self, bytes: &[u8]) -> Result<u64> {
        self.state().append(bytes)
    }

    /// Writes a small file at the end. Returns where its data is.
    pub(super) fn small_file(&self, name: &str, content: &[u8]) -> Result<u64> {
        let mut bytes = header(name, Kind::File, content.len() as u64, self.time);
        let before = bytes.len() as u64;
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        Ok(self.append(&bytes)? + before)
    }

    pub(super) fn directory(&self, name: &str) -> Result<()> {
        self.append(&header(name, Kind::Directory, 0, self.time)).map(drop)
    }

    /// Takes up what an earlier process wrote: `end` is where it begins, and whole blobs before it
    /// are `known`. What is behind the last whole member is cut off.
    pub(super) fn take_up(&self, end: u64, known: BTreeMap<Digest, Extent>) -> Result<()> {
        let mut state = self.state();
        let Out::File(file) = &state.out else { return Ok(()) };
        let file = Arc::clone(file);
        let mut walk = Walk::new(&file, file.metadata()?.len(), end);
        state.end = end;
        state.blobs = known;
        while let Ok(Step::Member(member)) = walk.step() {
            // All that follows is written anew.
            if member.path == INDEX_FILE {
                break;
            }
            state.end = padded(member.data + member.size);
            state.found(&member);
        }
        let end = state.end;
        Ok(file.set_len(end)?)
    }

    /// Tells whether the blob is there. Reads it when an earlier process wrote it.
    pub(super) fn has(&self, descriptor: &Descriptor) -> bool {
        let (file, place) = {
            let mut state = self.state();
            let is_here = |extent: &Extent| extent.size == descriptor.size;
            if state.blobs.get(&descriptor.digest).is_some_and(is_here) {
                return true;
            }
            let Some(place) = state.unverified.remove(&descriptor.digest) else { return false };
            let Out::File(file) = &state.out else { return false };
            (Arc::clone(file), place)
        };
        let part = HeldFile::part(file, place.offset, place.size);
        let is_right = part.open(0).and_then(|reader| {
            io::copy(&mut VerifyingReader::new(reader, descriptor.clone()), &mut io::sink())
        });
        let mut state = self.state();
        if is_right.is_ok() {
            state.blobs.insert(descriptor.digest.clone(), place);
        } else {
            state.idle.entry(descriptor.digest.clone()).or_default().push(place);
        }
        is_right.is_ok()
    }

    /// Reads a small blob back.
    pub(super) fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let state = self.state();
        let (Some(place), Out::File(file)) = (state.blobs.get(digest), &state.out) else {
            return Ok(None);
        };
        let length = usize::try_from(place.size).unwrap_or(usize::MAX);
        Ok(Some(super::tar::read_exact_at(file, place.offset, length)?))
    }

    /// Gives a blob its place. To a stream, waits until no other is being written.
    pub(super) fn slot(self: &Arc<Self>, descriptor: &Descriptor) -> Result<Slot> {
        let (digest, size) = (descriptor.digest.clone(), descriptor.size);
        if size > MAX_BLOB_BYTES {
            return Err(Error::Huge { digest, size });
        }
        let mut state = self.state();
        while state.is_taken && !state.is_broken {
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_broken {
            return Err(Error::Broken);
        }
        let idle = state.idle.get_mut(&digest);
        let place = match idle.and_then(|places| take_of_size(places, size)) {
            Some(place) => place,
            None => state.begin(&digest, size, self.time)?,
        };
        Ok(Slot { tar: Arc::clone(self), digest, place, is_whole: false })
    }

    /// Gives up every place that holds no blob, and returns the blobs. Nothing may be written at the
    /// time.
    pub(super) fn settle(&self) -> Result<Vec<Located>> {
        let mut state = self.state();
        if state.is_broken {
            return Err(Error::Broken);
        }
        let unverified = std::mem::take(&mut state.unverified);
        let mut left: Vec<(Digest, Extent)> = unverified.into_iter().collect();
        for (digest, places) in std::mem::take(&mut state.idle) {
            left.extend(places.into_iter().map(|place| (digest.clone(), place)));
        }
        left.sort_by_key(|(_, place)| std::cmp::Reverse(place.offset));
        for (digest, place) in left {
            let start = place.offset - header_length(&digest);
            if padded(place.offset + place.size) == state.end {
                state.end = start;
                continue;
            }
            state.empty(&digest, place, self.time)?;
        }
        let located = |(digest, place): (&Digest, &Extent)| Located {
            digest: digest.clone(),
            offset: place.offset,
            size: place.size,
        };
        let mut blobs: Vec<Located> = state.blobs.iter().map(located).collect();
        blobs.sort_by_key(|blob| blob.offset);
        Ok(blobs)
    }

    /// Writes a bundle's index, trailer and end.
    pub(super) fn bundle_end(
        &self,
        blobs: Vec<Located>,
        images: Located,
        delta: Option<Delta>,
    ) -> Result<()> {
        let index = BundleIndex::new(images, blobs, delta).to_bytes();
        let offset = self.small_file(bundle::INDEX, &index)?;
        let size = index.len() as u64;
        let located = Located { digest: Digest::of(&index), offset, size };
        self.append(&bundle::trailer(&located))?;
        self.append(&[0; 1024]).map(drop)
    }

    /// Ends a stream, or makes a file safe and as long as it is. Nothing can be written afterwards.
    pub(super) fn close(&self) -> Result<()> {
        let mut state = self.state();
        let end = state.end;
        state.is_broken = true;
        match &mut state.out {
            Out::Stream(stream) => Ok(stream.flush()?),
            Out::File(file) => {
                file.set_len(end)?;
                Ok(file.sync_data()?)
            }
        }
    }

    /// Puts something in the place of the zeros at `at`, so that readers go on behind them.
    pub(super) fn join_at(&self, at: u64) -> Result<()> {
        let state = self.state();
        if let Out::File(file) = &state.out {
            file.write_all_at(&filler(), at)?;
            file.sync_data()?;
        }
        Ok(())
    }
}

impl State {
    fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.end;
        match &mut self.out {
            Out::File(file) => file.write_all_at(bytes, at)?,
            Out::Stream(stream) => stream.write_all(bytes)?,
        }
        self.end += bytes.len() as u64;
        Ok(at)
    }

    /// Makes a new place for a blob.
    fn begin(&mut self, digest: &Digest, size: u64, time: u64) -> Result<Extent> {
        let is_stream = matches!(self.out, Out::Stream(_));
        let path = if is_stream { blob_path(digest) } else { pending_path(digest) };
        let bytes = header(&path, Kind::File, size, time);
        let offset = self.append(&bytes)? + bytes.len() as u64;
        self.is_taken = is_stream;
        if !is_stream {
            self.end = padded(offset + size);
        }
        Ok(Extent { offset, size })
    }

    /// Takes up a member that an earlier process wrote.
    fn found(&mut self, member: &Member) {
        let place = Extent { offset: member.data, size: member.size };
        if let Some(digest) = digest_of(&member.path) {
            self.unverified.insert(digest, place);
        } else if let Some(rest) = member.path.strip_prefix(bundle::PENDING)
            && let Some(digest) = digest_of(&format!("blobs{rest}"))
        {
            self.idle.entry(digest).or_default().push(place);
        }
    }

    /// Makes a place one that holds nothing.
    fn empty(&mut self, digest: &Digest, place: Extent, time: u64) -> Result<()> {
        let Out::File(file) = &self.out else { return Ok(()) };
        let mut bytes = header(bundle::VOID, Kind::File, place.size, time);
        let start = place.offset - header_length(digest);
        // A long name had records before it: they become a file of their own.
        if header_length(digest) > BLOCK {
            bytes = [header(bundle::VOID, Kind::File, BLOCK, time), vec![0; 512], bytes].concat();
        }
        file.write_all_at(&bytes, start)?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if place.size > 0 && fallocate(file, flags, place.offset, place.size).is_err() {
            let mut zeros = io::repeat(0).take(place.size);
            io::copy(&mut zeros, &mut WriteAt { file, position: place.offset })?;
        }
        Ok(())
    }
}

/// Writes to a file without moving its position.
struct WriteAt<'a> {
    file: &'a File,
    position: u64,
}

impl Write for WriteAt<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write_at(bytes, self.position)?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Slot {
    /// Writes the bytes of the blob from `position` on. The caller writes no more than there are,
    /// and to a stream in order.
    pub(super) fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let file = {
            let mut state = self.tar.state();
            match &mut state.out {
                Out::Stream(stream) => return stream.write_all(bytes),
                Out::File(file) => Arc::clone(file),
            }
        };
        file.write_all_at(bytes, self.place.offset + position)
    }

    /// Makes it a blob. The caller has verified the bytes.
    pub(super) fn place(mut self) -> Result<()> {
        let mut state = self.tar.state();
        let padding = padded(self.place.size) - self.place.size;
        match &mut state.out {
            Out::Stream(stream) => {
                stream.write_all(&[0; 512][..usize::try_from(padding).unwrap_or(0)])?;
                state.end = padded(self.place.offset + self.place.size);
                state.is_taken = false;
            }
            Out::File(file) => {
                let path = blob_path(&self.digest);
                let bytes = header(&path, Kind::File, self.place.size, self.tar.time);
                file.write_all_at(&bytes, self.place.offset - bytes.len() as u64)?;
            }
        }
        if let Some(double) = state.blobs.insert(self.digest.clone(), self.place) {
            state.idle.entry(self.digest.clone()).or_default().push(double);
        }
        self.is_whole = true;
        drop(state);
        self.tar.turn.notify_one();
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.is_whole {
            return;
        }
        let mut state = self.tar.state();
        match state.out {
            // What went out cannot be taken back.
            Out::Stream(_) => state.is_broken = true,
            Out::File(_) => {
                state.idle.entry(self.digest.clone()).or_default().push(self.place);
            }
        }
        drop(state);
        self.tar.turn.notify_all();
    }
}

fn take_of_size(places: &mut Vec<Extent>, size: u64) -> Option<Extent> {
    let at = places.iter().position(|place| place.size == size)?;
    Some(places.swap_remove(at))
}

fn pending_path(digest: &Digest) -> String {
    blob_path(digest).replacen("blobs", bundle::PENDING, 1)
}

/// Returns how long the headers before a blob are: a blob and a pending one have as many.
fn header_length(digest: &Digest) -> u64 {
    header(&blob_path(digest), Kind::File, 0, 0).len() as u64
}
