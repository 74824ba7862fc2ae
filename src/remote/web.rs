//! The way to HTTP servers, as whoever holds the connections gives it.

use std::io;

use ::http::{HeaderMap, StatusCode};
use url::Url;

use crate::credentials::Secret;

/// What is asked of an HTTP server.
#[derive(Debug, Clone)]
pub struct WebRequest {
    /// The URL.
    pub url: Url,
    /// Headers beside `Authorization`.
    pub headers: HeaderMap,
    /// The value of `Authorization`; for the URL's own origin only.
    pub authorization: Option<Secret>,
}

/// The beginning of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// The status: one of success, or 304.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
}

/// Takes in the body of an answer.
pub trait Content {
    /// Begins from nothing; what an earlier try brought is void.
    ///
    /// # Errors
    ///
    /// When it cannot be begun, which ends the request.
    fn begin(&mut self) -> io::Result<()>;

    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// When they cannot be taken, which ends the request.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Sends requests to HTTP servers. Redirects, retries and time limits are its business.
pub trait Web: Send + Sync {
    /// Sends `GET` and gives the whole body to `content`. Blocks.
    ///
    /// # Errors
    ///
    /// When there is no answer of success or 304, or `content` fails.
    fn get(
        &self,
        request: &WebRequest,
        content: &mut dyn Content,
    ) -> Result<Head, Box<dyn std::error::Error + Send + Sync>>;
}
