//! The client: what one can ask of a registry.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, StatusCode};

use super::connections::Reachable;
use super::external::External;
use super::growing::GrowingPush;
use super::progress::Progress;
use super::push::Push;
use super::retry::Budget;
use super::session::{Purpose, Session, Shared};
use super::{
    BlobStream, Error, Forgetful, Growing, Hosts, Memory, PullTarget, Quirks, RateLimit, Result,
    RetryPolicy, Role, manifests,
};
use crate::blob::{Hasher, Source};
use crate::credentials::{Credential, Fixed, Lookup, Secret};
use crate::event::{Direction, Sink, TransferId, TransferOutcome};
use crate::image::{
    Descriptor, Digest, Manifest, Reference, RegistryName, Repository, RepositoryName, Tag,
};

/// The most blobs that move at once each way: more only makes each of them slower.
const DEFAULT_CONCURRENCY: usize = 16;

/// What a [`Client`] is made of.
#[derive(Clone)]
pub struct ClientOptions {
    /// Mirrors and insecure registries.
    pub hosts: Hosts,
    /// PEM files with authorities to trust besides the system's.
    pub ca_files: Vec<PathBuf>,
    /// Who knows the credentials.
    pub credentials: Arc<dyn Lookup>,
    /// Who knows those for repositories that are written to, when they are others. The two share
    /// no token, not even on one registry.
    pub push_credentials: Option<Arc<dyn Lookup>>,
    /// Who hears of progress, retries and warnings.
    pub events: Arc<dyn Sink>,
    /// How the client calls itself.
    pub user_agent: String,
    /// The most blobs that move at once each way.
    pub concurrency: usize,
    /// The most bytes that move in a second, both ways together.
    pub bytes_per_second: Option<NonZeroU64>,
    /// When to try again.
    pub retry: RetryPolicy,
    /// What is remembered from one run to the next.
    pub memory: Arc<dyn Memory>,
    /// Whether anybody is asked anything at all.
    pub reachable: Reachable,
}

impl ClientOptions {
    /// Returns options without mirrors, with the defaults for the rest.
    #[must_use]
    pub fn new(credentials: Arc<dyn Lookup>, events: Arc<dyn Sink>) -> Self {
        Self {
            hosts: Hosts::default(),
            ca_files: Vec::new(),
            credentials,
            push_credentials: None,
            events,
            user_agent: concat!("rpub/", env!("CARGO_PKG_VERSION")).to_owned(),
            concurrency: DEFAULT_CONCURRENCY,
            bytes_per_second: None,
            retry: RetryPolicy::default(),
            memory: Arc::new(Forgetful),
            reachable: Reachable::All,
        }
    }
}

/// How a blob came to be in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    AlreadyThere,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was sent.
    Uploaded {
        /// Its size.
        bytes: u64,
    },
}

/// A client of all registries. Cloning it is cheap; clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// Returns a client. Does no input or output: that begins with the first request.
    #[must_use]
    pub fn new(options: ClientOptions) -> Self {
        Self { shared: Arc::new(Shared::new(options)) }
    }

    /// Returns a client that also sends this header with each request, to mirrors too, and knows
    /// nothing yet.
    ///
    /// # Errors
    ///
    /// What is wrong with the header.
    pub fn with_header(&self, name: &str, value: &str) -> Result<Self, String> {
        let mut options = self.shared.options.clone();
        options.hosts.add_header(name, value)?;
        Ok(Self::new(options))
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Returns the descriptor of the manifest that `reference` names, without its platform.
    pub async fn resolve(&self, reference: &Reference) -> Result<Descriptor> {
        self.at_any_place(reference, |session| {
            Box::pin(async move { manifests::resolve(&session, reference).await })
        })
        .await
    }

    /// Like [`Client::resolve`], but asks the registry itself: a mirror may be behind, which whoever
    /// is about to change a tag must not be.
    pub async fn resolve_at_origin(&self, reference: &Reference) -> Result<Descriptor> {
        manifests::resolve(&self.origin(&reference.repository), reference).await
    }

    /// Like [`Client::resolve`], but asks where a push goes, as who pushes.
    pub async fn resolve_at_destination(&self, reference: &Reference) -> Result<Descriptor> {
        manifests::resolve(&self.upstream(&reference.repository), reference).await
    }

    /// Like [`Client::resolve`], but only by `HEAD`: `None` when that does not tell.
    pub async fn peek(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        self.at_any_place(reference, |session| {
            Box::pin(async move { manifests::peek(&session, reference).await })
        })
        .await
    }

    /// Like [`Client::peek`], but asks only mirrors, and takes whatever keeps one from answering for no
    /// answer: for when the registry itself cannot be reached.
    pub async fn peek_at_mirrors(&self, reference: &Reference) -> Option<Descriptor> {
        for session in self.mirrors(reference) {
            match manifests::peek(&session, reference).await {
                Ok(Some(found)) => return Some(found),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "a mirror does not say what it has"),
            }
        }
        None
    }

    /// Returns the manifest that `reference` names, its digest verified when the reference has one.
    pub async fn manifest(&self, reference: &Reference) -> Result<Manifest> {
        self.at_any_place(reference, |session| {
            Box::pin(async move { manifests::get(&session, reference).await })
        })
        .await
    }

    /// Returns the size of a blob in `repository`, or `None` when it is not there.
    ///
    /// Asks the registry itself, not its mirrors, which may lack what it has.
    pub async fn blob_exists(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<u64>> {
        size_of_blob(&self.origin(repository), digest).await
    }

    /// Like [`Client::blob_exists`], but asks where a push goes, as who pushes.
    pub async fn blob_exists_at_destination(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<u64>> {
        size_of_blob(&self.upstream(repository), digest).await
    }

    /// Begins to fetch a blob: from a mirror if one has it, else from the registry.
    ///
    /// # Errors
    ///
    /// When no place has it, before any byte is given out.
    pub async fn fetch_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        transfer: TransferId,
    ) -> Result<BlobStream> {
        let hasher = Hasher::new(descriptor.digest.algorithm());
        self.resume_blob(repository, descriptor, hasher, transfer).await
    }

    /// Like [`Client::fetch_blob`], but begins after the bytes that `hasher` has taken in.
    ///
    /// # Errors
    ///
    /// Those of [`Client::fetch_blob`]. When those bytes were wrong, it is the stream that says so
    /// at its end.
    pub async fn resume_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        hasher: Hasher,
        transfer: TransferId,
    ) -> Result<BlobStream> {
        let name = descriptor.digest.short().to_owned();
        let progress =
            Progress::begin(&self.shared, transfer, Direction::Pull, name, Some(descriptor.size));
        if descriptor.is_elsewhere() {
            let session = self.origin(repository);
            let registry = &session.host.access(&self.shared).await?.base;
            let opened = External::open(self, registry, descriptor, hasher.count()).await?;
            if let Some(external) = opened {
                return Ok(BlobStream::elsewhere(external, descriptor.clone(), progress, hasher));
            }
        }
        let endpoints = self.shared.options.hosts.for_pull(repository).into_iter();
        let places =
            endpoints.map(|endpoint| Session::new(&self.shared, endpoint, Purpose::Read)).collect();
        let budget = Budget::new(self.shared.options.retry);
        BlobStream::open(places, descriptor.clone(), budget, progress, hasher).await
    }

    /// Returns a small blob, such as a config, when it is not larger than `limit` bytes.
    pub async fn fetch_blob_bytes(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Bytes> {
        if descriptor.size > limit {
            let url = format!("{repository}@{}", descriptor.digest);
            return Err(Error::TooLarge { url, limit });
        }
        let mut stream = self.fetch_blob(repository, descriptor, TransferId::next()).await?;
        let mut body = BytesMut::new();
        while let Some(chunk) = stream.next().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// Brings a blob into `repository`: sends nothing when it is there, or can be mounted from
    /// one of `mount_from` in the same registry. Those are believed to have it, and are tried before
    /// it is asked whether the blob is there, unless `repository` is itself among them.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        source: Arc<dyn Source>,
        mount_from: &[RepositoryName],
        transfer: TransferId,
    ) -> Result<Pushed> {
        let name = descriptor.digest.short().to_owned();
        let progress =
            Progress::new(&self.shared, transfer, Direction::Push, name, Some(descriptor.size));
        let session = self.upstream(repository);
        let progress_of_push = progress.clone();
        let push =
            Push { session: &session, descriptor, source, mount_from, progress: progress_of_push };
        let outcome = push.run().await;
        progress.end(match &outcome {
            Ok(pushed) => outcome_of(*pushed),
            Err(_) => TransferOutcome::Failed,
        });
        outcome
    }

    /// Brings a blob into `repository` while it is still being written; returns when it is there.
    ///
    /// One try, and no word to the user beside the transfer's events. The events have no end when
    /// it fails for a reason other than being abandoned: the caller then pushes the whole blob by
    /// [`Client::push_blob`] as the same transfer.
    ///
    /// # Errors
    ///
    /// [`Error::Abandoned`] when the writer says so; else whatever the registry or the network did.
    /// The upload session is cancelled in either case.
    pub async fn push_growing(
        &self,
        repository: &Repository,
        growing: Growing,
        name: String,
        transfer: TransferId,
    ) -> Result<Pushed> {
        let progress = Progress::begin(&self.shared, transfer, Direction::Push, name, None);
        let session = self.upstream(repository);
        let outcome = GrowingPush::new(&session, growing, progress.clone()).run().await;
        match &outcome {
            Ok(pushed) => progress.end(outcome_of(*pushed)),
            Err(Error::Abandoned) => progress.end(TransferOutcome::Failed),
            Err(_) => {}
        }
        outcome
    }

    /// Returns what the kind of registry that `repository` is in is known for, as far as that shows.
    #[must_use]
    pub fn quirks(&self, repository: &Repository) -> &'static Quirks {
        self.upstream(repository).host.manner.quirks()
    }

    /// Returns whether `reference` names the manifest `digest` in the registry itself, as far as one
    /// `HEAD` tells; also false for whatever goes wrong, which a push then meets again.
    pub async fn names_manifest(&self, reference: &Reference, digest: &Digest) -> bool {
        let session = self.upstream(&reference.repository);
        manifests::is_at(&session, &reference.manifest_key(), digest).await
    }

    /// Pushes the manifest's exact bytes under `reference`'s digest or tag, and reads back.
    ///
    /// # Errors
    ///
    /// [`Error::ManifestDigest`] when the registry then has another manifest there.
    pub async fn push_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<()> {
        let session = self.upstream(&reference.repository);
        manifests::put(&session, &reference.manifest_key(), manifest).await
    }

    /// Pushes the manifest's exact bytes under its digest and all of `tags`, in one request where the
    /// registry can do that, and reads back.
    ///
    /// # Errors
    ///
    /// [`Error::ManifestDigest`] when the registry then has another manifest there.
    pub async fn push_manifest_tags(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        tags: &[Tag],
    ) -> Result<()> {
        manifests::put_tags(&self.upstream(repository), manifest, tags).await
    }

    /// Returns what the registry of `repository` said last of its quota, if anything.
    #[must_use]
    pub fn rate_limit(&self, repository: &Repository) -> Option<RateLimit> {
        self.origin(repository).host.quota()
    }

    /// Checks that `registry` accepts the user and password.
    ///
    /// # Errors
    ///
    /// Of kind [`Kind::Denied`](super::Kind::Denied) when it does not.
    ///
    /// # Panics
    ///
    /// Never: the name of the repository that it asks for is valid.
    pub async fn check_login(
        &self,
        registry: &RegistryName,
        username: &str,
        password: &Secret,
    ) -> Result<()> {
        // The name only stands in for the repository that a lookup is made for.
        let name: RepositoryName = "login".parse().expect("a valid name");
        let repository = Repository { registry: registry.clone(), name };
        let endpoint = self.shared.options.hosts.for_push(&repository);
        let credential = Credential::of(username, password.clone());
        let registry = endpoint.repository.registry.clone();
        let mut options = self.shared.options.clone();
        options.credentials = Arc::new(Fixed { registry, credential });
        let shared = Arc::new(Shared::new(options));
        Session::new(&shared, endpoint, Purpose::Read).check().await
    }

    /// Returns what the registry wants to see in the `Authorization` of a request for `actions`
    /// (`pull` or `pull,push`) on `repository`; `None` when it lets anybody.
    ///
    /// # Errors
    ///
    /// When registry or token server cannot be asked, or refuse.
    pub async fn authorization(
        &self,
        repository: &Repository,
        actions: &str,
    ) -> Result<Option<Secret>> {
        let endpoint = self.shared.options.hosts.for_push(repository);
        let purpose = if actions == "pull" { Purpose::Read } else { Purpose::Write };
        let session = Session::new(&self.shared, endpoint, purpose);
        let header = session.authorization(actions).await?;
        // Made of visible ASCII by us.
        let text = header.as_ref().and_then(|header| header.to_str().ok());
        Ok(text.map(|text| Secret::new(text.to_owned())))
    }

    /// Returns the registry itself, to write to it.
    pub(super) fn upstream(&self, repository: &Repository) -> Session {
        let endpoint = self.shared.options.hosts.for_push(repository);
        Session::new(&self.shared, endpoint, Purpose::Write)
    }

    /// Returns the mirrors that something may be pulled from, to read from them alone.
    pub(super) fn mirrors<'a>(&self, wanted: impl Into<PullTarget<'a>>) -> Vec<Session> {
        let endpoints = self.shared.options.hosts.for_pull(wanted).into_iter();
        let mirrors = endpoints.filter(|endpoint| endpoint.role == Role::Mirror);
        mirrors.map(|endpoint| Session::new(&self.shared, endpoint, Purpose::Read)).collect()
    }

    /// Returns the registry itself, to ask it what its mirrors do not know.
    pub(super) fn origin(&self, repository: &Repository) -> Session {
        let endpoint = self.shared.options.hosts.for_reading(repository);
        Session::new(&self.shared, endpoint, Purpose::Read)
    }

    /// Does `work` with each place to pull the manifest from, until one succeeds. The last one,
    /// the registry itself, decides which error is reported; why the mirrors failed is told then.
    async fn at_any_place<'a, T>(
        &self,
        reference: &Reference,
        work: impl Fn(Arc<Session>) -> BoxFuture<'a, Result<T>>,
    ) -> Result<T> {
        let mut failures = Vec::new();
        let mut endpoints = self.shared.options.hosts.for_pull(reference);
        let last = endpoints.pop();
        for endpoint in endpoints {
            let session = Arc::new(Session::new(&self.shared, endpoint, Purpose::Read));
            match work(Arc::clone(&session)).await {
                Ok(done) => {
                    session.served(reference.manifest_key());
                    return Ok(done);
                }
                Err(error @ Error::Offline { .. }) => return Err(error),
                Err(error) => {
                    let mirror = &session.repository;
                    tracing::debug!(%error, repository = %mirror, "mirror passed over");
                    failures.push(format!("mirror `{mirror}` was no help: {error}"));
                }
            }
        }
        let last =
            last.unwrap_or_else(|| self.shared.options.hosts.for_push(&reference.repository));
        let done = work(Arc::new(Session::new(&self.shared, last, Purpose::Read))).await;
        if done.is_err() {
            for text in failures {
                self.shared.warn_once(text);
            }
        }
        done
    }
}

async fn size_of_blob(session: &Session, digest: &Digest) -> Result<Option<u64>> {
    let (path, mut budget) = (format!("blobs/{digest}"), session.budget());
    let headers = HeaderMap::new();
    let answer =
        session.send_with_retries(Method::HEAD, &path, headers, "pull", &mut budget).await?;
    match answer.status() {
        StatusCode::NOT_FOUND => Ok(None),
        StatusCode::OK => match answer.content_length() {
            Some(size) => Ok(Some(size)),
            None => Err(answer.protocol("the blob's size is missing")),
        },
        _ => Err(answer.into_error().await),
    }
}

fn outcome_of(pushed: Pushed) -> TransferOutcome {
    match pushed {
        Pushed::AlreadyThere => TransferOutcome::AlreadyThere,
        Pushed::Mounted => TransferOutcome::Mounted,
        Pushed::Uploaded { .. } => TransferOutcome::Moved,
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Client").finish_non_exhaustive()
    }
}
