//! `pull`: an image with all its layers into the store.

use tokio::task::JoinSet;

use crate::event::Event;
use crate::image::{Descriptor, Digest, Platform, Reference, Repository};

use super::fetch::fetch_blob;
use super::resolve::from_registry;
use super::session::blocking;
use super::{Error, Kind, Session};

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullReport {
    /// The name.
    pub reference: Reference,
    /// The manifest that the name now stands for.
    pub digest: Digest,
    /// Layers that were fetched.
    pub fetched: usize,
    /// Layers that the store had.
    pub already_there: usize,
}

/// Pulls `reference` for `platform` and names it in the store.
///
/// # Errors
///
/// Whatever the registry or the store says; the name then stands for what it stood for before.
pub async fn pull(
    session: &Session,
    reference: &Reference,
    platform: &Platform,
) -> Result<PullReport, Error> {
    let reference = reference.clone().or_latest();
    let what = format!("failed to pull `{}`", reference.familiar());
    let resolved =
        from_registry(session, &reference, platform).await.map_err(|error| error.about(&what))?;
    let layers = resolved.image.layers.clone();
    let fetched = fetch_missing(session, &reference.repository, &layers)
        .await
        .map_err(|error| error.about(&what))?;
    let (store, name, descriptor) =
        (session.store.clone(), reference.clone(), resolved.descriptor());
    let index = resolved.index.clone();
    blocking(move || store.tag_of(&name, &descriptor, index.as_ref())).await?;
    if let Some(quota) = session.client.rate_limit(&reference.repository) {
        let registry = reference.repository.registry.to_string();
        session.sink.emit(Event::RateLimit {
            registry,
            remaining: quota.remaining,
            limit: quota.limit,
            window_seconds: quota.window_seconds,
        });
    }
    let digest = resolved.manifest.digest.clone();
    session.sink.emit(Event::Tagged { reference: reference.clone(), digest: digest.clone() });
    Ok(PullReport { reference, digest, fetched, already_there: layers.len() - fetched })
}

/// Fetches what the store lacks of `layers`, side by side; returns how many that were.
pub(super) async fn fetch_missing(
    session: &Session,
    repository: &Repository,
    layers: &[Descriptor],
) -> Result<usize, Error> {
    let mut missing: Vec<&Descriptor> = Vec::new();
    for layer in layers.iter().filter(|layer| !session.store.has_blob(&layer.digest)) {
        if !missing.iter().any(|other| other.digest == layer.digest) {
            missing.push(layer);
        }
    }
    let count = missing.len();
    let mut tasks = JoinSet::new();
    for layer in missing {
        let (session, repository, layer) = (session.clone(), repository.clone(), layer.clone());
        tasks.spawn(async move { fetch_blob(&session, &repository, &layer, None).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| Error::new(Kind::Internal, "a transfer failed").because(error))??;
    }
    Ok(count)
}
