//! The content key of a selection.
//!
//! SHA-256 over a listing: for each source its kind (and, of a file, the name it would get in a
//! directory), then one record for each of its files in order: path below the source, kind, mode,
//! owner, and what the kind has: SHA-256 of the content, link target, device number; last the
//! extended attributes. Numbers are little-endian, strings are preceded by their length, so no two
//! listings are the same bytes. Times and hard links do not count (BuildKit's `contenthash` leaves
//! them out too), nor do owners where COPY does not keep them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use sha2::{Digest as _, Sha256};

use crate::image::{Algorithm, Digest};

use super::files::{Opener, Xattrs, read_xattrs};
use super::select::{Selection, Source};
use super::stat_cache::now_ns;
use super::tree::{Kind, failed};
use super::walk::Node;
use super::{CopyError, Metadata, StatCache};

/// Part of the listing: another form of it must not find the keys of this one.
const VERSION: &[u8] = b"rpub content 1";

/// How many files a thread takes at once, so that those of a directory stay together.
const BATCH: usize = 32;

const MOST_THREADS: usize = 8;

/// What only reading a file tells.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) sha256: [u8; 32],
    xattrs: Xattrs,
}

/// A selection whose files were read: its content key, and what it was made of.
#[derive(Debug)]
pub struct Fingerprint<'a> {
    pub(super) selection: &'a Selection,
    /// The content of every regular file, in order.
    pub(super) contents: Vec<Content>,
    digest: Digest,
}

impl Fingerprint<'_> {
    /// Returns the content key.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// A regular file and the source that it is of.
type File<'a> = (&'a Source, &'a Node);

impl Selection {
    /// Returns the content key: a digest over names, kinds, modes, owners, link targets, extended
    /// attributes and file contents, in order. Times do not count. Blocks; reads, on several threads,
    /// the files that `cache` does not know.
    ///
    /// # Errors
    ///
    /// [`CopyError::File`] when a file cannot be read, [`CopyError::Changed`] when it is not what it
    /// was when it was selected.
    pub fn digest(&self, cache: &StatCache) -> Result<Digest, CopyError> {
        Ok(self.fingerprint(cache)?.digest)
    }

    /// Returns the content key and what it was made of, as [`Selection::digest`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Selection::digest`].
    pub fn fingerprint(&self, cache: &StatCache) -> Result<Fingerprint<'_>, CopyError> {
        let contents = self.contents(cache)?;
        let digest = self.digest_of(&contents);
        Ok(Fingerprint { selection: self, contents, digest })
    }

    fn digest_of(&self, contents: &[Content]) -> Digest {
        let mut contents = contents.iter();
        let mut listing = Listing::default();
        for source in &self.sources {
            let is_directory = source.node.meta.kind == Kind::Directory;
            listing.text(if is_directory { b"directory" } else { source.name.as_bytes() });
            listing.number(u64::from(is_directory));
            listing.number(source.content.len() as u64);
            let skip = source.node.path.as_os_str().len();
            for node in source.nodes() {
                let below = &node.path.as_os_str().as_bytes()[skip..];
                listing.node(OsStr::from_bytes(below), node, source.keep_ownership);
                let content = (node.meta.kind == Kind::File).then(|| contents.next()).flatten();
                if let Some(content) = content {
                    listing.bytes.extend_from_slice(&content.sha256);
                    match source.metadata {
                        Metadata::All => listing.xattrs(&content.xattrs),
                        Metadata::Portable => listing.xattrs(&Xattrs::new()),
                    }
                }
            }
        }
        listing.digest()
    }

    /// Returns the content of every regular file, in order.
    fn contents(&self, cache: &StatCache) -> Result<Vec<Content>, CopyError> {
        let all =
            self.sources.iter().flat_map(|source| source.nodes().map(move |node| (source, node)));
        let files: Vec<File<'_>> = all.filter(|(_, node)| node.meta.kind == Kind::File).collect();
        let mut contents = vec![Content::default(); files.len()];
        let mut unknown = Vec::new();
        // Names of one file are read once.
        let mut first_names: HashMap<(u64, u64), usize> = HashMap::new();
        let mut other_names = Vec::new();
        for (at, (source, node)) in files.iter().enumerate() {
            if let Some(content) = &source.inline {
                contents[at].sha256 = Sha256::digest(content).into();
                continue;
            }
            if let Some(sha256) = cache.lookup(&node.meta) {
                contents[at].sha256 = sha256;
                continue;
            }
            if node.meta.links > 1 {
                let first = *first_names.entry((node.meta.device, node.meta.inode)).or_insert(at);
                if first != at {
                    other_names.push((at, first));
                    continue;
                }
            }
            unknown.push(at);
        }
        for (at, content) in self.read(&files, &unknown, cache)? {
            contents[at] = content;
        }
        for (at, first) in other_names {
            contents[at] = contents[first].clone();
        }
        Ok(contents)
    }

    /// Reads the files at the places `unknown` on several threads, and remembers their digests.
    fn read(
        &self,
        files: &[File<'_>],
        unknown: &[usize],
        cache: &StatCache,
    ) -> Result<Vec<(usize, Content)>, CopyError> {
        let started_ns = now_ns();
        let bytes: u64 = unknown.iter().map(|at| files[*at].1.meta.size).sum();
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let batch = BATCH.min(unknown.len() / 8 + 1);
        let work = || -> Result<Vec<(usize, Content)>, CopyError> {
            let mut reader = Reader { opener: Opener::new(&self.trees), buffer: Vec::new() };
            let mut done = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let from = next.fetch_add(batch, Ordering::Relaxed);
                let Some(places) = unknown.get(from..) else { break };
                if places.is_empty() {
                    break;
                }
                for at in &places[..batch.min(places.len())] {
                    let read = reader.read(files[*at]);
                    stop.fetch_or(read.is_err(), Ordering::Relaxed);
                    done.push((*at, read?));
                }
            }
            Ok(done)
        };
        // A thread costs as much as some thirty small files, or a few hundred kilobytes.
        let threads = if unknown.len() < 64 && bytes < 1 << 20 {
            1
        } else {
            thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS)
        };
        let done: Vec<(usize, Content)> = thread::scope(|scope| {
            let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for helper in helpers {
                let helped = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                done = done.and_then(|mut done| {
                    done.extend(helped?);
                    Ok(done)
                });
            }
            done
        })?;
        let plain = done.iter().filter(|(_, content)| content.xattrs.is_empty());
        let digests: Vec<_> =
            plain.map(|(at, content)| (files[*at].1.meta, content.sha256)).collect();
        cache.remember(&digests, started_ns);
        Ok(done)
    }
}

fn changed(node: &Node) -> CopyError {
    CopyError::Changed(node.path.clone())
}

struct Reader<'a> {
    opener: Opener<'a>,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    fn read(&mut self, (source, node): File<'_>) -> Result<Content, CopyError> {
        let mut file = self.opener.open(source.tree, node)?;
        let xattrs = read_xattrs(&file);
        let wanted = usize::try_from(node.meta.size).unwrap_or(usize::MAX).saturating_add(1);
        let size = wanted.clamp(4096, 256 * 1024);
        if self.buffer.len() < size {
            self.buffer.resize(size, 0);
        }
        let mut hasher = Sha256::new();
        let mut left = node.meta.size;
        loop {
            let count = file.read(&mut self.buffer).map_err(failed("read", &node.path))?;
            if count == 0 {
                break;
            }
            left = left.checked_sub(count as u64).ok_or_else(|| changed(node))?;
            hasher.update(&self.buffer[..count]);
            if left == 0 && count < self.buffer.len() {
                // A short read at the promised size: the end, without another call to see it.
                break;
            }
        }
        if left > 0 {
            return Err(changed(node));
        }
        Ok(Content { sha256: hasher.finalize().into(), xattrs })
    }
}

/// The listing being written.
struct Listing {
    hasher: Sha256,
    bytes: Vec<u8>,
}

impl Default for Listing {
    fn default() -> Self {
        let mut listing = Self { hasher: Sha256::new(), bytes: Vec::with_capacity(64 * 1024) };
        listing.text(VERSION);
        listing
    }
}

impl Listing {
    fn number(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text);
    }

    fn xattrs(&mut self, xattrs: &Xattrs) {
        self.number(xattrs.len() as u64);
        for (name, value) in xattrs {
            self.text(name);
            self.text(value);
        }
    }

    /// Adds all of `node` but a file's content.
    fn node(&mut self, below: &OsStr, node: &Node, keep_ownership: bool) {
        if self.bytes.len() > 60 * 1024 {
            self.hasher.update(&self.bytes);
            self.bytes.clear();
        }
        self.text(below.as_bytes());
        let meta = &node.meta;
        self.bytes.push(match meta.kind {
            // One that only others need leaves more of an existing directory as it is.
            Kind::Directory if node.is_parent => b'D',
            Kind::Directory => b'd',
            // A socket becomes an empty file.
            Kind::File => b'f',
            Kind::Socket => b's',
            Kind::Symlink => b'l',
            Kind::Fifo => b'p',
            Kind::CharDevice => b'c',
            Kind::BlockDevice => b'b',
        });
        // A link's own mode means nothing and never reaches a layer.
        self.number(if meta.kind == Kind::Symlink { 0 } else { u64::from(meta.mode) });
        let (uid, gid) = if keep_ownership { (meta.uid, meta.gid) } else { (0, 0) };
        self.number(u64::from(uid));
        self.number(u64::from(gid));
        if let Some(target) = &node.target {
            self.text(target.as_os_str().as_bytes());
        }
        self.number(u64::from(meta.device_number.0));
        self.number(u64::from(meta.device_number.1));
        self.xattrs(&node.xattrs);
    }

    fn digest(mut self) -> Digest {
        self.hasher.update(&self.bytes);
        Digest::from_raw(Algorithm::Sha256, &self.hasher.finalize())
    }
}
