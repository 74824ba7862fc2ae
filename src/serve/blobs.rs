//! Blobs out (OCI distribution-spec, "Pulling blobs").

use std::ops::Range;
use std::sync::Arc;

use http::StatusCode;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE};

use crate::image::{Digest, RepositoryName};

use super::handler::Head;
use super::names::Candidates;
use super::pieces::Pieces;
use super::reply::{self, Code, DOCKER_CONTENT_DIGEST, Failure, Reply, With as _};
use super::state::State;

pub(super) async fn get(
    state: &Arc<State>,
    head: &Head,
    name: &RepositoryName,
    digest: Digest,
) -> Result<Reply, Failure> {
    if head.has_already(&digest) {
        return Ok(described(reply::not_modified(), &digest));
    }
    let range = head.header(RANGE).map(str::to_owned);
    let wanted_digest = digest.clone();
    let here = state
        .blocking(move |state| {
            let Some(source) = state.content.blob(&wanted_digest)? else { return Ok(None) };
            let size = source.size();
            let part = range.map_or(Ok(None), |range| wanted(&range, size))?;
            let bytes = part.clone().unwrap_or(0..size);
            Ok(Some((Pieces::of(source.open(bytes.start)?, bytes), size, part)))
        })
        .await?;
    match here {
        Some((pieces, size, part)) => Ok(answer(pieces, size, part, &digest)),
        None => from_upstream(state, head, name, digest).await,
    }
}

/// Answers with a blob that is not here, while it comes from the registry that is cached.
async fn from_upstream(
    state: &Arc<State>,
    head: &Head,
    name: &RepositoryName,
    digest: Digest,
) -> Result<Reply, Failure> {
    let candidates = Candidates::of(state, head, name)?;
    let Some((cache, repository)) = state.upstream(head, &candidates).await? else {
        return Err(Failure::new(Code::BlobUnknown, format!("there is no blob {digest}")));
    };
    if head.is_head() {
        let size = cache.blob_size(&repository, &digest).await?;
        return Ok(typed(described(reply::sized(size), &digest)));
    }
    let arriving = cache.bring_blob(state, &repository, &digest).await?;
    let size = arriving.size();
    let part = head.header(RANGE).map_or(Ok(None), |range| wanted(range, size))?;
    let pieces = arriving.pieces(part.clone().unwrap_or(0..size));
    Ok(answer(pieces, size, part, &digest))
}

/// Makes the reply of a blob that has `size` bytes, of which `part` is asked for.
fn answer(pieces: Pieces, size: u64, part: Option<Range<u64>>, digest: &Digest) -> Reply {
    let reply = match part {
        None => reply::pieces(StatusCode::OK, pieces),
        Some(part) => {
            let content_range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            reply::pieces(StatusCode::PARTIAL_CONTENT, pieces).with(CONTENT_RANGE, &content_range)
        }
    };
    typed(described(reply, digest))
}

fn typed(reply: Reply) -> Reply {
    reply.with(CONTENT_TYPE, "application/octet-stream").with(ACCEPT_RANGES, "bytes")
}

fn described(reply: Reply, digest: &Digest) -> Reply {
    reply.with(ETAG, &format!("\"{digest}\"")).with(DOCKER_CONTENT_DIGEST, &digest.to_string())
}

/// Reads a `Range` header (RFC 9110, 14.2). `None` means the whole blob: a form that is not
/// understood, or several ranges, may be ignored.
fn wanted(header: &str, size: u64) -> Result<Option<Range<u64>>, Failure> {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|text| text.split_once('-'))
    else {
        return Ok(None);
    };
    let range = match (first.trim(), last.trim()) {
        ("", suffix) => suffix.parse::<u64>().map(|count| size.saturating_sub(count)..size),
        (first, "") => first.parse().map(|first| first..size),
        (first, last) => first.parse::<u64>().and_then(|first| {
            last.parse::<u64>().map(|last| first..last.saturating_add(1).min(size))
        }),
    };
    let Ok(range) = range else { return Ok(None) };
    if range.start >= range.end {
        let message = format!("the range `{header}` is outside of the blob's {size} bytes");
        let failure = Failure::new(Code::RangeInvalid, message);
        return Err(failure.with(CONTENT_RANGE, &format!("bytes */{size}")));
    }
    Ok(Some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_says() {
        let cases = [
            ("bytes=0-0", Ok(Some(0..1))),
            ("bytes=3-", Ok(Some(3..10))),
            ("bytes=3-99", Ok(Some(3..10))),
            ("bytes=-4", Ok(Some(6..10))),
            ("bytes=-40", Ok(Some(0..10))),
            ("bytes=0-1,3-4", Ok(None)),
            ("lines=0-1", Ok(None)),
            ("bytes=10-", Err(Code::RangeInvalid)),
            ("bytes=5-4", Err(Code::RangeInvalid)),
            ("bytes=-0", Err(Code::RangeInvalid)),
        ];
        for (header, expected) in cases {
            assert_eq!(wanted(header, 10).map_err(|failure| failure.code), expected, "{header}");
        }
    }
}
