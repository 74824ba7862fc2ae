//! Accepting connections.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::event::{Event, Sink};
use crate::image::RegistryName;
use crate::store::Store;

use super::state::State;
use super::tls::{Tls, TlsFiles};
use super::{CacheOptions, Content, Result, handler};

/// Connections served at once; more wait in the kernel's queue. One whose client is slow holds
/// [`BUFFER`] and a piece of a blob.
const MAX_CONNECTIONS: usize = 1024;
/// What is held of a connection's bytes, either way.
const BUFFER: usize = 128 << 10;
/// How long a client may take to send a request's head, and may keep an idle connection.
const IDLE: Duration = Duration::from_secs(120);
/// How long a client may take none of the bytes that it is sent.
const STALLED: Duration = Duration::from_secs(300);
/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// How long requests under way may go on after the server was told to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// How often idle uploads are closed and the store's lock is given back.
const TIDY_EVERY: Duration = Duration::from_secs(30);

/// What to serve and how.
pub struct ServeOptions {
    /// What is served.
    pub served: Served,
    /// The registries that a repository named without one may be of, the likeliest first: under
    /// that one pushed images are kept.
    pub registries: Vec<RegistryName>,
    /// What connections are secured by; nothing without it.
    pub tls: Option<TlsFiles>,
    /// Where tags and failures are reported.
    pub events: Arc<dyn Sink>,
}

/// What is served.
pub enum Served {
    /// A store that is read and written.
    Store(Store),
    /// Content that is only read: pushes and deletions are refused.
    ReadOnly(Arc<dyn Content>),
    /// A store that is filled from registries as clients ask.
    Cache(CacheOptions),
}

/// Serves images on `listener` until `shutdown` is done, then lets requests under way end,
/// for ten seconds at most. Calls `ready` when everything that is needed was found.
///
/// # Errors
///
/// Only when the content cannot be read at all. Failures of requests are replied to the client;
/// those that are the server's own are also warned of as events.
pub async fn serve(
    listener: TcpListener,
    options: ServeOptions,
    ready: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let state = State::open(options).await?;
    ready();
    let (stop, stopped) = watch::channel(());
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut tidy = tokio::time::interval(TIDY_EVERY);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            _ = tidy.tick() => state.tidy().await,
            Some(_) = connections.join_next() => {}
            (place, accepted) = accept => match accepted {
                Ok((stream, _)) => {
                    let (state, stopped) = (Arc::clone(&state), stopped.clone());
                    connections.spawn(async move {
                        secure(stream, state, stopped).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // A client that gave up, or no file descriptor left: neither ends the server.
                    let text = format!("failed to accept a connection: {error}");
                    state.events.emit(Event::Warning { text });
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    drop(stop);
    let last = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_REQUESTS, last).await.is_err() {
        connections.shutdown().await;
    }
    Ok(())
}

async fn secure(stream: TcpStream, state: Arc<State>, stopped: watch::Receiver<()>) {
    // Small replies must not wait for the client's acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    // Otherwise a client that is gone, or reads nothing, keeps its place for ever.
    let stalled = u32::try_from(STALLED.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&stream, stalled) {
        tracing::debug!(%error, "no TCP_USER_TIMEOUT");
    }
    let Some(acceptor) = state.tls.as_ref().map(Tls::acceptor) else {
        return converse(stream, state, stopped).await;
    };
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, state, stopped).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS"),
        Err(_) => tracing::debug!("TLS was not agreed on in time"),
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    state: Arc<State>,
    mut stopped: watch::Receiver<()>,
) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(handler::handle(state, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        // The sender is dropped when the server stops.
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended early");
    }
}
