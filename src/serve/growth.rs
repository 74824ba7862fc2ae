//! A blob on its way into the store, and how far it can be read meanwhile.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use super::upstream::UpstreamError;

/// What is told about a blob on its way. Clones tell of the same blob.
#[derive(Debug, Clone)]
pub struct Growth(Arc<watch::Sender<State>>);

/// What is known about it.
#[derive(Debug, Clone, Default)]
struct State {
    /// The size that it will have.
    size: Option<u64>,
    /// Which attempt the bytes are of: another one begins anew, in another file.
    attempt: u32,
    /// Bytes in the file.
    bytes: u64,
    end: Option<Result<(), UpstreamError>>,
}

impl Growth {
    /// Returns both ends.
    pub(super) fn channel() -> (Self, Watched) {
        let (sender, receiver) = watch::channel(State::default());
        (Self(Arc::new(sender)), Watched(receiver))
    }

    /// Says that the file has so many bytes of the blob.
    pub fn reach(&self, bytes: u64) {
        self.0.send_modify(|state| state.bytes = bytes);
    }

    /// Says that what was there is thrown away.
    pub fn restart(&self) {
        self.0.send_modify(|state| {
            state.attempt += 1;
            state.bytes = 0;
        });
    }

    /// Says how large it will be.
    pub(super) fn expect(&self, size: u64) {
        self.0.send_modify(|state| state.size = Some(size));
    }

    /// Says how it ended.
    pub(super) fn end(&self, how: Result<(), UpstreamError>) {
        self.0.send_modify(|state| state.end = Some(how));
    }
}

/// Waits for a blob to begin to grow.
#[derive(Debug, Clone)]
pub(super) struct Watched(watch::Receiver<State>);

/// One attempt of a blob to grow, whose file can be opened.
#[derive(Debug)]
pub(super) struct Arrival {
    /// The size that the blob will have.
    pub(super) size: u64,
    attempt: u32,
    state: watch::Receiver<State>,
}

impl Watched {
    /// Waits until there is something to read, or it has ended.
    pub(super) async fn begun(mut self) -> Result<Arrival, UpstreamError> {
        let has_begun = |state: &State| state.end.is_some() || state.bytes > 0;
        let state = self.0.wait_for(has_begun).await.map_err(|_| given_up())?.clone();
        if let Some(Err(error)) = state.end {
            return Err(error);
        }
        let size = state.size.unwrap_or(state.bytes);
        Ok(Arrival { size, attempt: state.attempt, state: self.0 })
    }
}

impl Arrival {
    /// Returns whether the file is that of another attempt by now.
    pub(super) fn has_restarted(&self) -> bool {
        self.state.borrow().attempt != self.attempt
    }

    /// Waits until there is something after `position`; returns up to where can be read.
    ///
    /// The last byte is held back until the whole is verified: nobody gets a wrong blob that ends as
    /// if it were right.
    pub(super) async fn readable(&mut self, position: u64) -> io::Result<u64> {
        let attempt = self.attempt;
        let readable = |state: &State| match (&state.end, state.size) {
            (Some(Ok(())), size) => size.unwrap_or(state.bytes),
            (_, size) => state.bytes.min(size.unwrap_or(0).saturating_sub(1)),
        };
        let moved = |state: &State| {
            matches!(state.end, Some(Err(_)))
                || state.attempt != attempt
                || readable(state) > position
        };
        let state = self.state.wait_for(moved).await.map_err(|_| io::Error::other(given_up()))?;
        match &state.end {
            Some(Err(error)) => Err(io::Error::other(error.clone())),
            _ if state.attempt != attempt => {
                Err(io::Error::other("the blob was begun anew after wrong bytes"))
            }
            _ => Ok(readable(&state)),
        }
    }
}

/// The task that fetched is gone, as when the server stops.
fn given_up() -> UpstreamError {
    let message = "the transfer was given up".to_owned();
    UpstreamError { why: super::upstream::Why::Away, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::upstream::Why;

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        futures_util::FutureExt::now_or_never(future)
    }

    #[test]
    fn the_last_byte_waits_for_the_verdict() {
        let (growth, watched) = Growth::channel();
        assert!(now(watched.clone().begun()).is_none());
        growth.expect(10);
        growth.reach(4);
        let mut arrival = now(watched.begun()).unwrap().unwrap();
        assert_eq!(arrival.size, 10);
        assert_eq!(now(arrival.readable(0)).unwrap().unwrap(), 4);
        assert!(now(arrival.readable(4)).is_none());
        growth.reach(10);
        assert_eq!(now(arrival.readable(4)).unwrap().unwrap(), 9);
        assert!(now(arrival.readable(9)).is_none());
        growth.end(Ok(()));
        assert_eq!(now(arrival.readable(9)).unwrap().unwrap(), 10);
    }

    #[test]
    fn a_failure_and_a_new_beginning_end_the_reading() {
        let (growth, watched) = Growth::channel();
        growth.expect(10);
        growth.reach(4);
        let mut first = now(watched.clone().begun()).unwrap().unwrap();
        growth.restart();
        growth.reach(6);
        assert!(first.has_restarted());
        assert!(now(first.readable(4)).unwrap().is_err());
        let mut second = now(watched.clone().begun()).unwrap().unwrap();
        assert_eq!(now(second.readable(0)).unwrap().unwrap(), 6);
        growth.end(Err(UpstreamError { why: Why::Wrong, message: "wrong".to_owned() }));
        assert!(now(second.readable(0)).unwrap().is_err());
        assert_eq!(now(watched.begun()).unwrap().unwrap_err().why, Why::Wrong);
        drop(growth);
        let (growth, watched) = Growth::channel();
        drop(growth);
        assert_eq!(now(watched.begun()).unwrap().unwrap_err().why, Why::Away);
    }
}
