//! When to try again, and after how long.

use std::time::Duration;

/// How often and how patiently a failed operation is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many tries an operation has in all, the first included.
    pub attempts: u32,
    /// The wait before the second try; it doubles with each further one.
    pub first_delay: Duration,
    /// The longest wait, and the longest `Retry-After` that is honoured rather than reported.
    pub longest_delay: Duration,
}

impl Default for RetryPolicy {
    /// Five tries within about eight seconds of waiting; a registry that asks for more than
    /// half a minute is left alone, because a quota does not come back sooner.
    fn default() -> Self {
        Self {
            attempts: 5,
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_secs(30),
        }
    }
}
