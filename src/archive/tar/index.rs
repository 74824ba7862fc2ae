//! Where everything in a tar is.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use crate::archive::{Error, Result};
use crate::image::Digest;

use super::walk::{Step, Walk};

/// Most members of a tar. An archive has one for each blob: a thousand images have ten thousand.
const MAX_MEMBERS: usize = 200_000;
/// Most links from a name to the file that it stands for.
const MAX_LINKS: usize = 8;

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::archive) struct Extent {
    pub(in crate::archive) offset: u64,
    pub(in crate::archive) size: u64,
}

/// The files of a tar by name. Of two with one name the later counts, as when it is unpacked.
#[derive(Debug, Default)]
pub(in crate::archive) struct TarIndex {
    files: HashMap<String, Place>,
    /// Where the two zero blocks are that end it; `None` when they are missing.
    pub(in crate::archive) end: Option<u64>,
}

#[derive(Debug)]
enum Place {
    Here(Extent),
    Link(String),
}

impl TarIndex {
    /// Reads the headers of a tar.
    pub(in crate::archive) fn read(file: &File, length: u64, path: &Path) -> Result<Self> {
        let mut walk = Walk::new(file, length, 0);
        let mut index = Self::default();
        let mut count = 0;
        loop {
            match walk.step().map_err(|fault| fault.in_file(path))? {
                Step::Member(member) => {
                    count += 1;
                    if count > MAX_MEMBERS {
                        return Err(Error::TooMany { path: path.to_owned(), limit: MAX_MEMBERS });
                    }
                    let here = Extent { offset: member.data, size: member.size };
                    let place = member.link.map_or(Place::Here(here), Place::Link);
                    if member.is_file {
                        index.files.insert(member.path, place);
                    }
                }
                Step::End(at) => {
                    index.end = Some(at);
                    return Ok(index);
                }
                Step::Eof => return Ok(index),
            }
        }
    }

    /// Returns where the file `name` is. Links lead to other members only.
    pub(in crate::archive) fn find(&self, name: &str) -> Option<Extent> {
        let mut place = self.files.get(name.strip_prefix("./").unwrap_or(name))?;
        for _ in 0..=MAX_LINKS {
            match place {
                Place::Here(extent) => return Some(*extent),
                Place::Link(target) => place = self.files.get(target)?,
            }
        }
        None
    }

    /// Returns the blobs: `blobs/<algorithm>/<hex>`.
    pub(in crate::archive) fn blobs(&self) -> HashMap<Digest, Extent> {
        let blob = |name: &String| Some((digest_of(name)?, self.find(name)?));
        self.files.keys().filter_map(blob).collect()
    }
}

/// Returns the digest of the blob whose path in a layout is `name`.
pub(in crate::archive) fn digest_of(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}
