//! `HEALTHCHECK` and the durations of its flags.

use std::time::Duration;

use crate::dockerfile::ast::{Command, Healthcheck};
use crate::dockerfile::error::{Error, ErrorKind};
use crate::dockerfile::flags::{Flags, Takes};
use crate::dockerfile::kinds;
use crate::dockerfile::parser::Head;
use crate::dockerfile::source::Word;

/// Docker refuses shorter times.
const SHORTEST: Duration = Duration::from_millis(1);

/// Reads a `HEALTHCHECK`.
pub(crate) fn read(head: &Head<'_>) -> Result<Healthcheck, Error> {
    let flags = Flags::check(
        &head.flags,
        &[
            ("interval", Takes::Value),
            ("timeout", Takes::Value),
            ("start-period", Takes::Value),
            ("start-interval", Takes::Value),
            ("retries", Takes::Value),
        ],
    )?;
    if head.arguments.is_empty() {
        return Err(kinds::at_least_one(head));
    }
    let (kind, rest) = head.arguments.split_once_blank();
    match kind.text().to_uppercase().as_str() {
        "NONE" if rest.is_some() => Err(head.fault("HEALTHCHECK NONE takes no arguments")),
        "NONE" => Ok(Healthcheck::None),
        "CMD" => {
            let rest = rest.unwrap_or(kind.from(kind.text().len()));
            let command = kinds::command(rest)?;
            let empty = match &command {
                Command::Shell(word) => word.text.is_empty(),
                Command::Exec(arguments) => arguments.is_empty(),
            };
            if empty {
                return Err(head.fault("Missing command after HEALTHCHECK CMD"));
            }
            Ok(Healthcheck::Test {
                command,
                interval: duration(&flags, "interval")?,
                timeout: duration(&flags, "timeout")?,
                start_period: duration(&flags, "start-period")?,
                start_interval: duration(&flags, "start-interval")?,
                retries: retries(&flags)?,
            })
        }
        other => {
            let message = format!("Unknown type {other:?} in HEALTHCHECK (try CMD)");
            Err(Error::new(ErrorKind::BadArguments, message, kind.span()))
        }
    }
}

fn duration(flags: &Flags<'_>, name: &str) -> Result<Duration, Error> {
    let Some(Word { text, span }) = flags.value(name) else {
        return Ok(Duration::ZERO);
    };
    let fault = |message| Error::new(ErrorKind::BadFlag, message, span);
    let value = parse_duration(&text).map_err(|why| fault(format!("{why} {text:?}")))?;
    match value {
        Some(value) if value.is_zero() || value >= SHORTEST => Ok(value),
        _ => Err(fault(format!("Interval {name:?} cannot be less than 1ms"))),
    }
}

fn retries(flags: &Flags<'_>) -> Result<u32, Error> {
    let Some(Word { text, span }) = flags.value("retries") else {
        return Ok(0);
    };
    let fault = |message| Error::new(ErrorKind::BadFlag, message, span);
    match text.parse::<i32>() {
        Ok(value) => u32::try_from(value)
            .map_err(|_| fault(format!("--retries cannot be negative ({value})"))),
        Err(_) => Err(fault(format!("--retries is not a number: {text:?}"))),
    }
}

/// Reads a duration as Go's `time.ParseDuration` does: `1h15m30.5s`. None is a negative one.
fn parse_duration(text: &str) -> Result<Option<Duration>, &'static str> {
    const INVALID: &str = "time: invalid duration";
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(Some(Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(INVALID);
    }
    let mut nanoseconds: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let scale = match unit {
            "" => return Err("time: missing unit in duration"),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err("time: unknown unit in duration"),
        };
        nanoseconds = nanoseconds.saturating_add(scaled(number, scale).ok_or(INVALID)?);
        rest = after;
    }
    let nanoseconds = i64::try_from(nanoseconds).map_err(|_| INVALID)?;
    let value = Duration::from_nanos(nanoseconds.unsigned_abs());
    Ok((!negative || value.is_zero()).then_some(value))
}

/// Multiplies a decimal number by a unit; what is smaller than a nanosecond is dropped.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { u128::from(whole.parse::<u64>().ok()?) };
    // More than fifteen places say nothing below a nanosecond, even of an hour.
    let fraction = &fraction[..fraction.len().min(15)];
    let power = fraction.bytes().fold(1_u128, |power, _| power * 10);
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()?.into() };
    Some(whole * scale + part * scale / power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_durations() {
        let millis = |value| Ok(Some(Duration::from_millis(value)));
        for (text, expected) in [
            ("5s", millis(5_000)),
            ("1h15m30.5s", millis(4_530_500)),
            (".5s", millis(500)),
            ("1.s", millis(1_000)),
            ("0", millis(0)),
            ("+2ms", millis(2)),
            ("1500us", Ok(Some(Duration::from_micros(1_500)))),
            ("-1s", Ok(None)),
            ("5", Err("time: missing unit in duration")),
            ("5x", Err("time: unknown unit in duration")),
            ("", Err("time: invalid duration")),
            (".s", Err("time: invalid duration")),
            ("1.2.3s", Err("time: invalid duration")),
            ("99999999999h", Err("time: invalid duration")),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }
}
