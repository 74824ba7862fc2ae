//! Layers that their registry does not keep: the `urls` of a descriptor say where they are (OCI
//! image-spec, descriptor.md). Nobody gets credentials there: an image could name any place.

use bytes::Bytes;
use http::header::{CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::Url;

use super::location::{self, redacted};
use super::range::parse_content_range;
use super::{Attempts, Client, Download, DownloadRequest, Error, Result};
use crate::blob::Mismatch;
use crate::image::Descriptor;

/// Most places that are tried for one layer.
const MAX_URLS: usize = 8;

/// The bytes of such a layer as they arrive, taken up again where they broke off. Not verified.
pub(super) struct External {
    client: Client,
    descriptor: Descriptor,
    request: DownloadRequest,
    attempts: Attempts,
    download: Option<Download>,
    /// Where the next byte belongs.
    position: u64,
    /// Bytes at the answer's beginning that are not wanted.
    skip: u64,
}

impl External {
    /// Opens the first place that has the layer, at `position`. `registry` is where the manifest
    /// came from: from there, no way leads to plain HTTP or to private addresses.
    pub(super) async fn open(
        client: &Client,
        registry: &Url,
        descriptor: &Descriptor,
        position: u64,
    ) -> Result<Option<Self>> {
        for text in descriptor.urls.iter().take(MAX_URLS) {
            let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            let Some(url) = url.filter(|url| location::check(registry, url).is_ok()) else {
                tracing::debug!("a layer's other place is not one to go to");
                continue;
            };
            let request = DownloadRequest { url, headers: HeaderMap::new(), authorization: None };
            let mut external = Self {
                client: client.clone(),
                descriptor: descriptor.clone(),
                request,
                attempts: client.attempts(),
                download: None,
                position,
                skip: 0,
            };
            match external.connect().await {
                Ok(()) => return Ok(Some(external)),
                Err(error) => tracing::debug!(%error, "another place is tried for a layer"),
            }
        }
        Ok(None)
    }

    /// Returns the next bytes, or `None` at the layer's end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.position < self.descriptor.size {
            let Some(download) = &mut self.download else {
                self.connect().await?;
                continue;
            };
            let error = match download.next().await {
                Ok(Some(mut chunk)) => {
                    let skipped = self.skip.min(chunk.len() as u64);
                    self.skip -= skipped;
                    // At most the chunk's own length.
                    let chunk = chunk.split_off(usize::try_from(skipped).unwrap_or(chunk.len()));
                    if chunk.is_empty() {
                        continue;
                    }
                    self.position += chunk.len() as u64;
                    if self.position > self.descriptor.size {
                        return Err(self.wrong_size());
                    }
                    self.client.shared().throttle.moved(chunk.len() as u64).await;
                    return Ok(Some(chunk));
                }
                Ok(None) => return Err(self.wrong_size()),
                Err(error) => error,
            };
            self.download = None;
            self.client.wait_to_repeat(&self.request, error, &mut self.attempts).await?;
        }
        Ok(None)
    }

    /// Returns the redacted address.
    pub(super) fn url(&self) -> String {
        redacted(&self.request.url)
    }

    async fn connect(&mut self) -> Result<()> {
        if self.position > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.position));
            self.request.headers.insert(RANGE, range.expect("digits make a header"));
        }
        let download = self.client.download(&self.request, &mut self.attempts).await?;
        let range = download.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let first = range.and_then(parse_content_range).map(|(first, ..)| first);
        self.skip = match download.status() {
            StatusCode::PARTIAL_CONTENT if first == Some(self.position) => 0,
            StatusCode::OK => self.position,
            _ => {
                let (method, url) = (http::Method::GET, self.url());
                let reason = "the answer is not the range that was asked for";
                return Err(Error::Protocol { method, url, reason });
            }
        };
        self.download = Some(download);
        Ok(())
    }

    fn wrong_size(&self) -> Error {
        let (digest, expected) = (self.descriptor.digest.clone(), self.descriptor.size);
        let source = Mismatch::Size { digest, expected, actual: self.position };
        Error::Mismatch { url: self.url(), source }
    }
}
