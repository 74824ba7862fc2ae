//! A limit on how many bytes move in a second, both ways and with all registries together.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How far the bytes may be ahead of the rate, so that short pauses are made good.
const BURST: Duration = Duration::from_millis(100);

/// Holds movers of bytes back to a rate.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    bytes_per_second: Option<NonZeroU64>,
    /// When everything that moved so far was due.
    due: Mutex<Option<Instant>>,
}

impl Throttle {
    /// Returns one for that many bytes a second; for any number without one.
    pub(super) fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        Self { bytes_per_second, due: Mutex::default() }
    }

    /// Counts `bytes` as moved, and waits until they may have.
    pub(super) async fn moved(&self, bytes: u64) {
        if let Some(due) = self.due_after(bytes, Instant::now()) {
            tokio::time::sleep_until(due).await;
        }
    }

    /// Returns `largest`, or less where the rate is so low that a piece of that size would take
    /// longer than others should wait for their turn.
    pub(super) fn piece(&self, largest: usize) -> usize {
        let Some(rate) = self.bytes_per_second else { return largest };
        usize::try_from(rate.get() / 10).unwrap_or(largest).clamp(1 << 10, largest)
    }

    fn due_after(&self, bytes: u64, now: Instant) -> Option<Instant> {
        let rate = self.bytes_per_second?.get();
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
        let time = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let next = due.map_or(now, |due| due.max(earliest)) + time;
        *due = Some(next);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_due_at_the_rate() {
        let throttle = Throttle::new(NonZeroU64::new(1000));
        let begun = Instant::now();
        let mut due = None;
        for _ in 0..20 {
            due = throttle.due_after(250, begun);
        }
        assert_eq!(due, Some(begun + Duration::from_secs(5)));
        // Idle time is not saved up.
        let later = begun + Duration::from_secs(60);
        assert_eq!(throttle.due_after(1000, later), Some(later + Duration::from_millis(900)));
        assert_eq!(Throttle::default().due_after(u64::MAX, later), None);
        assert_eq!((throttle.piece(1 << 20), Throttle::default().piece(9)), (1 << 10, 9));
    }
}
