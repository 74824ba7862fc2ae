//! When to ask upstream again.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::image::{Reference, RegistryName};

use super::{Fallback, UpstreamError, Why, locked};

/// How long a tag that does not exist is believed not to: only long enough for many clients that
/// ask at once.
const ABSENT: Duration = Duration::from_secs(5);
/// How long a registry that does not answer is left alone by who has something to serve instead.
const AWAY: Duration = Duration::from_secs(15);
/// How long upstream may take to answer when there is something to serve instead; and when it did
/// not answer before.
const PATIENCE: Duration = Duration::from_secs(5);
const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// How many tags are remembered; some two hundred bytes each.
const MOST: usize = 100_000;

/// What upstream last said of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// It names what the store says it names.
    Same,
    /// There is none.
    Absent,
}

/// What to do about a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Serve,
    Refuse,
    Ask,
}

/// What upstream last said of tags, and when.
pub(super) struct Freshness {
    revalidate: Duration,
    said: Mutex<HashMap<Reference, (Said, Instant)>>,
}

impl Freshness {
    pub(super) fn new(revalidate: Duration) -> Self {
        Self { revalidate, said: Mutex::default() }
    }

    pub(super) fn step(&self, reference: &Reference, here: Fallback, now: Instant) -> Step {
        let said = locked(&self.said).get(reference).copied();
        decide(
            said.map(|(said, at)| (said, now.saturating_duration_since(at))),
            here,
            self.revalidate,
        )
    }

    pub(super) fn note(&self, reference: &Reference, said: Said, now: Instant) {
        let mut all = locked(&self.said);
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(reference.clone(), (said, now));
    }
}

/// Decides by what was said how long ago.
fn decide(said: Option<(Said, Duration)>, here: Fallback, revalidate: Duration) -> Step {
    match said {
        Some((Said::Same, age)) if here == Fallback::There && age < revalidate => Step::Serve,
        Some((Said::Absent, age)) if age < ABSENT.min(revalidate) => Step::Refuse,
        _ => Step::Ask,
    }
}

/// Registries that did not answer.
#[derive(Default)]
pub(super) struct Outages(Mutex<HashMap<RegistryName, Outage>>);

struct Outage {
    error: UpstreamError,
    /// When it did not answer last.
    at: Instant,
    /// Until then nobody asks who need not.
    until: Instant,
}

impl Outages {
    /// Returns how long to wait for an answer when there is something to serve instead; or why not
    /// to ask at all: the registry did not answer, and it is not time for one to look again.
    pub(super) fn patience(
        &self,
        registry: &RegistryName,
        now: Instant,
    ) -> Result<Duration, UpstreamError> {
        match locked(&self.0).get_mut(registry) {
            None => Ok(PATIENCE),
            Some(outage) if now < outage.until => Err(outage.error.clone()),
            Some(outage) => {
                // The others go on with what they have.
                outage.until = now + AWAY;
                Ok(SHORT_PATIENCE)
            }
        }
    }

    /// Returns why the registry did not answer somebody else since `then`.
    pub(super) fn since(&self, registry: &RegistryName, then: Instant) -> Option<UpstreamError> {
        let outages = locked(&self.0);
        outages.get(registry).filter(|outage| outage.at >= then).map(|one| one.error.clone())
    }

    /// Notes that the registry did not answer; returns whether that is news.
    pub(super) fn begin(
        &self,
        registry: &RegistryName,
        error: &UpstreamError,
        now: Instant,
    ) -> bool {
        let wait = match error.why {
            Why::Limited(wait) => wait.unwrap_or(AWAY).clamp(AWAY, AWAY * 20),
            _ => AWAY,
        };
        let outage = Outage { error: error.clone(), at: now, until: now + wait };
        locked(&self.0).insert(registry.clone(), outage).is_none()
    }

    /// Notes that it answers; returns whether that is news.
    pub(super) fn end(&self, registry: &RegistryName) -> bool {
        locked(&self.0).remove(registry).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_asked_for_again_in_time() {
        let minute = Duration::from_secs(60);
        let cases = [
            (None, Fallback::None, Step::Ask),
            (None, Fallback::There, Step::Ask),
            (Some((Said::Same, 59)), Fallback::There, Step::Serve),
            (Some((Said::Same, 60)), Fallback::There, Step::Ask),
            (Some((Said::Same, 1)), Fallback::None, Step::Ask),
            (Some((Said::Absent, 4)), Fallback::None, Step::Refuse),
            (Some((Said::Absent, 4)), Fallback::There, Step::Refuse),
            (Some((Said::Absent, 5)), Fallback::There, Step::Ask),
        ];
        for (said, here, expected) in cases {
            let said = said.map(|(said, seconds)| (said, Duration::from_secs(seconds)));
            assert_eq!(decide(said, here, minute), expected, "{said:?} {here:?}");
        }
        let always = decide(Some((Said::Absent, Duration::ZERO)), Fallback::None, Duration::ZERO);
        assert_eq!(always, Step::Ask);
    }

    #[test]
    fn an_outage_is_news_once_and_passes() {
        let (outages, now) = (Outages::default(), Instant::now());
        let registry = "docker.io".parse().unwrap();
        let error = |why| UpstreamError { why, message: "no".to_owned() };
        assert!(!outages.end(&registry));
        assert!(outages.begin(&registry, &error(Why::Away), now));
        assert!(!outages.begin(&registry, &error(Why::Away), now));
        let patience = |now| outages.patience(&registry, now).ok();
        assert_eq!(patience(now), None);
        assert!(outages.since(&registry, now).is_some());
        assert!(outages.since(&registry, now + AWAY).is_none());
        // One looks again, the others do not wait for it.
        assert_eq!(patience(now + AWAY), Some(SHORT_PATIENCE));
        assert_eq!(patience(now + AWAY), None);
        let hour = Duration::from_secs(3600);
        outages.begin(&registry, &error(Why::Limited(Some(hour))), now);
        assert_eq!(patience(now + AWAY), None);
        assert_eq!(patience(now + hour), Some(SHORT_PATIENCE));
        assert!(outages.end(&registry));
        assert!(!outages.end(&registry));
        assert_eq!(patience(now), Some(PATIENCE));
    }
}
