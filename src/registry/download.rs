//! Files of any HTTP server, outside the distribution protocol: with the same connections, redirect
//! rules, patience and retries as everything else.

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use reqwest::Url;

use super::answer::Answer;
use super::connections::Connection;
use super::location::{self, redacted};
use super::retry::Budget;
use super::session::{MAX_REDIRECTS, is_worth_repeating};
use super::{Client, Error, Result};
use crate::credentials::Secret;

/// What is asked of an HTTP server.
#[derive(Debug, Clone)]
pub struct DownloadRequest {
    /// The file's URL.
    pub url: Url,
    /// Headers beside `Authorization`, such as conditions.
    pub headers: HeaderMap,
    /// The value of `Authorization`. It is sent to the URL's own origin only.
    pub authorization: Option<Secret>,
}

/// What is left of one download's tries.
#[derive(Debug)]
pub struct Attempts(Budget);

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct Download(Answer);

impl Download {
    /// Returns the status: one of success, or 304.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// Returns the headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// Returns the size of the body in bytes, when the server says it.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.0.content_length()
    }

    /// Returns the next bytes, or `None` after the last.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or nothing comes for long.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        self.0.chunk().await
    }
}

impl Client {
    /// Returns a fresh budget of tries.
    #[must_use]
    pub fn attempts(&self) -> Attempts {
        Attempts(Budget::new(self.shared().options.retry))
    }

    /// Sends `GET` until there is an answer of success (or 304) or the budget is spent. Redirects
    /// are followed, without the authorisation when they leave the origin.
    ///
    /// # Errors
    ///
    /// [`Error::Status`] for every other answer, [`Error::Redirect`] for one that leads from https
    /// to http or to a private address.
    pub async fn download(
        &self,
        request: &DownloadRequest,
        attempts: &mut Attempts,
    ) -> Result<Download> {
        loop {
            let error = match self.try_download(request).await {
                Ok(answer) if is_worth_repeating(answer.status()) => answer.into_error().await,
                Ok(answer) if answer.status() == StatusCode::NOT_MODIFIED => {
                    return Ok(Download(answer));
                }
                Ok(answer) => return answer.expect_success().await.map(Download),
                Err(error) => error,
            };
            self.wait_to_repeat(request, error, attempts).await?;
        }
    }

    /// Waits before `request` is sent again after `error`, or returns it when that has no use.
    pub async fn wait_to_repeat(
        &self,
        request: &DownloadRequest,
        error: Error,
        attempts: &mut Attempts,
    ) -> Result<()> {
        let what = format!("GET {}", redacted(&request.url));
        attempts.0.wait(&what, error, &*self.shared().options.events).await
    }

    async fn try_download(&self, request: &DownloadRequest) -> Result<Answer> {
        let authorization = authorization(request)?;
        let mut url = request.url.clone();
        let patience = self.shared().options.retry.idle_timeout;
        for _ in 0..=MAX_REDIRECTS {
            let connection = Connection::to(&url, &self.shared().options.hosts);
            let client = self.shared().connections.client(&url, connection).await?;
            let mut builder = client.get(url.clone()).headers(request.headers.clone());
            let is_home = location::is_same_origin(&url, &request.url);
            if let Some(value) = authorization.as_ref().filter(|_| is_home) {
                builder = builder.header(AUTHORIZATION, value);
            }
            let answer = Answer::wait(builder, Method::GET, url.clone(), patience).await?;
            if !matches!(answer.status().as_u16(), 301..=303 | 307 | 308) {
                return Ok(answer);
            }
            let Some(target) = location::of(answer.headers(), &url) else {
                return Err(answer.protocol("the redirect says nowhere to go"));
            };
            location::check(&url, &target)?;
            url = target;
        }
        let url = redacted(&request.url);
        Err(Error::Protocol { method: Method::GET, url, reason: "the redirects do not end" })
    }
}

fn authorization(request: &DownloadRequest) -> Result<Option<HeaderValue>> {
    let Some(secret) = &request.authorization else { return Ok(None) };
    let mut value = HeaderValue::from_str(secret.expose()).map_err(|_| Error::Protocol {
        method: Method::GET,
        url: redacted(&request.url),
        reason: "the secret for its authorisation makes no header",
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}
