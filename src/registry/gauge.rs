//! Whether a transfer would be faster over more connections. Decisions only.

use std::time::{Duration, Instant};

/// How long a transfer is looked at before it is judged, each time. Long enough that a wait for an
/// answer's head, or for the disk, does not decide alone.
const SPAN: Duration = Duration::from_millis(100);
/// A connection that brings so many bytes a second, a gigabit network's, is not what holds a transfer
/// back: distance and loss, which more connections help against, leave far less.
const ENOUGH: f64 = 125e6;
/// The share of the time that is spent waiting for bytes where the network holds a transfer back.
/// With less, whoever takes them is busy, and more bytes would only wait in turn.
const WAITING_SHARE: f64 = 0.75;

/// What more connections would do for a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Make it faster.
    Faster,
    /// Nothing.
    Same,
}

/// Watches bytes being taken, from the first on: those that had to wait for their turn come all at
/// once, so that a short while says little.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    since: Option<Instant>,
    looked: Option<Instant>,
    waited: Duration,
    bytes: u64,
}

impl Gauge {
    /// Says that `bytes` were taken at `now`, after they were waited for since `begun`.
    pub(super) fn took(&mut self, bytes: usize, begun: Instant, now: Instant) {
        self.since.get_or_insert(begun);
        self.looked.get_or_insert(begun);
        self.waited += now - begun;
        self.bytes += bytes as u64;
    }

    /// Returns what is to be said of a transfer over `streams` connections when it is time to say
    /// something again.
    pub(super) fn look(&mut self, streams: usize, now: Instant) -> Option<Verdict> {
        let looked = self.looked.as_mut().filter(|looked| now - **looked >= SPAN)?;
        *looked = now;
        Some(self.verdict(streams, now))
    }

    /// Returns what is to be said now.
    pub(super) fn verdict(&self, streams: usize, now: Instant) -> Verdict {
        let seconds = self.since.map_or(0.0, |since| (now - since).as_secs_f64());
        // Exact enough: far less than 2^52 bytes, and a handful of connections.
        #[expect(clippy::cast_precision_loss, reason = "only the magnitude counts")]
        let (bytes, streams) = (self.bytes as f64, streams as f64);
        let is_slow = bytes < ENOUGH * streams * seconds;
        let is_waiting = self.waited.as_secs_f64() >= WAITING_SHARE * seconds;
        if is_slow && is_waiting { Verdict::Faster } else { Verdict::Same }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `bytes` in `elapsed` ms, of which `waited` were waiting, over `streams` connections.
    fn look(bytes: usize, waited: u64, elapsed: u64, streams: usize) -> Option<Verdict> {
        let (mut gauge, begun) = (Gauge::default(), Instant::now());
        gauge.took(bytes, begun, begun + Duration::from_millis(waited));
        gauge.look(streams, begun + Duration::from_millis(elapsed))
    }

    #[test]
    fn a_slow_network_is_told_from_a_slow_reader() {
        assert_eq!(look(1 << 20, 100, 100, 1), Some(Verdict::Faster));
        assert_eq!(look(13 << 20, 100, 100, 1), Some(Verdict::Same), "a gigabit and more");
        assert_eq!(look(13 << 20, 100, 100, 2), Some(Verdict::Faster), "half of that each");
        assert_eq!(look(1 << 20, 60, 100, 1), Some(Verdict::Same), "the reader is busy");
        assert_eq!(look(1 << 20, 60, 60, 1), None, "too early to tell");
    }

    #[test]
    fn looks_are_a_while_apart_and_what_was_seen_counts_on() {
        let (mut gauge, begun) = (Gauge::default(), Instant::now());
        let at = |ms| begun + Duration::from_millis(ms);
        assert_eq!(gauge.verdict(1, begun), Verdict::Same, "nothing is known");
        gauge.took(1 << 20, begun, at(40));
        assert_eq!(gauge.verdict(1, at(40)), Verdict::Faster);
        gauge.took(1 << 20, at(40), at(120));
        assert_eq!(gauge.look(1, at(120)), Some(Verdict::Faster));
        // What was waiting for its turn.
        gauge.took(4 << 20, at(120), at(120));
        assert_eq!(gauge.look(2, at(150)), None);
        assert_eq!(gauge.verdict(2, at(150)), Verdict::Faster);
    }
}
