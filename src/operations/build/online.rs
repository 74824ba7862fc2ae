//! What a build gets from elsewhere: the way from its blocking threads to the network.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use crate::build::{Cancel, Fetched, Remote, Remotes};
use crate::dockerfile::GitReference;
use crate::event::{Direction, Event, TransferId, TransferOutcome};
use crate::operations::lock::{Address, Pins};
use crate::operations::{Error, Kind, Session};
use crate::registry::{Download, DownloadRequest};
use crate::remote::{
    Content, Fetcher, FileName, GitSettings, GitTree, Head, RemoteFile, Secrets, Tree, Web,
    WebRequest,
};

use super::elsewhere::parse_git;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How often a download that waits is asked whether it is still wanted.
const POLL: Duration = Duration::from_millis(100);
/// The least time between two events of a transfer.
const EVENT_INTERVAL: Duration = Duration::from_millis(50);

/// The outside world of one build. Its methods block.
pub(super) struct Online {
    pub(super) session: Session,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) cancel: Arc<Cancel>,
    pub(super) secrets: Arc<dyn Secrets>,
    pub(super) git: GitSettings,
    /// What was got for steps: each is asked for once, however many steps and platforms need it.
    pub(super) fetched: Mutex<HashMap<Remote, Turn>>,
    /// What is taken by digest, once the lock file is read.
    pub(super) pins: OnceLock<Arc<Pins>>,
}

/// Held while something is got; the others wait for it.
pub(super) type Turn = Arc<Mutex<Option<Fetched>>>;

impl Online {
    /// Gets a file.
    pub(super) fn file(
        &self,
        url: &str,
        name: FileName<'_>,
        checksum: Option<&crate::image::Digest>,
    ) -> Result<RemoteFile, Error> {
        let is_canceled = || self.cancel.is_requested();
        let address = Address::of_url(url);
        let locked = self.pins.get().and_then(|pins| pins.file(&address));
        let locked = locked.filter(|_| checksum.is_none());
        if self.session.is_offline() && checksum.or(locked).is_none() {
            self.say_last_seen(url, name, &address)?;
        }
        let file = self.fetcher(&is_canceled).file(url, name, checksum.or(locked));
        file.map_err(|error| self.explain_pinned(error.into(), locked.is_some(), &address))
    }

    /// Returns when what the store has of a URL was last seen to be what it gives; `None` when the store
    /// has nothing of it, or not what `checksum` says.
    pub(super) fn known_file(
        &self,
        url: &str,
        name: FileName<'_>,
        checksum: Option<&crate::image::Digest>,
    ) -> Result<Option<(crate::image::Digest, SystemTime)>, Error> {
        Ok(self.fetcher(&|| false).known_file(url, name, checksum)?)
    }

    fn say_last_seen(&self, url: &str, name: FileName<'_>, address: &Address) -> Result<(), Error> {
        if let Some((digest, at)) = self.known_file(url, name, None)? {
            let at = Timestamp::try_from(at).unwrap_or_default();
            let name = address.shown().to_owned();
            self.session.sink.emit(Event::LastSeen { name, digest, at });
        }
        Ok(())
    }

    /// Returns whether the store has the files of a commit.
    pub(super) fn has_repository(&self, wanted: &GitTree<'_>) -> Result<bool, Error> {
        self.at_commit(wanted, |wanted| self.fetcher(&|| false).has_repository(wanted))
    }

    /// Gets the files of a commit.
    pub(super) fn repository(&self, wanted: &GitTree<'_>) -> Result<Tree, Error> {
        let is_canceled = || self.cancel.is_requested();
        let name = wanted.reference.name().to_owned();
        let transfer = Transfer::begin(&self.session, format!("git {name}"), None);
        let tree = self.at_commit(wanted, |wanted| self.fetcher(&is_canceled).repository(wanted));
        transfer.end(if tree.is_ok() { TransferOutcome::Moved } else { TransferOutcome::Failed });
        tree
    }

    /// Returns the commit that a reference is.
    pub(super) fn commit(&self, wanted: &GitTree<'_>) -> Result<String, Error> {
        let is_canceled = || self.cancel.is_requested();
        Ok(self.fetcher(&is_canceled).commit(wanted)?)
    }

    /// Returns when a commit was made, in seconds since 1970.
    pub(super) fn commit_time(&self, wanted: &GitTree<'_>) -> Result<i64, Error> {
        let is_canceled = || self.cancel.is_requested();
        self.at_commit(wanted, |wanted| self.fetcher(&is_canceled).commit_time(wanted))
    }

    /// Does `work` with the commit that the lock file names, if it names one that what is wanted can
    /// be.
    fn at_commit<T>(
        &self,
        wanted: &GitTree<'_>,
        work: impl Fn(&GitTree<'_>) -> Result<T, crate::remote::Error>,
    ) -> Result<T, Error> {
        let address = Address::of_repository(wanted.reference);
        let locked = self.pins.get().and_then(|pins| pins.commit(&address));
        let Some(commit) = locked.filter(|commit| wanted.can_be(commit)) else {
            return Ok(work(wanted)?);
        };
        let reference = GitReference { fetch_by_commit: true, ..wanted.reference.clone() };
        let wanted = GitTree { reference: &reference, checksum: Some(commit), ..*wanted };
        work(&wanted).map_err(|error| self.explain_pinned(error.into(), true, &address))
    }

    /// Says what helps when what the lock file names is gone.
    fn explain_pinned(&self, error: Error, is_pinned: bool, address: &Address) -> Error {
        let is_gone = matches!(error.kind, Kind::Integrity | Kind::NotFound);
        match self.pins.get().filter(|_| is_pinned && is_gone) {
            Some(pins) => error.hint(format!(
                "it is what `{}` names; run `rpub lock --update {}` if that is out of date",
                pins.name(),
                address.shown()
            )),
            None => error,
        }
    }

    fn fetcher<'a>(&'a self, is_canceled: &'a (dyn Fn() -> bool + Sync)) -> Fetcher<'a> {
        Fetcher {
            store: &self.session.store,
            web: self,
            secrets: self.secrets.as_ref(),
            git: &self.git,
            is_canceled,
            is_offline: self.session.is_offline(),
        }
    }

    /// Ready when the build is to stop.
    async fn canceled(&self) {
        while !self.cancel.is_requested() {
            tokio::time::sleep(POLL).await;
        }
    }

    async fn download(
        &self,
        request: &WebRequest,
        content: &mut dyn Content,
    ) -> Result<Head, Failure> {
        let client = &self.session.client;
        let mut attempts = client.attempts();
        let request = DownloadRequest {
            url: request.url.clone(),
            headers: request.headers.clone(),
            authorization: request.authorization.clone(),
        };
        loop {
            let answer = client.download(&request, &mut attempts).await.map_err(boxed)?;
            let head = Head { status: answer.status(), headers: answer.headers().clone() };
            content.begin()?;
            match self.receive(&request, answer, content).await? {
                Ok(()) => return Ok(head),
                Err(error) => {
                    client.wait_to_repeat(&request, error, &mut attempts).await.map_err(boxed)?;
                }
            }
        }
    }

    /// Gives the body to `content`: an inner error is the connection's, an outer one that of
    /// `content`, which no repetition mends.
    async fn receive(
        &self,
        request: &DownloadRequest,
        mut answer: Download,
        content: &mut dyn Content,
    ) -> Result<Result<(), crate::registry::Error>, Failure> {
        let name = request.url.path_segments().and_then(|mut parts| parts.next_back());
        let name = name.filter(|name| !name.is_empty()).unwrap_or("file").to_owned();
        let transfer = Transfer::begin(&self.session, name, answer.content_length());
        loop {
            match answer.next().await {
                Ok(Some(bytes)) => {
                    content.take(&bytes)?;
                    transfer.moved_by(bytes.len() as u64);
                }
                Ok(None) => {
                    transfer.end(TransferOutcome::Moved);
                    return Ok(Ok(()));
                }
                Err(error) => {
                    transfer.end(TransferOutcome::Failed);
                    return Ok(Err(error));
                }
            }
        }
    }
}

fn boxed(error: crate::registry::Error) -> Failure {
    Error::from(error).into()
}

impl Web for Online {
    fn get(&self, request: &WebRequest, content: &mut dyn Content) -> Result<Head, Failure> {
        self.runtime.block_on(async {
            tokio::select! {
                head = self.download(request, content) => head,
                () = self.canceled() => Err(crate::remote::Error::Canceled.into()),
            }
        })
    }
}

impl Remotes for Online {
    fn fetch(&self, remote: &Remote) -> Result<Fetched, Failure> {
        let turn = {
            let mut turns = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(remote.clone()).or_default())
        };
        let mut fetched = turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fetched) = &*fetched {
            return Ok(fetched.clone());
        }
        Ok(fetched.insert(self.get_remote(remote)?).clone())
    }
}

impl Online {
    /// Gets what `ADD` names.
    pub(super) fn get_remote(&self, remote: &Remote) -> Result<Fetched, Error> {
        match remote {
            Remote::Http { url, checksum } => {
                let file = self.file(url, FileName::OfUrl, checksum.as_ref())?;
                let identity = file.digest.to_string();
                Ok(Fetched { root: file.directory, file: Some(file.name), identity })
            }
            Remote::Git { url, checksum, keep_git_dir } => {
                let reference = parse_git(url)?;
                let tree = self.repository(&GitTree {
                    reference: &reference,
                    checksum: checksum.as_deref(),
                    keep_git_dir: *keep_git_dir,
                })?;
                Ok(Fetched { root: tree.root, file: None, identity: tree.identity })
            }
        }
    }
}

/// The events of one transfer.
struct Transfer<'a> {
    session: &'a Session,
    id: TransferId,
    state: Mutex<State>,
}

struct State {
    position_bytes: u64,
    told: Option<Instant>,
    has_ended: bool,
}

impl<'a> Transfer<'a> {
    fn begin(session: &'a Session, name: String, total_bytes: Option<u64>) -> Self {
        let (id, direction) = (TransferId::next(), Direction::Pull);
        session.sink.emit(Event::TransferStarted { transfer: id, direction, name, total_bytes });
        let state = State { position_bytes: 0, told: None, has_ended: false };
        Self { session, id, state: Mutex::new(state) }
    }

    fn moved_by(&self, bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.position_bytes += bytes;
        let position_bytes = state.position_bytes;
        if state.told.is_none_or(|told| told.elapsed() >= EVENT_INTERVAL) {
            state.told = Some(Instant::now());
            self.session.sink.emit(Event::TransferProgress { transfer: self.id, position_bytes });
        }
    }

    fn end(&self, outcome: TransferOutcome) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut state.has_ended, true) {
            self.session.sink.emit(Event::TransferFinished { transfer: self.id, outcome });
        }
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        self.end(TransferOutcome::Failed);
    }
}
