//! How much may move at once between rpub and one registry, and when nothing may.
//!
//! The window of a registry grows by one for each window of transfers that went well while it was
//! used up, and is halved when the registry shows that it is too much for it: by 429 or 503, or by
//! connections that break (HTTP/2's `ENHANCE_YOUR_CALM` arrives as one). Requests that were under
//! way when it was halved do not halve it again. All clients of one process share a cap.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How many blobs move at once each way at first; what most tools use all the time.
const FIRST_WINDOW: usize = 6;
/// How many short requests may be under way for each blob that may.
const REQUESTS_PER_TRANSFER: usize = 4;

/// What shares a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Blobs coming in. Apart from those going out: who copies within one registry holds one of
    /// each, and would wait for itself.
    Downloads,
    /// Blobs going out.
    Uploads,
    /// Requests that are waiting for their answer's head, without a long body.
    Requests,
}

/// The most that moves at once each way, with all registries together.
#[derive(Debug)]
pub(super) struct Cap {
    most: usize,
    downloads: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
}

impl Cap {
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        let semaphore = || Arc::new(Semaphore::new(most));
        Self { most, downloads: semaphore(), uploads: semaphore() }
    }

    fn semaphore(&self, lane: Lane) -> Option<&Arc<Semaphore>> {
        match lane {
            Lane::Downloads => Some(&self.downloads),
            Lane::Uploads => Some(&self.uploads),
            Lane::Requests => None,
        }
    }
}

/// The limits of one registry.
#[derive(Debug)]
pub(super) struct Pace {
    lanes: [Arc<Places>; 3],
    cap: Arc<Cap>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    window: f64,
    /// Counts how often the window was halved.
    epoch: Epoch,
    pause: Option<Pause>,
}

/// A time between two halvings of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Epoch(u64);

#[derive(Debug)]
struct Pause {
    until: Instant,
    is_said: bool,
}

impl Pace {
    pub(super) fn new(cap: &Arc<Cap>) -> Self {
        let window = FIRST_WINDOW.min(cap.most);
        let lane = |share: usize| Arc::new(Places::new(window * share));
        let lanes = [lane(1), lane(1), lane(REQUESTS_PER_TRANSFER)];
        #[expect(clippy::cast_precision_loss, reason = "a window is a small number")]
        let state = State { window: window as f64, epoch: Epoch(0), pause: None };
        Self { lanes, cap: Arc::clone(cap), state: Mutex::new(state) }
    }

    /// Waits for a place in `lane`.
    pub(super) async fn enter(&self, lane: Lane) -> Permit {
        let places = &self.lanes[lane as usize];
        let place = acquire(&places.semaphore).await;
        let capped = match self.cap.semaphore(lane) {
            Some(semaphore) => Some(acquire(semaphore).await),
            None => None,
        };
        Permit { places: Arc::clone(places), place: Some(place), capped }
    }

    /// Takes a place in `lane` if fewer than `most` are taken, one is free, and nobody waits for it.
    pub(super) fn try_enter(&self, lane: Lane, most: usize) -> Option<Permit> {
        let free = |semaphore: &Arc<Semaphore>| Arc::clone(semaphore).try_acquire_owned().ok();
        let places = &self.lanes[lane as usize];
        if places.taken() >= most {
            return None;
        }
        let place = free(&places.semaphore)?;
        let mut permit = Permit { places: Arc::clone(places), place: Some(place), capped: None };
        if let Some(semaphore) = self.cap.semaphore(lane) {
            permit.capped = Some(free(semaphore)?);
        }
        Some(permit)
    }

    /// Returns the time that a request begins in, for [`Pace::slow_down`].
    pub(super) fn epoch(&self) -> Epoch {
        self.state().epoch
    }

    /// Says that a transfer of `lane` went well.
    pub(super) fn speed_up(&self, lane: Lane) {
        if self.lanes[lane as usize].semaphore.available_permits() > 0 {
            return;
        }
        let mut state = self.state();
        #[expect(clippy::cast_precision_loss, reason = "a window is a small number")]
        let most = self.cap.most as f64;
        state.window = (state.window + 1.0 / state.window).min(most);
        self.resize(state.window);
    }

    /// Says that a request begun in `epoch` was too much for the registry.
    pub(super) fn slow_down(&self, epoch: Epoch) {
        let mut state = self.state();
        if epoch < state.epoch {
            return;
        }
        state.epoch.0 += 1;
        state.window = (state.window / 2.0).max(1.0);
        self.resize(state.window);
        tracing::debug!(window = state.window, "fewer transfers at once");
    }

    /// Lets nothing be sent for `wait` from now.
    pub(super) fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut state = self.state();
        match &mut state.pause {
            Some(pause) if pause.until > Instant::now() => pause.until = pause.until.max(until),
            pause => *pause = Some(Pause { until, is_said: false }),
        }
    }

    /// Waits until something may be sent. The first who waits in a pause calls `say` with how long
    /// it still is.
    pub(super) async fn opened(&self, say: impl Fn(Duration)) {
        while let Some(until) = self.waiting(&say) {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Returns how many blobs may move at once each way.
    #[cfg(test)]
    pub(super) fn window(&self) -> usize {
        *self.lanes[Lane::Downloads as usize].size.lock().unwrap()
    }

    fn waiting(&self, say: &impl Fn(Duration)) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state();
        let pause = state.pause.as_mut().filter(|pause| pause.until > now)?;
        let (until, is_said) = (pause.until, std::mem::replace(&mut pause.is_said, true));
        drop(state);
        if !is_said {
            say(until - now);
        }
        Some(until)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a window is a small number of at least one"
    )]
    fn resize(&self, window: f64) {
        let window = window as usize;
        self.lanes[Lane::Downloads as usize].resize(window);
        self.lanes[Lane::Uploads as usize].resize(window);
        self.lanes[Lane::Requests as usize].resize(window * REQUESTS_PER_TRANSFER);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(semaphore).acquire_owned().await.expect("the semaphore is never closed")
}

/// The places of a lane. Their number changes while some are taken.
#[derive(Debug)]
struct Places {
    semaphore: Arc<Semaphore>,
    size: Mutex<usize>,
    /// Places that are taken and go away when they are given back.
    surplus: AtomicUsize,
}

impl Places {
    fn new(size: usize) -> Self {
        let semaphore = Arc::new(Semaphore::new(size));
        Self { semaphore, size: Mutex::new(size), surplus: AtomicUsize::new(0) }
    }

    fn taken(&self) -> usize {
        let size = *self.size.lock().unwrap_or_else(PoisonError::into_inner);
        size.saturating_sub(self.semaphore.available_permits())
    }

    fn resize(&self, to: usize) {
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in *size..to {
            if !self.drop_surplus() {
                self.semaphore.add_permits(1);
            }
        }
        let less = size.saturating_sub(to);
        let still_taken = less - self.semaphore.forget_permits(less);
        self.surplus.fetch_add(still_taken, Ordering::Relaxed);
        *size = to;
    }

    fn drop_surplus(&self) -> bool {
        let less = |surplus: usize| surplus.checked_sub(1);
        self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

/// A place in a lane, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    places: Arc<Places>,
    place: Option<OwnedSemaphorePermit>,
    capped: Option<OwnedSemaphorePermit>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(place) = self.place.take()
            && self.places.drop_surplus()
        {
            place.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(pace: &Pace, lane: Lane) -> usize {
        pace.lanes[lane as usize].semaphore.available_permits()
    }

    #[tokio::test]
    async fn the_window_grows_by_one_a_window_and_is_halved_once() {
        let pace = Pace::new(&Arc::new(Cap::new(8)));
        let mut taken = Vec::new();
        for _ in 0..6 {
            taken.push(pace.enter(Lane::Downloads).await);
        }
        assert_eq!(free(&pace, Lane::Downloads), 0);
        for _ in 0..7 {
            pace.speed_up(Lane::Downloads);
        }
        assert_eq!(free(&pace, Lane::Downloads), 1);
        let epoch = pace.epoch();
        pace.slow_down(epoch);
        pace.slow_down(epoch);
        // Seven less, halved: three. Three of the six that are taken must go first.
        assert_eq!(free(&pace, Lane::Requests), 3 * REQUESTS_PER_TRANSFER);
        taken.truncate(3);
        assert_eq!(free(&pace, Lane::Downloads), 0);
        taken.truncate(2);
        assert_eq!(free(&pace, Lane::Downloads), 1);
        for _ in 0..9 {
            pace.slow_down(pace.epoch());
        }
        drop(taken);
        assert_eq!((free(&pace, Lane::Downloads), free(&pace, Lane::Uploads)), (1, 1));
    }

    #[tokio::test]
    async fn what_is_unused_does_not_grow_and_the_cap_holds() {
        let pace = Pace::new(&Arc::new(Cap::new(2)));
        pace.speed_up(Lane::Uploads);
        assert_eq!(free(&pace, Lane::Uploads), 2);
        let _both = (pace.enter(Lane::Uploads).await, pace.enter(Lane::Uploads).await);
        for _ in 0..9 {
            pace.speed_up(Lane::Uploads);
        }
        assert_eq!(free(&pace, Lane::Uploads), 0);
    }

    #[tokio::test]
    async fn a_place_is_taken_without_waiting_only_when_it_is_free_everywhere() {
        let cap = Arc::new(Cap::new(2));
        let (one, other) = (Pace::new(&cap), Pace::new(&cap));
        let first = one.try_enter(Lane::Downloads, 2).unwrap();
        assert!(one.try_enter(Lane::Downloads, 1).is_none(), "one is enough");
        let _second = other.enter(Lane::Downloads).await;
        assert!(one.try_enter(Lane::Downloads, 2).is_none(), "the other registry has it");
        assert_eq!(free(&one, Lane::Downloads), 1, "nothing is kept");
        drop(first);
        assert!(one.try_enter(Lane::Downloads, 2).is_some());
    }

    #[tokio::test]
    async fn a_pause_holds_everybody_and_is_said_once() {
        let pace = Pace::new(&Arc::new(Cap::new(2)));
        let said = Mutex::new(Vec::new());
        let say = |wait| said.lock().unwrap().push(wait);
        pace.pause(Duration::from_millis(30));
        pace.pause(Duration::from_millis(3));
        let begun = Instant::now();
        tokio::join!(pace.opened(say), pace.opened(say));
        assert!(begun.elapsed() >= Duration::from_millis(20), "{:?}", begun.elapsed());
        pace.opened(say).await;
        assert_eq!(said.lock().unwrap().len(), 1);
    }
}
