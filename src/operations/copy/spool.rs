//! A blob's bytes in a file without a name: written once as they come, read meanwhile by anybody.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::operations::Error;
use crate::store::Store;

/// The file. It is gone when nobody has it open any more, and with a process that is killed.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    written: u64,
    end: Option<End>,
}

/// How the writing of a spool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Everything is there, and is what it should be.
    Whole,
    /// No more will come.
    Broken,
}

impl Spool {
    /// Makes an empty one on the store's disk. Blocks.
    pub(super) fn new(store: &Store) -> Result<Self, Error> {
        let ingest = store.ingest_file()?;
        let file = ingest.file().try_clone().map_err(crate::store::Error::Io)?;
        // The name goes with `ingest`; the file stays as long as it is open.
        Ok(Self { file, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Adds bytes. Blocks. Only one thread may do so.
    pub(super) fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let at = self.state().written;
        self.file.write_all_at(bytes, at)?;
        self.state().written = at + bytes.len() as u64;
        self.changed.notify_all();
        Ok(())
    }

    /// Says that nothing more comes.
    pub(super) fn finish(&self, end: End) {
        self.state().end = Some(end);
        self.changed.notify_all();
    }

    /// Returns whether it can still be, or become, whole.
    pub(super) fn is_good(&self) -> bool {
        self.state().end != Some(End::Broken)
    }

    /// Reads from `offset` on, up to the end, which is not reached before everything was found right.
    pub(super) fn reader(self: &Arc<Self>, offset: u64) -> SpoolReader {
        SpoolReader { spool: Arc::clone(self), position: offset }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something at `position`; `None` at the end.
    fn wait(&self, position: u64) -> io::Result<Option<u64>> {
        let mut state = self.state();
        loop {
            match state.end {
                Some(End::Broken) => return Err(broken()),
                _ if state.written > position => return Ok(Some(state.written - position)),
                Some(End::Whole) => return Ok(None),
                None => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// What a reader is told when the other end has failed, which says why.
pub(super) fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the blob cannot be read from where it is copied")
}

/// One reader of a [`Spool`].
#[derive(Debug)]
pub(super) struct SpoolReader {
    spool: Arc<Spool>,
    position: u64,
}

impl Read for SpoolReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(there) = self.spool.wait(self.position)? else { return Ok(0) };
        let length = usize::try_from(there).map_or(buffer.len(), |there| buffer.len().min(there));
        let count = self.spool.file.read_at(&mut buffer[..length], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool() -> (tempfile::TempDir, Arc<Spool>) {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("a store");
        (directory, Arc::new(Spool::new(&store).expect("a spool")))
    }

    #[test]
    fn readers_follow_the_writer_from_wherever_they_begin() {
        let (directory, spool) = spool();
        let readers: Vec<_> = [0, 3, 9]
            .into_iter()
            .map(|offset| {
                let mut reader = spool.reader(offset);
                std::thread::spawn(move || {
                    let mut text = String::new();
                    reader.read_to_string(&mut text).map(|_| text)
                })
            })
            .collect();
        for part in ["some", " more", " text"] {
            spool.append(part.as_bytes()).expect("written");
        }
        spool.finish(End::Whole);
        let read: Vec<_> =
            readers.into_iter().map(|it| it.join().expect("joined").expect("read")).collect();
        assert_eq!(read, ["some more text", "e more text", " text"]);
        let left = std::fs::read_dir(directory.path().join("ingest")).expect("listed").count();
        assert_eq!(left, 0, "the file has no name");
    }

    #[test]
    fn what_is_broken_never_looks_whole() {
        let (_directory, spool) = spool();
        spool.append(b"half").expect("written");
        spool.finish(End::Broken);
        assert!(!spool.is_good());
        let mut text = Vec::new();
        assert!(spool.reader(0).read_to_end(&mut text).is_err());
        assert!(text.is_empty());
    }
}
