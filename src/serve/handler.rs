//! One request: from route and method to a reply.

use std::sync::Arc;
use std::time::Duration;

use http::header::IF_NONE_MATCH;
use http::request::Parts;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::event::Event;
use crate::image::Digest;

use super::reply::{self, Code, Failure, Reply};
use super::route::{self, Route};
use super::state::State;
use super::{blobs, listing, manifests, uploads};

/// How much of a refused request's body is read, so that the client gets to read the refusal.
const MAX_DRAIN: usize = 32 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// A request without its body.
pub(super) struct Head {
    parts: Parts,
    query: Vec<(String, String)>,
}

impl Head {
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn query_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn header(&self, name: http::HeaderName) -> Option<&str> {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns whether the client says by `If-None-Match` (RFC 9110, 13.1.2) that it has the content.
    pub(super) fn has_already(&self, digest: &Digest) -> bool {
        let tags = self.header(IF_NONE_MATCH).unwrap_or_default().split(',').map(str::trim);
        let digest = digest.to_string();
        tags.map(|tag| tag.trim_start_matches("W/").trim_matches('"')).any(|tag| tag == digest)
    }

    pub(super) fn headers(&self, name: http::HeaderName) -> impl Iterator<Item = &str> {
        self.parts.headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
    }

    pub(super) fn is_head(&self) -> bool {
        self.parts.method == Method::HEAD
    }

    pub(super) fn path(&self) -> &str {
        self.parts.uri.path()
    }
}

/// Answers a request.
pub(super) async fn handle(state: Arc<State>, request: Request<Incoming>) -> Reply {
    let (parts, mut body) = request.into_parts();
    let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes());
    let query = query.into_owned().collect();
    let head = Head { parts, query };
    let reply = match dispatch(&state, &head, &mut body).await {
        Ok(reply) => reply,
        Err(failure) => {
            if let Some(warning) = &failure.warning {
                let text = format!("{} {}: {warning}", head.parts.method, head.path());
                state.events.emit(Event::Warning { text });
            }
            drain(&mut body).await;
            failure.reply()
        }
    };
    // The length stays, as distribution-spec asks of HEAD; the bytes do not.
    if head.is_head() { reply.map(|_| reply::empty(StatusCode::OK).into_body()) } else { reply }
}

async fn dispatch(state: &Arc<State>, head: &Head, body: &mut Incoming) -> Result<Reply, Failure> {
    let route = route::parse(head.path())?;
    let method = &head.parts.method;
    let reads = *method == Method::GET || *method == Method::HEAD;
    if state.pushes.is_none() && !reads {
        return Err(Failure::new(Code::Unsupported, "this registry is read-only"));
    }
    let _in_use = state.use_store().await?;
    match (route, method.as_str()) {
        (Route::Base, "GET" | "HEAD") => {
            Ok(reply::json_reply(StatusCode::OK, "application/json", b"{}".to_vec()))
        }
        (Route::Catalog, "GET") => listing::catalog(state, head).await,
        (Route::Tags(name), "GET") => listing::tags(state, head, name).await,
        (Route::Referrers(name, digest), "GET") => {
            listing::referrers(state, head, name, digest).await
        }
        (Route::Blob(name, digest), "GET" | "HEAD") => blobs::get(state, head, &name, digest).await,
        (Route::Blob(..), "DELETE") => {
            let message = "blobs are removed by garbage collection, when no image needs them";
            Err(Failure::new(Code::Unsupported, message))
        }
        (Route::Manifest(name, key), "GET" | "HEAD") => {
            manifests::get(state, head, name, key).await
        }
        (Route::Manifest(name, key), "PUT") => manifests::put(state, head, name, key, body).await,
        (Route::Manifest(name, key), "DELETE") => manifests::delete(state, name, key).await,
        (Route::Uploads(name), "POST") => uploads::start(state, head, &name, body).await,
        (Route::Upload(name, id), "GET" | "HEAD") => uploads::status(state, &name, &id).await,
        (Route::Upload(name, id), "PATCH") => uploads::append(state, head, &name, &id, body).await,
        (Route::Upload(name, id), "PUT") => uploads::finish(state, head, &name, &id, body).await,
        (Route::Upload(_, id), "DELETE") => uploads::cancel(state, &id).await,
        (_, method) => Err(Failure::new(Code::Unsupported, format!("{method} is not for this"))),
    }
}

async fn drain(body: &mut Incoming) {
    let rest = async {
        let mut read = 0;
        while read < MAX_DRAIN
            && let Some(Ok(frame)) = body.frame().await
        {
            read += frame.data_ref().map_or(0, bytes::Bytes::len);
        }
    };
    if tokio::time::timeout(DRAIN_TIME, rest).await.is_err() {
        tracing::debug!("a refused request's body did not end");
    }
}
