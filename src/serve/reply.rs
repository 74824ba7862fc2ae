//! Replies: bodies, headers and the error envelope.

use std::io;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Frame;
use serde_json::json;

use crate::store;

use super::content::ContentError;
use super::pieces::Pieces;
use super::tls::TlsError;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(super) type Reply = Response<Body>;

pub(super) const DOCKER_CONTENT_DIGEST: HeaderName =
    HeaderName::from_static("docker-content-digest");
pub(super) const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub(super) const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(super) const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
pub(super) const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Codes of OCI distribution-spec, "Error Codes", and some of distribution's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    UploadInvalid,
    UploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    RangeInvalid,
    Unsupported,
    PaginationInvalid,
    NotFound,
    Denied,
    TooManyRequests,
    Unavailable,
    Internal,
    StorageFull,
}

impl Code {
    /// Returns the word of the envelope and the status. Statuses are those of the distribution
    /// project's registry, which clients are written against.
    fn on_the_wire(self) -> (&'static str, StatusCode) {
        match self {
            Self::BlobUnknown => ("BLOB_UNKNOWN", StatusCode::NOT_FOUND),
            Self::UploadInvalid => ("BLOB_UPLOAD_INVALID", StatusCode::BAD_REQUEST),
            Self::UploadUnknown => ("BLOB_UPLOAD_UNKNOWN", StatusCode::NOT_FOUND),
            Self::DigestInvalid => ("DIGEST_INVALID", StatusCode::BAD_REQUEST),
            Self::ManifestBlobUnknown => ("MANIFEST_BLOB_UNKNOWN", StatusCode::BAD_REQUEST),
            Self::ManifestInvalid => ("MANIFEST_INVALID", StatusCode::BAD_REQUEST),
            Self::ManifestTooLarge => ("SIZE_INVALID", StatusCode::PAYLOAD_TOO_LARGE),
            Self::ManifestUnknown => ("MANIFEST_UNKNOWN", StatusCode::NOT_FOUND),
            Self::NameInvalid => ("NAME_INVALID", StatusCode::BAD_REQUEST),
            Self::NameUnknown => ("NAME_UNKNOWN", StatusCode::NOT_FOUND),
            Self::SizeInvalid => ("SIZE_INVALID", StatusCode::BAD_REQUEST),
            Self::RangeInvalid => ("RANGE_INVALID", StatusCode::RANGE_NOT_SATISFIABLE),
            Self::Unsupported => ("UNSUPPORTED", StatusCode::METHOD_NOT_ALLOWED),
            Self::PaginationInvalid => ("PAGINATION_NUMBER_INVALID", StatusCode::BAD_REQUEST),
            Self::NotFound => ("UNKNOWN", StatusCode::NOT_FOUND),
            Self::Denied => ("DENIED", StatusCode::FORBIDDEN),
            Self::TooManyRequests => ("TOOMANYREQUESTS", StatusCode::TOO_MANY_REQUESTS),
            Self::Unavailable => ("UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE),
            Self::Internal => ("UNKNOWN", StatusCode::INTERNAL_SERVER_ERROR),
            Self::StorageFull => ("UNKNOWN", StatusCode::INSUFFICIENT_STORAGE),
        }
    }
}

/// A request that could not be done.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: Code,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What the server's user should know and the client need not: paths, system errors.
    pub(super) warning: Option<String>,
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), headers: Vec::new(), warning: None }
    }

    pub(super) fn because(code: Code, error: &dyn std::error::Error) -> Self {
        Self::new(code, error.to_string())
    }

    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        let mut warning = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            warning = format!("{warning}: {inner}");
            source = inner.source();
        }
        let failure = Self::new(Code::Internal, "the registry failed to read or write its content");
        Self { warning: Some(warning), ..failure }
    }

    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    /// Adds what the server's user should know.
    pub(super) fn warn(self, warning: String) -> Self {
        Self { warning: Some(warning), ..self }
    }

    /// Takes away what the server's user knows already.
    pub(super) fn without_warning(self) -> Self {
        Self { warning: None, ..self }
    }

    pub(super) fn reply(self) -> Reply {
        let (code, status) = self.code.on_the_wire();
        let envelope = json!({"errors": [{"code": code, "message": self.message}]});
        let mut reply = json_reply(status, "application/json", envelope.to_string().into_bytes());
        reply.headers_mut().extend(self.headers);
        reply
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::StorageFull {
            let failure = Self::new(Code::StorageFull, "the registry's disk is full");
            return Self { warning: Some(error.to_string()), ..failure };
        }
        Self::internal(&error)
    }
}

impl From<ContentError> for Failure {
    fn from(error: ContentError) -> Self {
        Self::internal(&*error)
    }
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        Self::internal(&error)
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Io(error) => error.into(),
            error => Self::internal(&error),
        }
    }
}

/// Returns a reply without a body.
pub(super) fn empty(status: StatusCode) -> Reply {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let reply = new(status, body);
    if status == StatusCode::NO_CONTENT {
        return reply;
    }
    reply.with(CONTENT_LENGTH, "0")
}

/// Returns the reply to a `HEAD` for so many bytes.
pub(super) fn sized(size: u64) -> Reply {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    new(StatusCode::OK, body).with(CONTENT_LENGTH, &size.to_string())
}

/// Returns a reply of bytes.
pub(super) fn json_reply(status: StatusCode, content_type: &str, bytes: Vec<u8>) -> Reply {
    let length = bytes.len().to_string();
    let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync();
    new(status, body).with(CONTENT_TYPE, content_type).with(CONTENT_LENGTH, &length)
}

/// Returns a reply of bytes that are read as they are sent.
pub(super) fn pieces(status: StatusCode, pieces: Pieces) -> Reply {
    let length = pieces.length().to_string();
    let body = StreamBody::new(pieces.stream().map_ok(Frame::data)).boxed_unsync();
    new(status, body).with(CONTENT_LENGTH, &length)
}

/// Returns the reply to a client that has what it asks for.
pub(super) fn not_modified() -> Reply {
    new(StatusCode::NOT_MODIFIED, Empty::new().map_err(|never| match never {}).boxed_unsync())
}

fn new(status: StatusCode, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    // Docker asks for it before it believes that it talks to a registry.
    reply.with(API_VERSION, "registry/2.0")
}

/// Adding headers one after the other.
pub(super) trait With {
    fn with(self, name: HeaderName, value: &str) -> Self;
}

impl With for Reply {
    fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers_mut().append(name, value);
        }
        self
    }
}
