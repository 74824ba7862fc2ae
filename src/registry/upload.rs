//! Upload sessions: opened by a `POST`, asked how far they are, cancelled (OCI distribution-spec,
//! "Pushing a blob in chunks").

use std::time::Duration;

use http::header::RANGE;
use http::{Method, StatusCode};
use reqwest::Url;

use super::answer::Answer;
use super::session::{Request, Session};
use super::{Result, location, retry};
use crate::image::Digest;

/// How long cancelling a session may take: nobody needs its answer.
const CANCEL_PATIENCE: Duration = Duration::from_secs(3);
/// The registry's word for the smallest chunk that it takes.
const MIN_CHUNK: &str = "oci-chunk-min-length";

/// A session: where its bytes go, with which scopes.
#[derive(Clone)]
pub(super) struct Opened {
    /// The newest location that the registry gave. It may hold a secret: never shown whole.
    pub(super) location: Url,
    pub(super) scopes: Vec<String>,
    /// The smallest chunk that the registry takes, but for the last one.
    pub(super) min_chunk: u64,
}

impl Opened {
    /// Returns the session that the answer to a `POST` opens; `None` when it names none, or a blob,
    /// which giving the session up would remove.
    pub(super) fn by(answer: &Answer, scopes: Vec<String>) -> Option<Self> {
        let location = location::of(answer.headers(), &answer.url).filter(|url| !is_blob(url))?;
        let min_chunk = answer.header(MIN_CHUNK).trim().parse().unwrap_or(0);
        Some(Self { location, scopes, min_chunk })
    }

    /// Returns a request to the session.
    pub(super) fn request(&self, method: Method) -> Request {
        Request::new(method, self.location.clone(), self.scopes.clone())
    }

    /// Goes on where the answer says; an answer without a location leaves the old one valid.
    pub(super) fn follow(&mut self, answer: &Answer) {
        if let Some(location) = location::of(answer.headers(), &answer.url) {
            self.location = location;
        }
    }

    /// Asks the registry how many bytes it has; `None` when the session cannot be gone on with.
    ///
    /// # Errors
    ///
    /// Only those that may pass.
    pub(super) async fn ask(&mut self, session: &Session) -> Result<Option<u64>> {
        let answer = session.send(&self.request(Method::GET)).await?;
        if answer.status().is_success() {
            self.follow(&answer);
            return Ok(received(&answer));
        }
        let error = answer.into_error().await;
        if retry::is_transient(&error) {
            return Err(error);
        }
        tracing::debug!(%error, "the upload cannot be gone on with");
        Ok(None)
    }

    /// Gives the session up. A registry that minds cleans up by itself, later.
    pub(super) async fn cancel(&self, session: &Session) {
        let request = self.request(Method::DELETE);
        match tokio::time::timeout(CANCEL_PATIENCE, session.send(&request)).await {
            Ok(Ok(answer)) => tracing::debug!(status = %answer.status(), "upload cancelled"),
            Ok(Err(error)) => tracing::debug!(%error, "upload not cancelled"),
            Err(_) => tracing::debug!("upload not cancelled in time"),
        }
    }
}

/// Returns whether a URL is that of content: of a session it never ends with a digest.
fn is_blob(url: &Url) -> bool {
    let last = url.path_segments().and_then(|mut segments| segments.next_back());
    last.is_some_and(|last| last.replace("%3A", ":").parse::<Digest>().is_ok())
}

/// Returns how many bytes the answer says have come.
pub(super) fn received(answer: &Answer) -> Option<u64> {
    parse_range(answer.header(RANGE))
}

/// Reads `0-<last>`, which some registries write with the unit in front as HTTP does. `0-0` is how
/// they say that nothing has come; it would also stand for one byte, which nobody sends alone.
fn parse_range(text: &str) -> Option<u64> {
    let text = text.trim().trim_start_matches("bytes").trim_start_matches(['=', ' ']);
    let (first, last) = text.split_once('-')?;
    match (first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?) {
        (0, 0) => Some(0),
        (0, last) => last.checked_add(1),
        _ => None,
    }
}

/// Returns whether a registry took what it was sent: registries do not agree on the status.
pub(super) fn is_done(status: StatusCode) -> bool {
    matches!(status, StatusCode::CREATED | StatusCode::ACCEPTED | StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_told_from_sessions() {
        let digest = Digest::of(b"x").to_string();
        let at = |path: &str| Url::parse(&format!("http://r.example/v2/a/blobs/{path}")).unwrap();
        assert!(is_blob(&at(&digest)) && is_blob(&at(&digest.replace(':', "%3A"))));
        assert!(!is_blob(&at(&format!("uploads/1?digest={digest}"))));
        assert!(!is_blob(&at("uploads/")));
    }

    #[test]
    fn ranges_are_read_in_every_form() {
        let cases = [
            ("0-9", Some(10)),
            ("bytes=0-9", Some(10)),
            ("bytes 0-9", Some(10)),
            ("0-0", Some(0)),
            ("", None),
            ("5-9", None),
            ("0-", None),
            ("0-18446744073709551615", None),
            ("-1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_range(text), expected, "{text}");
        }
    }
}
