//! Whether every byte of an archive is as it was written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;

use crate::blob::{HeldFile, Source as _, VerifyingReader};
use crate::image::{Descriptor, Digest};

use super::bundle::{self, INDEX, TRAILER, VOID};
use super::read::{INDEX_FILE, LAYOUT_FILE};
use super::stored::LAYOUT;
use super::tar::{
    BLOCK, Extent, Kind, Member, Step, Walk, digest_of, filler, header, padded, read_exact_at,
};
use super::{Archive, Error, Result};

impl Archive {
    /// Reads every blob and compares it with its digest. Of a bundle, every other byte is compared
    /// with what the format says as well.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] and [`Error::Damaged`] for the first that differs, [`Error::Io`].
    pub fn verify(&self) -> Result<()> {
        for (digest, size) in self.blobs()? {
            self.verify_blob(&Descriptor::new("", digest, size))?;
        }
        self.verify_frame()
    }

    /// Compares what is around the blobs of a bundle with what the format says.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] for the first byte that differs, [`Error::Io`].
    pub fn verify_frame(&self) -> Result<()> {
        let Some((file, end)) = self.bundle_file() else { return Ok(()) };
        Frame { archive: self, file, end, places: self.extents() }.check()
    }

    /// Reads a blob and compares it with its descriptor.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`], and those of [`Archive::source`].
    pub fn verify_blob(&self, descriptor: &Descriptor) -> Result<()> {
        let reader = self.source(descriptor)?.open(0)?;
        let mut reader = VerifyingReader::new(reader, descriptor.clone());
        io::copy(&mut reader, &mut io::sink()).map(drop).map_err(Error::of_reading)
    }
}

/// What is around the blobs of a bundle.
struct Frame<'a> {
    archive: &'a Archive,
    file: &'a Arc<File>,
    /// Where the zeros are that end it.
    end: u64,
    /// Blobs whose place has not been passed.
    places: BTreeMap<Digest, Extent>,
}

impl Frame<'_> {
    fn check(mut self) -> Result<()> {
        let path = self.archive.path();
        let mut walk = Walk::new(self.file, self.end, 0);
        let mut indexes = (0, 0);
        loop {
            match walk.step().map_err(|fault| fault.in_file(path))? {
                // Zeros that should have given way, when the last step of an addition was missed.
                Step::End(_) => {}
                Step::Eof => break,
                Step::Member(member) => {
                    match member.path.as_str() {
                        INDEX_FILE => indexes.0 = member.data,
                        INDEX => indexes.1 = member.data,
                        TRAILER => self.check_trailer(&member, indexes)?,
                        _ => self.check_content(&member)?,
                    }
                    self.check_around(&member)?;
                }
            }
        }
        self.expect_zeros(self.end, 2 * BLOCK)?;
        match self.places.keys().next() {
            None => Ok(()),
            Some(digest) => Err(self.damaged(self.end, &format!("{digest} has no header"))),
        }
    }

    /// Checks the headers before a member, and the zeros after it.
    fn check_around(&self, member: &Member) -> Result<()> {
        let expected = header(&member.path, Kind::File, member.size, 0);
        let length = usize::try_from(member.data - member.start).unwrap_or(usize::MAX);
        let actual = read_exact_at(self.file, member.start, length)?;
        let rest = actual.strip_prefix(filler().as_slice()).unwrap_or(&actual);
        if rest != expected {
            return Err(self.damaged(member.start, "a header is not as it was written"));
        }
        let end = member.data + member.size;
        self.expect_zeros(end, padded(end) - end)
    }

    fn check_content(&mut self, member: &Member) -> Result<()> {
        let place = Extent { offset: member.data, size: member.size };
        let expected: Vec<u8> = match member.path.as_str() {
            VOID => return self.expect_zeros(member.data, member.size),
            bundle::MARKER => bundle::marker_text(),
            LAYOUT_FILE => LAYOUT.to_vec(),
            name => {
                let digest = digest_of(name);
                let listed = digest.and_then(|digest| self.places.remove(&digest));
                if listed == Some(place) {
                    return Ok(());
                }
                let what = format!("`{name}` is not in its index");
                return Err(self.damaged(member.start, &what));
            }
        };
        let has_length = member.size == expected.len() as u64;
        if !has_length || read_exact_at(self.file, member.data, expected.len())? != expected {
            return Err(self.damaged(member.data, "a file is not as it was written"));
        }
        Ok(())
    }

    /// Checks the two indexes before a trailer: those of earlier times as well.
    fn check_trailer(&self, member: &Member, (images, index): (u64, u64)) -> Result<()> {
        let reader = bundle::Reader {
            file: self.file,
            length: self.end + 2 * BLOCK,
            path: self.archive.path(),
        };
        // A filler may be before the header.
        let found = reader.by_trailer(member.data - BLOCK)?;
        match found {
            Some(found) if found.index.images.offset == images && found.at == index => Ok(()),
            _ => Err(self.damaged(member.start, "a trailer is not as it was written")),
        }
    }

    fn expect_zeros(&self, at: u64, size: u64) -> Result<()> {
        let mut reader = HeldFile::part(Arc::clone(self.file), at, size).open(0)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(()),
                count if buffer[..count].iter().all(|byte| *byte == 0) => {}
                _ => return Err(self.damaged(at, "there is something where nothing should be")),
            }
        }
    }

    fn damaged(&self, at: u64, what: &str) -> Error {
        Error::Damaged { path: self.archive.path().to_owned(), at, what: what.to_owned() }
    }
}
