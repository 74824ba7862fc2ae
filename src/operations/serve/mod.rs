//! `serve`: images as a registry.

mod archived;
mod upstream;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::image::{DEFAULT_REGISTRY, Digest, RegistryName};
use crate::serve::{CacheOptions, ServeOptions, Served, TlsFiles, serve as serve_images};

use super::prune::file_system_bytes;
use super::session::blocking;
use super::{Error, Kind, Session};
use archived::Archived;
use upstream::Registries;

/// What to serve and how.
#[derive(Debug, Clone)]
pub struct ServeRequest {
    /// Where to listen: address and port.
    pub listen: String,
    /// The registry part of the names under which pushed images are kept.
    pub name: RegistryName,
    /// What is served.
    pub what: WhatToServe,
    /// What connections are secured by.
    pub tls: Option<TlsFiles>,
}

/// What is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhatToServe {
    /// The store, which is pushed to as well.
    Store,
    /// The store, which is only read.
    ReadOnlyStore,
    /// What is at this path: a bundle, an archive or an image layout. Only read.
    Archive(PathBuf),
    /// The store, which is filled from registries as clients ask.
    Cache(CacheRequest),
}

/// What a pull-through cache keeps, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRequest {
    /// The registries, the one that names without a registry are of first.
    pub registries: Vec<RegistryName>,
    /// For how long a tag is believed without asking again.
    pub revalidate: Duration,
    /// The most bytes that cached images may take; without it, half of the store's file system.
    pub max_bytes: Option<u64>,
}

/// Serves images until `shutdown` is ready. `ready` hears the address, whose port is the one taken
/// when 0 was asked for.
///
/// The caller must not hold the store ([`Session::hold_store`]): it is held while it is written.
///
/// # Errors
///
/// When the address cannot be listened at, or the images, or files for TLS, cannot be read at all.
///
/// # Panics
///
/// Never: docker's registry has a valid name.
pub async fn serve(
    session: &Session,
    request: ServeRequest,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let ServeRequest { listen, name, what, tls } = request;
    let store = session.store.clone();
    let hub = || DEFAULT_REGISTRY.parse().expect("a valid name");
    let (served, registries) = match what {
        WhatToServe::Store => (Served::Store(store), vec![name, hub()]),
        WhatToServe::ReadOnlyStore => (Served::ReadOnly(Arc::new(store)), vec![name, hub()]),
        WhatToServe::Archive(path) => {
            let own = name.clone();
            let archived = blocking(move || Archived::open(&path, &own)).await?;
            let registries = archived.registries(name, hub());
            (Served::ReadOnly(Arc::new(archived)), registries)
        }
        WhatToServe::Cache(cache) => {
            let first = cache.registries.first().cloned().unwrap_or_else(hub);
            (Served::Cache(cache_options(session, cache)?), vec![name, first])
        }
    };
    let options = ServeOptions { served, registries, tls, events: session.sink.clone() };
    let failed =
        |error| Error::new(Kind::User, format!("failed to listen at `{listen}`")).because(error);
    let listener = tokio::net::TcpListener::bind(&listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(serve_images(listener, options, || ready(address), shutdown).await?)
}

fn cache_options(session: &Session, request: CacheRequest) -> Result<CacheOptions, Error> {
    let via = own_name();
    let client = session.client.with_header("Via", &format!("1.1 {via}"));
    let client = client.map_err(|error| Error::new(Kind::Internal, error))?;
    let session = Session { client, ..session.clone() };
    let CacheRequest { registries, revalidate, max_bytes } = request;
    let max_bytes = match max_bytes {
        Some(bytes) => bytes,
        None => file_system_bytes(&session.store)? / 2,
    };
    Ok(CacheOptions {
        store: session.store.clone(),
        upstream: Arc::new(Registries(session)),
        registries,
        revalidate,
        max_bytes,
        via,
    })
}

/// Returns a name that no other server has: a request with it comes back from a mirror that is this
/// very server, by this machine's own `registries.conf`.
fn own_name() -> String {
    let unique = format!("{:?} {}", std::time::SystemTime::now(), std::process::id());
    format!("rpub-{}", Digest::of(unique.as_bytes()).short())
}
