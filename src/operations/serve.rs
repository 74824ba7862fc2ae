//! `serve`: the store as a registry.

use std::future::Future;
use std::net::SocketAddr;

use crate::image::RegistryName;
use crate::serve::{ServeOptions, serve as serve_store};

use super::{Error, Kind, Session};

/// Serves the store at `listen` until `shutdown` is ready. `ready` hears the address, whose port is
/// the one taken when 0 was asked for.
///
/// # Errors
///
/// When the address cannot be listened at.
pub async fn serve(
    session: &Session,
    listen: &str,
    registry_name: RegistryName,
    read_only: bool,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let failed =
        |error| Error::new(Kind::User, format!("failed to listen at `{listen}`")).because(error);
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(failed)?;
    ready(listener.local_addr().map_err(failed)?);
    let options = ServeOptions {
        store: session.store.clone(),
        registry_name,
        read_only,
        events: session.sink.clone(),
    };
    Ok(serve_store(listener, options, shutdown).await?)
}
