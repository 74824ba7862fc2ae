//! `serve`: images as a registry.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::image::{DEFAULT_REGISTRY, RegistryName};
use crate::serve::{ServeOptions, Served, serve as serve_images};

use super::{Error, Kind, Session};

/// What to serve and how.
#[derive(Debug, Clone)]
pub struct ServeRequest {
    /// Where to listen: address and port.
    pub listen: String,
    /// The registry part of the names under which pushed images are kept.
    pub name: RegistryName,
    /// Whether images can be pushed.
    pub pushes: Pushes,
}

/// Whether images can be pushed to what is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushes {
    /// They can.
    Taken,
    /// They are refused.
    Refused,
}

/// Serves images until `shutdown` is ready. `ready` hears the address, whose port is the one taken
/// when 0 was asked for.
///
/// The caller must not hold the store ([`Session::hold_store`]): it is held while it is written.
///
/// # Errors
///
/// When the address cannot be listened at, or the images cannot be read at all.
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
    let ServeRequest { listen, name, pushes } = request;
    let failed =
        |error| Error::new(Kind::User, format!("failed to listen at `{listen}`")).because(error);
    let listener = tokio::net::TcpListener::bind(&listen).await.map_err(failed)?;
    ready(listener.local_addr().map_err(failed)?);
    let store = session.store.clone();
    let served = match pushes {
        Pushes::Taken => Served::Store(store),
        Pushes::Refused => Served::ReadOnly(Arc::new(store)),
    };
    let hub = DEFAULT_REGISTRY.parse().expect("a valid name");
    let options =
        ServeOptions { served, registries: vec![name, hub], events: session.sink.clone() };
    Ok(serve_images(listener, options, shutdown).await?)
}
