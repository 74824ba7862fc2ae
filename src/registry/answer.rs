//! An answer: its status, a bounded body, and what an error body says.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use reqwest::{RequestBuilder, Response, Url};

use super::error::Limit;
use super::limits::{self, RateLimit};
use super::location::redacted;
use super::{Error, Result, StatusError, error_body};
use crate::image::Descriptor;

/// Most that is read of an error's body.
const MAX_ERROR_BYTES: u64 = 64 << 10;
/// So many spans of patience a body that is read whole may take; an error's body, one.
const BODY_SPANS: u32 = 4;
/// A body that brings fewer bytes a second, over a whole span of patience, would take days.
const LEAST_BYTES_A_SECOND: f64 = 256.0;
/// The headers in which registries name a request.
const REQUEST_ID_HEADERS: [&str; 5] = [
    "x-request-id",
    "x-amzn-requestid",
    "x-github-request-id",
    "x-ms-correlation-request-id",
    "docker-request-id",
];

/// A response with what is needed to talk about it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    pub(super) method: Method,
    /// The URL that answered, after redirects.
    pub(super) url: Url,
    /// How long the body may pause.
    pub(super) patience: Duration,
    /// What came of the body lately.
    pub(super) flow: Flow,
}

/// How much came of a body in how much time of waiting for it, since a span of patience began.
#[derive(Debug, Default)]
pub(super) struct Flow {
    waited: Duration,
    bytes: u64,
}

impl Flow {
    /// Takes in what came after `waited`; returns whether a whole span brought next to nothing.
    fn has_dried_up(&mut self, waited: Duration, bytes: usize, span: Duration) -> bool {
        self.waited += waited;
        self.bytes += bytes as u64;
        if self.waited < span {
            return false;
        }
        // Exact enough: a span brings less than 2^52 bytes.
        #[expect(clippy::cast_precision_loss, reason = "only the magnitude counts")]
        let rate = self.bytes as f64 / self.waited.as_secs_f64();
        *self = Self::default();
        rate < LEAST_BYTES_A_SECOND
    }
}

impl Answer {
    pub(super) fn new(response: Response, method: Method, url: Url, patience: Duration) -> Self {
        Self { response, method, url, patience, flow: Flow::default() }
    }

    /// Sends a request without a long body and waits for the answer's head, `patience` long.
    pub(super) async fn wait(
        request: RequestBuilder,
        method: Method,
        url: Url,
        patience: Duration,
    ) -> Result<Self> {
        match tokio::time::timeout(patience, request.send()).await {
            Ok(Ok(response)) => Ok(Self::new(response, method, url, patience)),
            Ok(Err(error)) => Err(transport(&method, &url, error)),
            Err(_) => Err(Error::Stalled { method, url: redacted(&url), after: patience }),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Returns a header's text, empty for none.
    pub(super) fn header(&self, name: impl http::header::AsHeaderName) -> &str {
        self.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Returns `Content-Length`, which for `HEAD` is that of the content.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH).parse().ok()
    }

    /// Returns whether this answer to `HEAD` says that the blob is there. The page that a proxy
    /// answers everything with has another type or length.
    pub(super) fn has_blob(&self, descriptor: &Descriptor) -> bool {
        self.status() == StatusCode::OK
            && !self.is_page()
            && self.content_length().is_none_or(|length| length == descriptor.size)
    }

    /// Returns whether this is a page for people, with which a proxy answers everything.
    pub(super) fn is_page(&self) -> bool {
        self.header(CONTENT_TYPE).starts_with("text/html")
    }

    /// Returns whether all requests to the server go over one connection.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.response.version() >= http::Version::HTTP_2
    }

    /// Returns an error about this answer.
    pub(super) fn protocol(&self, reason: &'static str) -> Error {
        Error::Protocol { method: self.method.clone(), url: redacted(&self.url), reason }
    }

    /// Returns the answer when its status is one of success, else the error that it is.
    pub(super) async fn expect_success(self) -> Result<Self> {
        if self.status().is_success() { Ok(self) } else { Err(self.into_error().await) }
    }

    /// Returns the next bytes of the body.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let begun = Instant::now();
        match tokio::time::timeout(self.patience, self.response.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                if self.flow.has_dried_up(begun.elapsed(), chunk.len(), self.patience) {
                    return Err(self.slow(self.patience));
                }
                Ok(Some(chunk))
            }
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(transport(&self.method, &self.url, error)),
            Err(_) => Err(Error::Stalled {
                method: self.method.clone(),
                url: redacted(&self.url),
                after: self.patience,
            }),
        }
    }

    /// Returns the whole body, which may have `limit` bytes and take some spans of patience.
    pub(super) async fn read(&mut self, limit: u64) -> Result<Bytes> {
        let after = self.patience * BODY_SPANS;
        match tokio::time::timeout(after, self.read_on(limit)).await {
            Ok(read) => read,
            Err(_) => Err(self.slow(after)),
        }
    }

    fn slow(&self, after: Duration) -> Error {
        Error::Slow { method: self.method.clone(), url: redacted(&self.url), after }
    }

    async fn read_on(&mut self, limit: u64) -> Result<Bytes> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(Error::TooLarge { url: redacted(&self.url), limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// Returns the error that this answer is.
    pub(super) async fn into_error(mut self) -> Error {
        let (status, answered) = (self.status(), Timestamp::now());
        let retry_after = limits::wait(self.headers(), answered);
        let quota = RateLimit::read(self.headers());
        let has_limit = limits::is_limit(self.headers());
        let request_id = REQUEST_ID_HEADERS
            .iter()
            .map(|name| self.header(*name))
            .find(|id| !id.is_empty())
            .map(error_body::clean);
        let is_text = self.header(CONTENT_TYPE).starts_with("text/plain");
        let mut body = Vec::new();
        // What arrived before the limit, or before the body broke off, says enough.
        let reading = async {
            while let Ok(Some(chunk)) = self.response.chunk().await {
                body.extend_from_slice(&chunk);
                if body.len() as u64 >= MAX_ERROR_BYTES {
                    break;
                }
            }
        };
        if tokio::time::timeout(self.patience, reading).await.is_err() {
            tracing::debug!(%status, "the error's body does not end");
        }
        let errors = error_body::parse(&body, is_text);
        Error::Status(Box::new(StatusError {
            method: self.method,
            url: redacted(&self.url),
            status,
            limit: Limit::of(status, &errors, has_limit, quota),
            errors,
            request_id,
            retry_after,
            answered,
        }))
    }
}

/// Returns the error of a request that got no (complete) answer.
pub(super) fn transport(method: &Method, url: &Url, error: reqwest::Error) -> Error {
    // Its own text would show the whole URL.
    let source = error.without_url();
    Error::Transport { method: method.clone(), url: redacted(url), source }
}
