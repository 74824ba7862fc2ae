//! Spans of time as Go programs write them.

use std::time::Duration;

/// Parses a duration such as `24h`, `1h30m`, `500ms` or `7d`.
///
/// # Errors
///
/// What to write instead.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || "write numbers with ms, s, m, h or d, such as `24h`".to_owned();
    let mut sum = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let (number, unit) = rest.split_at(end);
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let (unit, after) = unit.split_at(end);
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 3600 * 1000,
            "d" => 86400 * 1000,
            _ => return Err(invalid()),
        };
        let part = number.checked_mul(milliseconds).ok_or_else(invalid)?;
        sum = sum.checked_add(Duration::from_millis(part)).ok_or_else(invalid)?;
        rest = after;
    }
    if text.is_empty() { Err(invalid()) } else { Ok(sum) }
}

/// Like [`parse`], but refuses no time at all.
///
/// # Errors
///
/// What to write instead.
pub(crate) fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("it must be longer than nothing".to_owned()),
        some => Ok(some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s_and_have_days() {
        assert_eq!(parse("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(parse("7d").unwrap(), Duration::from_secs(7 * 86400));
        assert_eq!(parse("1s500ms").unwrap(), Duration::from_millis(1500));
        assert_eq!(parse("0s").unwrap(), Duration::ZERO);
        for text in ["", "24", "h", "1w", "1µs", "99999999999999999d"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse_positive("0ms").is_err());
    }
}
