//! Request bodies: into memory when small, else to disk as they come.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use crate::store::BlobWriter;

use super::reply::{Code, Failure};

/// Pieces of a body that may wait for the disk. Pieces have 128 KiB at most (the connection's buffer).
const PIECES: usize = 16;
/// How long a client may pause within a body.
const PAUSE: Duration = Duration::from_secs(300);

/// How a body ended: whole, or cut. What came is written in either case.
pub(super) enum Ended {
    Whole,
    Cut(Failure),
}

/// Reads a small body.
pub(super) async fn read(body: &mut Incoming, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(piece) = next(body).await? {
        if bytes.len() + piece.len() > limit {
            let message = format!("a manifest may have {limit} bytes at most");
            return Err(Failure::new(Code::ManifestTooLarge, message));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Writes a body to `writer` as it comes; hashing and writing overlap with receiving.
pub(super) async fn copy(
    body: &mut Incoming,
    mut writer: BlobWriter,
) -> Result<(BlobWriter, Ended), Failure> {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(PIECES);
    let writing = tokio::task::spawn_blocking(move || {
        while let Some(piece) = receiver.blocking_recv() {
            writer.write_all(&piece)?;
        }
        Ok::<_, std::io::Error>(writer)
    });
    let ended = loop {
        match next(body).await {
            Ok(None) => break Ended::Whole,
            // A closed channel: the writer failed, and says why below.
            Ok(Some(piece)) => {
                if sender.send(piece).await.is_err() {
                    break Ended::Whole;
                }
            }
            Err(failure) => break Ended::Cut(failure),
        }
    };
    drop(sender);
    let writer = writing.await.map_err(|error| Failure::internal(&error))??;
    Ok((writer, ended))
}

async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Failure> {
    loop {
        let cut = |message: String| Failure::new(Code::UploadInvalid, message);
        let frame = tokio::time::timeout(PAUSE, body.frame())
            .await
            .map_err(|_| cut("the request's body stopped coming".to_owned()))?;
        let Some(frame) = frame else { return Ok(None) };
        let frame = frame.map_err(|error| cut(format!("the request's body was cut: {error}")))?;
        // Trailers are of no use here.
        if let Ok(bytes) = frame.into_data() {
            return Ok(Some(bytes));
        }
    }
}
