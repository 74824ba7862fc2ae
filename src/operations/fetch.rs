//! Blobs from registries into the store: once each, and on from where an earlier process stopped.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::event::TransferId;
use crate::image::{Descriptor, Repository};
use crate::serve::Growth;
use crate::store::PartialBlob;

use super::session::blocking;
use super::{Error, Kind, Session};

/// Chunks under way between the network and the disk: enough to keep both busy, little memory.
const CHUNKS_AHEAD: usize = 16;
/// How often a process looks whether another one still fetches a blob. The kernel offers no way to
/// wait for a lock that could be given up.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Brings a blob from `repository` into the store, unless it is there. Its bytes are also written to
/// `copy`: while they arrive, or from the store when they did not all come through this call.
pub(super) async fn fetch_blob(
    session: &Session,
    repository: &Repository,
    descriptor: &Descriptor,
    copy: Option<File>,
) -> Result<(), Error> {
    let _turn = session.arrivals.turn(&descriptor.digest).await;
    let Some(partial) = claim(session, descriptor, &mut Follower::nobody()).await? else {
        return copy_from_store(session, descriptor, copy).await;
    };
    if partial.hasher().count() == 0 {
        let onlooker = copy.map_or(Onlooker::Nobody, Onlooker::Copy);
        return Box::pin(receive(session, repository, descriptor, partial, onlooker)).await;
    }
    let follower = &mut Follower::nobody();
    Box::pin(receive_rest(session, repository, descriptor, partial, follower)).await?;
    copy_from_store(session, descriptor, copy).await
}

/// Like [`fetch_blob`], for whoever reads the file while it grows: `growth` is told how much of the
/// blob is there, also while another process fetches it.
pub(super) async fn fetch_growing(
    session: &Session,
    repository: &Repository,
    descriptor: &Descriptor,
    growth: Growth,
) -> Result<(), Error> {
    let _turn = session.arrivals.turn(&descriptor.digest).await;
    let mut follower = Follower { growth: Some(growth), inode: None };
    match claim(session, descriptor, &mut follower).await? {
        Some(partial) => {
            let rest = receive_rest(session, repository, descriptor, partial, &mut follower);
            Box::pin(rest).await
        }
        None => Ok(()),
    }
}

/// Who wants a blob's bytes while they arrive.
enum Onlooker {
    Nobody,
    /// They are written to the file too.
    Copy(File),
    /// They are read from the blob's own file.
    Growth(Growth),
}

/// Tells of the file that a blob grows in, whichever process writes it.
struct Follower {
    growth: Option<Growth>,
    inode: Option<u64>,
}

impl Follower {
    fn nobody() -> Self {
        Self { growth: None, inode: None }
    }

    /// Looks at the file: another one than before is a new beginning.
    fn look_at(&mut self, file: Option<&File>) -> io::Result<()> {
        let (Some(growth), Some(file)) = (&self.growth, file) else { return Ok(()) };
        let metadata = file.metadata()?;
        if self.inode.replace(metadata.ino()).is_some_and(|before| before != metadata.ino()) {
            growth.restart();
        }
        growth.reach(metadata.len());
        Ok(())
    }

    fn onlooker(&self) -> Onlooker {
        self.growth.clone().map_or(Onlooker::Nobody, Onlooker::Growth)
    }
}

/// Returns what is there of the blob, for this process alone; `None` when the store has it whole.
/// Waits while another process fetches it.
async fn claim(
    session: &Session,
    descriptor: &Descriptor,
    follower: &mut Follower,
) -> Result<Option<PartialBlob>, Error> {
    let mut is_said = false;
    loop {
        let (store, wanted) = (session.store.clone(), descriptor.clone());
        let partial = blocking(move || {
            let partial = store.try_partial(&wanted)?;
            // Looked at under the lock: whoever had it before may have brought the blob.
            Ok::<_, Error>((store.has_blob(&wanted.digest), partial, store.open_arriving(&wanted)?))
        });
        let (is_there, partial, file) = partial.await?;
        follower.look_at(file.as_ref()).map_err(unreadable)?;
        match (is_there, partial) {
            (true, partial) => {
                if let Some(partial) = partial {
                    partial.discard();
                }
                return Ok(None);
            }
            (false, Some(partial)) => return Ok(Some(partial)),
            (false, None) => {
                if !std::mem::replace(&mut is_said, true) {
                    let name = descriptor.digest.short();
                    session.note(format!("waiting for another rpub that fetches {name}"));
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        }
    }
}

async fn copy_from_store(
    session: &Session,
    descriptor: &Descriptor,
    copy: Option<File>,
) -> Result<(), Error> {
    let (store, digest) = (session.store.clone(), descriptor.digest.clone());
    let Some(mut copy) = copy else { return Ok(()) };
    blocking(move || {
        let copied = io::copy(&mut store.open_blob(&digest)?, &mut copy);
        // Whoever reads the copy and gives up says why.
        copied.map_or_else(|error| tracing::debug!(%error, "copy of a blob"), |_| ());
        Ok::<_, Error>(())
    })
    .await
}

/// Fetches what is missing of a blob. When the whole then is not what it should be, what was there
/// may have been wrong: it is fetched anew, once.
async fn receive_rest(
    session: &Session,
    repository: &Repository,
    descriptor: &Descriptor,
    partial: PartialBlob,
    follower: &mut Follower,
) -> Result<(), Error> {
    let had_some = partial.hasher().count() > 0;
    match receive(session, repository, descriptor, partial, follower.onlooker()).await {
        Err(error) if error.kind == Kind::Integrity && had_some => {
            session.note(format!("fetching {} anew: {error}", descriptor.digest.short()));
            let Some(partial) = claim(session, descriptor, follower).await? else { return Ok(()) };
            receive(session, repository, descriptor, partial, follower.onlooker()).await
        }
        other => other,
    }
}

/// Fetches what is missing of a blob and makes it one. What does not match is thrown away; what
/// came before another failure stays for the next try.
async fn receive(
    session: &Session,
    repository: &Repository,
    descriptor: &Descriptor,
    partial: PartialBlob,
    onlooker: Onlooker,
) -> Result<(), Error> {
    let hasher = partial.hasher().clone();
    let (transfer, client) = (TransferId::next(), &session.client);
    let begun = hasher.count() > 0;
    let mut stream = match client.resume_blob(repository, descriptor, hasher, transfer).await {
        Ok(stream) => stream,
        Err(error) => {
            if !begun {
                partial.discard();
            }
            return Err(error.into());
        }
    };
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let (verdict, awaited) = tokio::sync::oneshot::channel();
    let writing = tokio::spawn(blocking(move || write(partial, receiver, awaited, onlooker)));
    let received = loop {
        match stream.next().await {
            Ok(Some(chunk)) => {
                // The receiver is gone only when writing has failed, which is reported below.
                if sender.send(chunk).await.is_err() {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(Error::from(error)),
        }
    };
    // Nobody listens when writing has failed.
    let _ = verdict.send(match &received {
        Ok(()) => Verdict::Right,
        Err(error) if error.kind == Kind::Integrity => Verdict::Wrong,
        Err(_) => Verdict::Unfinished,
    });
    drop(sender);
    let written = writing.await.map_err(|error| {
        Error::new(Kind::Internal, "the thread that writes a blob failed").because(error)
    })?;
    received?;
    written
}

/// What the network's side found about the bytes that it passed on.
enum Verdict {
    Right,
    Wrong,
    Unfinished,
}

/// Writes what arrives to the file, and shows it to the onlooker; then does what the verdict asks
/// for.
fn write(
    partial: PartialBlob,
    mut chunks: mpsc::Receiver<Bytes>,
    verdict: tokio::sync::oneshot::Receiver<Verdict>,
    mut onlooker: Onlooker,
) -> Result<(), Error> {
    let mut position = partial.hasher().count();
    while let Some(chunk) = chunks.blocking_recv() {
        partial.file().write_all(&chunk).map_err(unwritable)?;
        position += chunk.len() as u64;
        match &mut onlooker {
            Onlooker::Nobody => {}
            Onlooker::Growth(growth) => growth.reach(position),
            Onlooker::Copy(out) => {
                if let Err(error) = out.write_all(&chunk) {
                    // Whoever unpacks has given up and says why; the blob itself is still wanted.
                    tracing::debug!(%error, "nobody reads the copy of a blob");
                    onlooker = Onlooker::Nobody;
                }
            }
        }
    }
    // A task that was dropped has no verdict.
    match verdict.blocking_recv().unwrap_or(Verdict::Unfinished) {
        Verdict::Right => partial.commit()?,
        Verdict::Wrong => partial.discard(),
        Verdict::Unfinished => {}
    }
    // The copy ends only now: its reader may look for the blob.
    drop(onlooker);
    Ok(())
}

fn unreadable(error: io::Error) -> Error {
    Error::new(Kind::Internal, "failed to look at a blob on its way").because(error)
}

fn unwritable(error: io::Error) -> Error {
    let is_full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    );
    let error = Error::new(Kind::Internal, "failed to write a blob to the store").because(error);
    if is_full {
        return error.hint("make room, as by `rpub prune`; the next try goes on from here");
    }
    error
}
