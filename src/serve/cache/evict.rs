//! Keeping the cache within its bounds.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::event::Event;
use crate::store::Evicted;

use super::Cache;

/// Stands for the bytes of a cache that nobody has counted yet: more than any disk has, and less
/// than what overflows by some blobs more.
pub(super) const NOT_COUNTED: u64 = u64::MAX / 2;

/// How long after one counting the next may begin: it reads every manifest.
const PAUSE: Duration = Duration::from_secs(2);

impl Cache {
    /// Notes that the cache has grown, and makes room when it is too large.
    pub(super) fn has_grown_by(self: &Arc<Self>, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bound();
    }

    /// Makes room when the cache is too large, or seems so.
    pub(in crate::serve) fn bound(self: &Arc<Self>) {
        if self.bytes.load(Ordering::Relaxed) > self.max_bytes {
            tokio::spawn(Arc::clone(self).make_room());
        }
    }

    /// Removes what was unused for longest when the cache is too large. Not while another program
    /// uses the store: then later.
    async fn make_room(self: Arc<Self>) {
        // One at a time: who comes meanwhile has grown the cache before this one counts.
        let Ok(mut last) = self.evicting.try_lock() else { return };
        if let Some(last) = *last {
            tokio::time::sleep_until(last + PAUSE).await;
        }
        let (store, most) = (self.store.clone(), self.max_bytes);
        let evicting = tokio::task::spawn_blocking(move || store.evict(most));
        let evicted = evicting.await;
        *last = Some(Instant::now());
        let text = match evicted {
            Ok(Ok(Some(evicted))) => {
                self.bytes.store(evicted.left_bytes, Ordering::Relaxed);
                said(&evicted)
            }
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some(format!("failed to make room in the cache: {error}")),
            Err(error) => Some(format!("failed to make room in the cache: {error}")),
        };
        if let Some(text) = text {
            self.events.emit(Event::Note { text });
        }
    }
}

fn said(evicted: &Evicted) -> Option<String> {
    let Evicted { images, bytes, left_bytes } = evicted;
    (*images > 0).then(|| {
        format!("{images} images left the cache: {bytes} bytes freed, {left_bytes} are left")
    })
}
