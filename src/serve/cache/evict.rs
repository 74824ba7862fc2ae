//! Keeping the cache within its bounds.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::event::Event;
use crate::store::Evicted;

use super::Cache;

impl Cache {
    /// Notes that the cache has grown, and makes room when it is too large.
    pub(super) fn has_grown_by(self: &Arc<Self>, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.max_bytes.is_some_and(|most| before + bytes > most) {
            let cache = Arc::clone(self);
            tokio::spawn(async move { cache.make_room().await });
        }
    }

    /// Removes what was unused for longest when the cache is too large. Not while another program
    /// uses the store: then later.
    pub(in crate::serve) async fn make_room(self: Arc<Self>) {
        let Some(most) = self.max_bytes else { return };
        // One at a time; another one would find nothing to do.
        let Ok(_turn) = self.evicting.try_lock() else { return };
        let store = self.store.clone();
        let evicting = tokio::task::spawn_blocking(move || store.evict(most));
        let text = match evicting.await {
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
