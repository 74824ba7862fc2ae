//! What registries say of their limits: how much is left, and when to come back.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::Serialize;

/// What is left of a quota, as Docker Hub's headers tell it for pulls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RateLimit {
    /// How much there is in one window of time.
    pub limit: Option<u64>,
    /// How much is left of it.
    pub remaining: u64,
    /// The window's length in seconds.
    pub window_seconds: Option<u64>,
    /// Whom the registry counts: an address or an account.
    pub source: Option<String>,
}

impl RateLimit {
    /// Reads `ratelimit-limit: 100;w=21600`, `ratelimit-remaining: 76;w=21600` and
    /// `docker-ratelimit-source`. Without the second nothing is counted.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let (remaining, window) = amount(text(headers, "ratelimit-remaining"))?;
        let limit = amount(text(headers, "ratelimit-limit"));
        let source = text(headers, "docker-ratelimit-source");
        let source: String = source.chars().filter(|c| !c.is_control()).take(64).collect();
        Some(Self {
            limit: limit.map(|(count, _)| count),
            remaining,
            window_seconds: window.or_else(|| limit?.1),
            source: Some(source).filter(|source| !source.is_empty()),
        })
    }
}

/// Reads a count and its window, as in `100;w=21600`; some registries repeat it with commas.
fn amount(text: &str) -> Option<(u64, Option<u64>)> {
    let mut parts = text.split([';', ',']).map(str::trim);
    let count = parts.next()?.parse().ok()?;
    let window = parts.find_map(|part| part.strip_prefix("w=")?.parse().ok());
    Some((count, window))
}

/// Returns how long an answer asks to wait, by `Retry-After` (RFC 9110, section 10.2.3: seconds or
/// a date), or by what registries send in its place: Docker Hub and GitHub a Unix time.
pub(super) fn wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    retry_after(headers, now).or_else(|| {
        let is_spent = text(headers, "x-ratelimit-remaining").trim() == "0";
        let reset = is_spent.then(|| text(headers, "x-ratelimit-reset"));
        [text(headers, "x-retry-after"), reset.unwrap_or_default()]
            .into_iter()
            .find_map(|text| Timestamp::from_second(text.trim().parse().ok()?).ok())
            .map(|then| until(then, now))
    })
}

fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = text(headers, RETRY_AFTER.as_str()).trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than fits is longer than anybody waits.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    // `GMT` is a zone name of RFC 2822's obsolete part.
    let date = rfc2822::parse(&text.replace("GMT", "+0000")).ok()?.timestamp();
    Some(until(date, now))
}

fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Returns whether a refusal with status 403 is about a limit and not about rights: GitHub's
/// registry signals its secondary limits so.
pub(super) fn is_limit(headers: &HeaderMap) -> bool {
    headers.contains_key(RETRY_AFTER) || text(headers, "x-ratelimit-remaining").trim() == "0"
}

/// Returns whether an error's text is about a limit.
pub(super) fn speaks_of_limit(message: &str) -> bool {
    let message = message.to_lowercase();
    ["rate limit", "ratelimit", "too many requests", "abuse detection"]
        .iter()
        .any(|words| message.contains(words))
}

/// Returns when a limit lifts, as a time of day and from now.
pub(super) fn lifts(wait: Duration, now: Timestamp) -> String {
    let Ok(then) = now.checked_add(wait) else { return "not soon".to_owned() };
    let is_same_day = then.strftime("%F").to_string() == now.strftime("%F").to_string();
    let format = if is_same_day { "%H:%M:%S UTC" } else { "%F %H:%M UTC" };
    format!("at {}, in {}", then.strftime(format), span(wait))
}

/// Returns a span of time in its two largest units.
fn span(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let units = [(seconds / 86400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m")];
    let units = units.into_iter().chain([(seconds % 60, "s")]);
    let shown = units.skip_while(|(count, _)| *count == 0).take(2).filter(|(count, _)| *count > 0);
    let parts: Vec<String> = shown.map(|(count, unit)| format!("{count}{unit}")).collect();
    if parts.is_empty() { "0s".to_owned() } else { parts.concat() }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        all.iter().map(pair).collect()
    }

    /// Wire row H8: `Retry-After` may be seconds or a date; others send a Unix time.
    #[test]
    fn reads_seconds_dates_and_times() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        let read = |name, value| wait(&headers(&[(name, value)]), now).map(|wait| wait.as_secs());
        assert_eq!(read("retry-after", "120"), Some(120));
        assert_eq!(read("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), Some(37));
        assert_eq!(read("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(read("retry-after", "soon"), None);
        assert_eq!(read("retry-after", "9999999999999999999999999"), Some(u64::MAX));
        assert_eq!(read("x-retry-after", "784111790"), Some(50));
        assert_eq!(read("x-ratelimit-reset", "784111790"), None);
        let spent = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "784111790")];
        assert_eq!(wait(&headers(&spent), now), Some(Duration::from_secs(50)));
    }

    /// Wire row H7: Docker Hub's headers.
    #[test]
    fn reads_what_is_left_of_a_quota() {
        let all = [
            ("ratelimit-limit", "100;w=21600"),
            ("ratelimit-remaining", "76;w=21600"),
            ("docker-ratelimit-source", "192.0.2.1"),
        ];
        let expected = RateLimit {
            limit: Some(100),
            remaining: 76,
            window_seconds: Some(21600),
            source: Some("192.0.2.1".to_owned()),
        };
        assert_eq!(RateLimit::read(&headers(&all)), Some(expected));
        assert_eq!(RateLimit::read(&headers(&all[..1])), None);
        let bare = RateLimit::read(&headers(&[("ratelimit-remaining", "3")])).unwrap();
        assert_eq!((bare.limit, bare.remaining, bare.window_seconds), (None, 3, None));
    }

    #[test]
    fn says_when_a_limit_lifts() {
        let now: Timestamp = "2026-01-02T22:30:00Z".parse().unwrap();
        assert_eq!(lifts(Duration::from_secs(3600), now), "at 23:30:00 UTC, in 1h");
        let later = lifts(Duration::from_secs(5400), now);
        assert_eq!(later, "at 2026-01-03 00:00 UTC, in 1h30m");
        assert_eq!(lifts(Duration::MAX, now), "not soon");
        assert_eq!(span(Duration::from_millis(1)), "1s");
        assert_eq!(span(Duration::from_secs(86400 + 7)), "1d");
    }
}
