//! stub
use crate::{event::Sink, image::RegistryName, store::Store};
/// x
pub struct ServeOptions {
    /// x
    pub store: Store,
    /// x
    pub registry_name: RegistryName,
    /// x
    pub read_only: bool,
    /// x
    pub events: std::sync::Arc<dyn Sink>,
}
/// x
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct Error;
/// x
pub async fn serve(
    _l: tokio::net::TcpListener,
    _o: ServeOptions,
    _s: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    Ok(())
}
