//! The bundle format: its index and its trailer. The room's page specifies it.

use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::image::Digest;

use super::stored::to_json;
use super::tar::{BLOCK, Kind, Step, Walk, header, read_exact_at};
use super::{Error, Result};

/// The version that this program writes, and the newest that it reads.
const VERSION: u64 = 1;
/// The first member: tells a bundle from other tars, and its version.
pub(super) const MARKER: &str = "rpub-bundle";
/// Where every blob is.
pub(super) const INDEX: &str = "rpub-bundle.index";
/// The last member, of one block: where the index is.
pub(super) const TRAILER: &str = "rpub-bundle.trailer";
/// What nobody wanted in the end: zeros.
pub(super) const VOID: &str = "rpub-bundle.void";
/// A blob being written, followed by `/<algorithm>/<hex>`.
pub(super) const PENDING: &str = "rpub-bundle.pending";
/// Trailer and two blocks of zeros.
const TAIL: u64 = 4 * BLOCK;
/// Most of an index that is read: half a million blobs.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// A blob or file in the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Located {
    pub(super) digest: Digest,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// A blob that the bundle leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// What a delta bundle does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The inventory of the other side that it was made against, in words.
    pub against: String,
    /// The blobs that the other side had.
    pub left_out: Vec<LeftOut>,
}

/// The content of the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BundleIndex {
    pub(super) version: u64,
    /// `index.json`.
    pub(super) images: Located,
    pub(super) blobs: Vec<Located>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) delta: Option<Delta>,
}

impl BundleIndex {
    pub(super) fn new(images: Located, blobs: Vec<Located>, delta: Option<Delta>) -> Self {
        Self { version: VERSION, images, blobs, delta }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        to_json(self)
    }
}

/// Returns the first member, whole.
pub(super) fn marker() -> Vec<u8> {
    member(MARKER, &marker_text())
}

/// Returns what the first member says.
pub(super) fn marker_text() -> Vec<u8> {
    format!("{{\"version\":{VERSION}}}\n").into_bytes()
}

/// Returns a member, whole.
pub(super) fn member(name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, Kind::File, content.len() as u64, 0);
    bytes.extend(content);
    let block = usize::try_from(BLOCK).unwrap_or(512);
    bytes.resize(bytes.len().next_multiple_of(block), 0);
    bytes
}

/// Returns the last member of a bundle whose index is there.
pub(super) fn trailer(index: &Located) -> Vec<u8> {
    let Located { digest, offset, size } = index;
    let mut text = format!("{MARKER} {VERSION}\n{offset} {size} {digest}\n").into_bytes();
    text.resize(512, 0);
    member(TRAILER, &text)
}

/// What was found at the end of a bundle.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) index: BundleIndex,
    pub(super) images: Vec<u8>,
    /// Where the index is.
    pub(super) at: u64,
    /// Where the zeros after the trailer begin.
    pub(super) end: u64,
}

/// A bundle being opened.
pub(super) struct Reader<'a> {
    pub(super) file: &'a File,
    pub(super) length: u64,
    pub(super) path: &'a Path,
}

impl Reader<'_> {
    /// Tells whether the file begins as a bundle does.
    pub(super) fn is_bundle(&self) -> Result<bool> {
        let ours = marker();
        let length = usize::try_from(self.length).unwrap_or(usize::MAX).min(ours.len());
        let start = read_exact_at(self.file, 0, length)?;
        let name_length = MARKER.len() + 1;
        if start.len() < name_length || start[..name_length] != ours[..name_length] {
            return Ok(false);
        }
        if start != ours {
            return Err(self.bad_marker(&start));
        }
        Ok(true)
    }

    fn bad_marker(&self, start: &[u8]) -> Error {
        #[derive(Deserialize)]
        struct Marker {
            version: u64,
        }
        let text = start.get(512..).unwrap_or_default();
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        match serde_json::from_slice::<Marker>(line) {
            Ok(marker) if marker.version > VERSION => self.newer(marker.version),
            _ if start.len() < 1024 => self.cut(),
            _ => self.damaged(0, "it does not begin as a bundle does"),
        }
    }

    /// Reads the index: by the trailer at the end, or else, when an addition was interrupted, by
    /// the one before it.
    pub(super) fn read(&self) -> Result<Found> {
        if let Some(trailer) = self.length.checked_sub(TAIL)
            && read_exact_at(self.file, trailer + 2 * BLOCK, 1024)?.iter().all(|byte| *byte == 0)
            && let Some(found) = self.by_trailer(trailer)?
        {
            return Ok(found);
        }
        let trailer = self.former_trailer()?;
        let found = self.by_trailer(trailer)?;
        found.ok_or_else(|| self.damaged(trailer, "its trailer is wrong"))
    }

    /// Reads the index that the trailer at `at` names; `None` when there is none.
    pub(super) fn by_trailer(&self, at: u64) -> Result<Option<Found>> {
        let bytes = read_exact_at(self.file, at, 1024)?;
        let Some(text) = bytes[512..].strip_prefix(format!("{MARKER} ").as_bytes()) else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(text);
        let mut words = text.split(['\n', ' ']);
        let mut next = || words.next().unwrap_or_default();
        let (version, offset, size, digest) = (next(), next(), next(), next());
        if let Ok(version) = version.parse()
            && version > VERSION
        {
            return Err(self.newer(version));
        }
        let (Ok(offset), Ok(size), Ok(digest)) = (offset.parse(), size.parse(), digest.parse())
        else {
            return Ok(None);
        };
        let located = Located { digest, offset, size };
        if trailer(&located) != bytes {
            return Ok(None);
        }
        let index = self.piece(&located, at, "its index")?;
        let index: BundleIndex = serde_json::from_slice(&index).map_err(|source| Error::Json {
            path: self.path.to_owned(),
            name: INDEX.to_owned(),
            source,
        })?;
        let images = self.piece(&index.images, at, "its index.json")?;
        let is_inside =
            |blob: &Located| blob.offset.checked_add(blob.size).is_some_and(|end| end <= at);
        if !index.blobs.iter().all(is_inside) {
            return Err(self.damaged(offset, "its index names what is outside of it"));
        }
        Ok(Some(Found { index, images, at: offset, end: at + TAIL - 2 * BLOCK }))
    }

    /// Reads a verified piece of the file that ends before `before`.
    fn piece(&self, located: &Located, before: u64, what: &str) -> Result<Vec<u8>> {
        let Located { digest, offset, size } = located;
        if offset.checked_add(*size).is_none_or(|end| end > before) {
            return Err(self.damaged(before, &format!("{what} is outside of it")));
        }
        if *size > MAX_INDEX_BYTES {
            let (path, what) = (self.path.to_owned(), what.to_owned());
            return Err(Error::TooLarge { path, what, size: *size, limit: MAX_INDEX_BYTES });
        }
        let bytes = read_exact_at(self.file, *offset, usize::try_from(*size).unwrap_or(0))?;
        if digest.of_same_algorithm(&bytes) != *digest {
            return Err(self.damaged(*offset, &format!("{what} does not match its digest")));
        }
        Ok(bytes)
    }

    /// Finds the trailer that counts when the file does not end in one. While more is added, the
    /// zeros after it stay, which tells an interrupted addition from a bundle that was cut.
    fn former_trailer(&self) -> Result<u64> {
        let mut walk = Walk::new(self.file, self.length, 0);
        loop {
            match walk.step().map_err(|fault| fault.in_file(self.path))? {
                Step::Member(member) if member.path == TRAILER => {
                    if self.zeros_follow(member.start)? {
                        return Ok(member.start);
                    }
                }
                Step::Member(_) => {}
                Step::End(at) => return Err(self.damaged(at, "zeros are in the way")),
                Step::Eof => return Err(self.cut()),
            }
        }
    }

    /// Tells whether the trailer at `at` is followed by zeros, and more after them.
    fn zeros_follow(&self, at: u64) -> Result<bool> {
        let end = at + TAIL;
        if self.length <= end {
            return Ok(false);
        }
        let zeros = read_exact_at(self.file, end - 2 * BLOCK, 1024)?;
        Ok(zeros.iter().all(|byte| *byte == 0))
    }

    fn newer(&self, found: u64) -> Error {
        Error::NewerVersion { path: self.path.to_owned(), found, known: VERSION }
    }

    fn cut(&self) -> Error {
        Error::Cut { path: self.path.to_owned(), at: self.length }
    }

    fn damaged(&self, at: u64, what: &str) -> Error {
        Error::Damaged { path: self.path.to_owned(), at, what: what.to_owned() }
    }
}
