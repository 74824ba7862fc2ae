//! Blobs in (OCI distribution-spec, "Pushing blobs").
//!
//! An upload is a session: `POST` opens it, any number of `PATCH`es append, `PUT` ends it with the
//! digest. Its bytes are in the store's `ingest/` under the session's id. A `PATCH` that is cut
//! keeps what came; the client asks with `GET` how much that is and goes on from there. A session
//! whose file was closed, by time or by a restart of the server, is opened again on demand.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use hyper::body::Incoming;
use tokio::sync::OwnedMutexGuard;

use crate::image::{Descriptor, Digest, RepositoryName};
use crate::store::{self, BlobWriter};

use super::body::{self, Ended};
use super::handler::Head;
use super::reply::With as _;
use super::reply::{self, Code, DOCKER_CONTENT_DIGEST, DOCKER_UPLOAD_UUID, Failure, Reply};
use super::route;
use super::state::State;

/// How long a request waits for another one of the same session: a client that reconnects may be
/// faster than the news that its old connection is gone.
const TURN: Duration = Duration::from_secs(20);
/// What an upload's name in the store starts with; the rest is its id.
const PREFIX: &str = "upload-";

/// `POST`: a mount, a whole upload, or a new session.
pub(super) async fn start(
    state: &Arc<State>,
    head: &Head,
    name: &RepositoryName,
    body: &mut Incoming,
) -> Result<Reply, Failure> {
    if let Some(digest) = head.query("mount") {
        let digest = route::digest(digest)?;
        let wanted = digest.clone();
        if state.blocking(move |state| Ok(state.store()?.has_blob(&wanted))).await? {
            return Ok(created(name, &digest));
        }
        // Not there: the client is to upload it, as the specification has it.
    } else if let Some(digest) = head.query("digest") {
        let digest = route::digest(digest)?;
        let writer = state.blocking(|state| Ok(state.store()?.writer()?)).await?;
        let (writer, ended) = body::copy(body, writer).await?;
        if let Ended::Cut(failure) = ended {
            return Err(failure);
        }
        commit(state, writer, digest.clone()).await?;
        return Ok(created(name, &digest));
    }
    let open = |state: &State| Ok(state.store()?.start_resumable(PREFIX)?);
    let (file_name, writer) = state.blocking(open).await?;
    let id = file_name.trim_start_matches(PREFIX).to_owned();
    *state.upload(&id).lock().await = Some(writer);
    Ok(progress(StatusCode::ACCEPTED, name, &id, 0))
}

/// `GET`: how much came.
pub(super) async fn status(
    state: &Arc<State>,
    name: &RepositoryName,
    id: &str,
) -> Result<Reply, Failure> {
    let session = Session::resume(state, id).await?;
    Ok(progress(StatusCode::NO_CONTENT, name, id, session.position()))
}

/// `PATCH`: more bytes.
pub(super) async fn append(
    state: &Arc<State>,
    head: &Head,
    name: &RepositoryName,
    id: &str,
    body: &mut Incoming,
) -> Result<Reply, Failure> {
    let mut session = Session::resume(state, id).await?;
    check_range(head, name, id, session.position())?;
    let ended = session.receive(body).await?;
    match ended {
        Ended::Whole => Ok(progress(StatusCode::ACCEPTED, name, id, session.position())),
        Ended::Cut(failure) => Err(failure),
    }
}

/// `PUT`: the digest, and bytes when there are more.
pub(super) async fn finish(
    state: &Arc<State>,
    head: &Head,
    name: &RepositoryName,
    id: &str,
    body: &mut Incoming,
) -> Result<Reply, Failure> {
    let Some(digest) = head.query("digest") else {
        return Err(Failure::new(Code::DigestInvalid, "the `digest` parameter is missing"));
    };
    let digest = route::digest(digest)?;
    let mut session = Session::resume(state, id).await?;
    check_range(head, name, id, session.position())?;
    if let Ended::Cut(failure) = session.receive(body).await? {
        return Err(failure);
    }
    let writer = session.take();
    state.forget_upload(id);
    commit(state, writer, digest.clone()).await?;
    Ok(created(name, &digest))
}

/// `DELETE`: the client gives up.
pub(super) async fn cancel(state: &Arc<State>, id: &str) -> Result<Reply, Failure> {
    let mut session = Session::resume(state, id).await?;
    let writer = session.take();
    state.forget_upload(id);
    state
        .blocking(|_| {
            writer.discard();
            Ok(())
        })
        .await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// An open session that this request has for itself.
struct Session {
    /// `Some` between requests.
    writer: OwnedMutexGuard<Option<BlobWriter>>,
}

impl Session {
    async fn resume(state: &Arc<State>, id: &str) -> Result<Self, Failure> {
        let unknown = || Failure::new(Code::UploadUnknown, format!("there is no upload `{id}`"));
        // The id becomes part of a file's name.
        if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        let Ok(mut writer) = tokio::time::timeout(TURN, state.upload(id).lock_owned()).await else {
            let message = "another request of this upload has not ended";
            return Err(Failure::new(Code::UploadInvalid, message));
        };
        if writer.is_none() {
            let file_name = format!("{PREFIX}{id}");
            let open = move |state: &State| Ok(state.store()?.resume_writer(&file_name)?);
            *writer = state.blocking(open).await?;
        }
        if writer.is_none() {
            state.forget_upload(id);
            return Err(unknown());
        }
        Ok(Self { writer })
    }

    fn position(&self) -> u64 {
        self.writer.as_ref().map_or(0, BlobWriter::position)
    }

    fn take(&mut self) -> BlobWriter {
        self.writer.take().expect("a session has its writer between requests")
    }

    /// Takes a body in. When writing fails, the file is opened again at the next request.
    async fn receive(&mut self, body: &mut Incoming) -> Result<Ended, Failure> {
        let (writer, ended) = body::copy(body, self.take()).await?;
        *self.writer = Some(writer);
        Ok(ended)
    }
}

async fn commit(state: &Arc<State>, writer: BlobWriter, digest: Digest) -> Result<(), Failure> {
    state
        .blocking(move |_| {
            let expected = Descriptor::new("", digest, writer.position());
            match writer.commit(Some(&expected)) {
                Ok(_) => Ok(()),
                Err(store::Error::Mismatch(mismatch)) => {
                    Err(Failure::because(Code::DigestInvalid, &mismatch))
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
}

/// Checks the `Content-Range` of a chunk, `first-last`: chunks come in order.
fn check_range(head: &Head, name: &RepositoryName, id: &str, position: u64) -> Result<(), Failure> {
    let Some(header) = head.header(CONTENT_RANGE) else { return Ok(()) };
    // Some clients write it as HTTP does, with the unit in front.
    let text = header.trim_start_matches("bytes").trim_start_matches(['=', ' ']);
    let text = text.split('/').next().unwrap_or(text);
    let parse = |(first, last): (&str, &str)| Some((first.parse().ok()?, last.parse().ok()?));
    let Some((first, last)) = text.split_once('-').and_then(parse) else {
        let message = format!("`{header}` is not a range of bytes");
        return Err(Failure::new(Code::UploadInvalid, message));
    };
    if first != position {
        let message = format!("the upload goes on at byte {position}, not at {first}");
        return Err(Failure::new(Code::RangeInvalid, message)
            .with(LOCATION, &location(name, id))
            .with(DOCKER_UPLOAD_UUID, id)
            .with(RANGE, &range(position)));
    }
    let length = head.header(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    if length.is_some_and(|length| u64::checked_sub(last, first) != length.checked_sub(1)) {
        let message = "`Content-Range` and `Content-Length` say different sizes";
        return Err(Failure::new(Code::SizeInvalid, message));
    }
    Ok(())
}

fn progress(status: StatusCode, name: &RepositoryName, id: &str, position: u64) -> Reply {
    reply::empty(status)
        .with(LOCATION, &location(name, id))
        .with(DOCKER_UPLOAD_UUID, id)
        .with(RANGE, &range(position))
}

fn created(name: &RepositoryName, digest: &Digest) -> Reply {
    reply::empty(StatusCode::CREATED)
        .with(LOCATION, &format!("/v2/{name}/blobs/{digest}"))
        .with(DOCKER_CONTENT_DIGEST, &digest.to_string())
}

fn location(name: &RepositoryName, id: &str) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// Writes the `Range` of what came. Nothing reads as `0-0`, as in the distribution project: the
/// form has no other word for it.
fn range(position: u64) -> String {
    format!("0-{}", position.saturating_sub(1))
}
