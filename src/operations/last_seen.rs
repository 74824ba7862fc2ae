//! Images by name where there is no network: what a name meant when it was last seen.

use jiff::Timestamp;

use crate::event::Event;
use crate::image::{Digest, Platform, Reference};
use crate::store::Store;

use super::resolve::{Resolved, read_image};
use super::session::blocking;
use super::{Error, Session};

/// An image of the store, and since when its name is known to mean it.
struct Sight {
    resolved: Resolved,
    /// `None` for what was named by its digest, which means the same for ever.
    at: Option<Timestamp>,
}

/// Finds what `reference` meant when it was last seen, and says when that was; `None` when it was never
/// seen here, or not for that platform.
///
/// A name of the store counts first, as it does with a network; then what the registry said last.
pub(super) async fn last_seen(
    session: &Session,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<Resolved>, Error> {
    let (store, name, wanted) = (session.store.clone(), reference.clone(), platform.clone());
    let Some(Sight { resolved, at }) = blocking(move || look(&store, &name, &wanted)).await? else {
        return Ok(None);
    };
    if let Some(at) = at {
        let digest = resolved.named().clone();
        session.sink.emit(Event::LastSeen { name: reference.familiar(), digest, at });
    }
    Ok(Some(resolved))
}

fn look(store: &Store, name: &Reference, platform: &Platform) -> Result<Option<Sight>, Error> {
    if let Some(digest) = &name.digest {
        let resolved = read_image(store, digest, platform)?;
        return Ok(resolved.map(|resolved| Sight { resolved, at: None }));
    }
    let seen = store.seen(name)?;
    if let Some(entry) = store.named(name)?
        && let Some(mut resolved) = read_image(store, &entry.descriptor.digest, platform)?
        && resolved.config.platform().rank_for(platform).is_some()
    {
        resolved.index = resolved.index.or(entry.index);
        let is_same = |digest: &Digest| {
            *digest == resolved.manifest.digest || Some(digest) == resolved.index.as_ref()
        };
        let again = seen.filter(|seen| is_same(&seen.digest)).map(|seen| seen.at);
        let at = again.max(entry.tagged);
        return Ok(Some(Sight { resolved, at }));
    }
    let Some(seen) = seen else { return Ok(None) };
    let resolved = read_image(store, &seen.digest, platform)?;
    Ok(resolved.map(|resolved| Sight { resolved, at: Some(seen.at) }))
}
