//! When to try again, and after how long.

use std::time::Duration;

use super::error::Limit;
use super::{Error, StatusError};
use crate::event::{Event, Sink};

/// How often and how patiently a failed operation is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many tries an operation has in all, the first included.
    pub attempts: u32,
    /// The wait before the second try; it doubles with each further one.
    pub first_delay: Duration,
    /// The longest wait that rpub chooses itself.
    pub longest_delay: Duration,
    /// The longest `Retry-After` that is honoured rather than reported.
    pub max_wait: Duration,
    /// How long a registry may take to begin its answer, and to go on with it.
    pub idle_timeout: Duration,
}

impl Default for RetryPolicy {
    /// Five tries within about eight seconds of waiting. Registries that ask for a pause ask for a
    /// minute at most; one that asks for more has a quota, which is no use to wait for. A minute
    /// and a half is more than any registry needs to begin its answer.
    fn default() -> Self {
        Self {
            attempts: 5,
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_secs(30),
            max_wait: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(90),
        }
    }
}

impl RetryPolicy {
    /// Returns what is left of the policy for a mirror: a hiccup is survived, nothing more.
    pub(super) fn of_mirror(self) -> Self {
        let longest_delay = self.longest_delay.min(Duration::from_secs(2));
        Self { attempts: self.attempts.min(2), longest_delay, ..self }
    }

    /// Returns the wait before try number `attempt` (from 2): exponential, and a random part of
    /// its upper half, so that clients that failed together do not come back together.
    fn delay(&self, attempt: u32, random: f64) -> Duration {
        let doublings = attempt.saturating_sub(2).min(16);
        let whole = self.first_delay.saturating_mul(1 << doublings).min(self.longest_delay);
        whole.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }
}

/// The most that is added to a wait that a registry asks for.
const SPREAD: Duration = Duration::from_secs(1);

/// What is left of one operation's tries.
#[derive(Debug)]
pub(super) struct Budget {
    policy: RetryPolicy,
    attempt: u32,
}

impl Budget {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self { policy, attempt: 1 }
    }

    /// Returns the budget of a question that is asked once, about something that has failed.
    pub(super) fn of_one_try(policy: RetryPolicy) -> Self {
        Self::new(RetryPolicy { attempts: 1, ..policy })
    }

    /// Waits before the next try after `error`, or returns it when there is to be none.
    pub(super) async fn wait(
        &mut self,
        what: &str,
        error: Error,
        events: &dyn Sink,
    ) -> Result<(), Error> {
        let Some(delay) = self.next_delay(&error, random()) else { return Err(error) };
        self.attempt += 1;
        events.emit(Event::Retrying {
            what: what.to_owned(),
            reason: reason_of(&error),
            attempt: self.attempt,
            delay,
        });
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// Takes one try out of the budget without a wait; returns whether there was one.
    pub(super) fn spend(&mut self) -> bool {
        let is_left = self.attempt < self.policy.attempts;
        self.attempt += u32::from(is_left);
        is_left
    }

    /// Gives all tries back: the operation has come on since the last failure.
    pub(super) fn renew(&mut self) {
        self.attempt = 1;
    }

    fn next_delay(&self, error: &Error, random: f64) -> Option<Duration> {
        if self.attempt >= self.policy.attempts || !is_transient(error) {
            return None;
        }
        let delay = self.policy.delay(self.attempt + 1, random);
        match status_of(error).and_then(|status| status.retry_after) {
            Some(asked) if asked > self.policy.max_wait => None,
            // Everybody who was asked would come back at the same moment.
            Some(asked) => Some(asked.max(delay) + (asked / 10).min(SPREAD).mul_f64(random)),
            None => Some(delay),
        }
    }
}

fn status_of(error: &Error) -> Option<&StatusError> {
    match error {
        Error::Status(status) => Some(status),
        Error::Token { source, .. } => status_of(source),
        _ => None,
    }
}

/// Returns whether the same request may well succeed later.
pub(super) fn is_transient(error: &Error) -> bool {
    match error {
        Error::Status(status) => match status.limit {
            Limit::Rate => true,
            Limit::Quota => status.retry_after.is_some(),
            Limit::None => matches!(status.status.as_u16(), 408 | 429 | 500 | 502..=504),
        },
        Error::Transport { source, .. } => !source.is_builder() && !is_certificate(source),
        Error::Stalled { .. } => true,
        Error::Token { source, .. } => is_transient(source),
        _ => false,
    }
}

/// Returns whether TLS failed because of a certificate, which no repetition mends.
pub(super) fn is_certificate(error: &reqwest::Error) -> bool {
    tls_error(error).is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)))
}

/// Returns the TLS error within `error`.
pub(super) fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An I/O error's own `source` skips the error inside it.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Returns the innermost reason, which is the one that says something.
fn reason_of(error: &Error) -> String {
    match error {
        Error::Status(status) => status.status.to_string(),
        Error::Transport { source, .. } => {
            let mut cause: &dyn std::error::Error = source;
            while let Some(next) = cause.source() {
                cause = next;
            }
            cause.to_string()
        }
        other => other.to_string(),
    }
}

/// Returns a number in `0..1`, good enough to spread retries.
pub(super) fn random() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    let bits = RandomState::new().hash_one(std::process::id()) >> 32;
    f64::from(u32::try_from(bits).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};
    use proptest::prelude::*;

    use super::*;

    fn failure(status: StatusCode, retry_after: Option<Duration>) -> Error {
        Error::Status(Box::new(StatusError {
            method: Method::GET,
            url: String::new(),
            status,
            errors: Vec::new(),
            request_id: None,
            limit: Limit::None,
            retry_after,
            answered: jiff::Timestamp::UNIX_EPOCH,
        }))
    }

    #[test]
    fn honours_short_waits_and_reports_long_ones() {
        let budget = Budget::new(RetryPolicy::default());
        let limited = StatusCode::TOO_MANY_REQUESTS;
        let wait = |asked| budget.next_delay(&failure(limited, asked), 0.0);
        assert_eq!(wait(Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(wait(Some(Duration::from_secs(3600))), None);
        assert_eq!(wait(None), Some(Duration::from_millis(250)));
        assert_eq!(budget.next_delay(&failure(StatusCode::NOT_FOUND, None), 0.0), None);
    }

    proptest! {
        #[test]
        fn never_exceeds_the_budget(attempts in 1_u32..20, first in 0_u64..5000, random in 0.0..1.0) {
            let policy = RetryPolicy {
                attempts,
                first_delay: Duration::from_millis(first),
                longest_delay: Duration::from_secs(3),
                ..RetryPolicy::default()
            };
            let mut budget = Budget::new(policy);
            let mut tries = 1;
            while let Some(delay) = budget.next_delay(&failure(StatusCode::BAD_GATEWAY, None), random) {
                prop_assert!(delay <= policy.longest_delay);
                budget.attempt += 1;
                tries += 1;
            }
            prop_assert_eq!(tries, attempts);
        }
    }
}
