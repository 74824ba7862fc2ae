//! `ping`: who answers there.

use crate::image::RegistryName;
use crate::operations::{Error, Session};
use crate::registry::Ping;

/// Asks whether `registry` is one, how it is reached and what it wants to see.
///
/// # Errors
///
/// When nobody answers, or somebody who is no registry.
pub async fn ping(session: &Session, registry: &RegistryName) -> Result<Ping, Error> {
    let answered = session.client.ping(registry).await;
    answered.map_err(|error| Error::from(error).about(format!("`{registry}` is no registry")))
}
