//! The events of one transfer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::session::Shared;
use super::throttle::Throttle;
use crate::event::{Direction, Event, Sink, TransferId, TransferOutcome};

/// The least time between two events of a transfer: 20 a second.
const INTERVAL: Duration = Duration::from_millis(50);

/// Tells a sink how a transfer goes, not too often.
#[derive(Clone)]
pub(super) struct Progress {
    events: Arc<dyn Sink>,
    /// Holds the transfer back to the rate that is allowed.
    pub(super) throttle: Arc<Throttle>,
    transfer: TransferId,
    /// What is to be said first.
    beginning: Arc<Mutex<Option<Event>>>,
    last: Arc<Mutex<Option<Instant>>>,
}

impl Progress {
    /// Returns the progress of a transfer that may turn out to have no need to begin.
    pub(super) fn new(
        shared: &Shared,
        transfer: TransferId,
        direction: Direction,
        name: String,
        total_bytes: Option<u64>,
    ) -> Self {
        let (events, throttle) = (Arc::clone(&shared.options.events), Arc::clone(&shared.throttle));
        let event = Event::TransferStarted { transfer, direction, name, total_bytes };
        let beginning = Arc::new(Mutex::new(Some(event)));
        Self { events, throttle, transfer, beginning, last: Arc::default() }
    }

    /// Says that the transfer began.
    pub(super) fn begin(
        shared: &Shared,
        transfer: TransferId,
        direction: Direction,
        name: String,
        total_bytes: Option<u64>,
    ) -> Self {
        let progress = Self::new(shared, transfer, direction, name, total_bytes);
        progress.start();
        progress
    }

    /// Says that the transfer began, once.
    pub(super) fn start(&self) {
        let event = self.beginning.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(event) = event {
            self.events.emit(event);
        }
    }

    /// Says that `position_bytes` of the whole are there, unless that was said just now.
    pub(super) fn moved_to(&self, position_bytes: u64) {
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if position_bytes != 0 && last.is_some_and(|last| now - last < INTERVAL) {
                return;
            }
            *last = Some(now);
        }
        self.events.emit(Event::TransferProgress { transfer: self.transfer, position_bytes });
    }

    /// Says how the transfer ended.
    pub(super) fn end(&self, outcome: TransferOutcome) {
        self.start();
        self.events.emit(Event::TransferFinished { transfer: self.transfer, outcome });
    }
}
