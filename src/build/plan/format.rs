//! How instructions read in the history: the way Go prints the values BuildKit holds.

use std::fmt::Write as _;

use crate::image::Healthcheck;

/// Returns Go's `%q` of a string.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            control if (control as u32) < 0x20 || control as u32 == 0x7f => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\x{:02x}", control as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Returns Go's `%q` of a list of strings, as in `["a" "b"]`.
pub(super) fn quote_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| quote(text)).collect();
    format!("[{}]", quoted.join(" "))
}

/// Returns Go's `%v` of a list of strings, as in `[a b]`.
pub(super) fn plain_list<T: AsRef<str>>(list: &[T]) -> String {
    let words: Vec<&str> = list.iter().map(AsRef::as_ref).collect();
    format!("[{}]", words.join(" "))
}

/// Returns Go's `%+v` of a health check, as in `{Test:[CMD a] Interval:5s ...}`.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    let [interval, timeout, start_period, start_interval] =
        [check.interval, check.timeout, check.start_period, check.start_interval].map(duration);
    let (test, retries) = (plain_list(&check.test), check.retries);
    format!(
        "{{Test:{test} Interval:{interval} Timeout:{timeout} StartPeriod:{start_period} \
         StartInterval:{start_interval} Retries:{retries}}}"
    )
}

/// Returns Go's text of a `time.Duration`, as in `1m30s`.
fn duration(nanoseconds: i64) -> String {
    let total = nanoseconds.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let text = format!("{}.{:0width$}", value / unit, value % unit, width = digits(unit));
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let text = match total {
        0 => return "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(total, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(total, 1_000_000)),
        _ => {
            let minutes = total / 60_000_000_000;
            let seconds = fraction(total % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    if nanoseconds < 0 { format!("-{text}") } else { text }
}

fn digits(unit: u64) -> usize {
    unit.ilog10() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_prints_them() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1_500_000, "1.5ms"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (300_000_000_000, "5m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_500_000_000, "1.5s"),
        ] {
            assert_eq!(duration(nanoseconds), expected);
        }
    }

    #[test]
    fn health_checks_read_as_buildkit_writes_them() {
        let check = Healthcheck {
            test: vec!["CMD-SHELL".into(), "curl -f http://localhost/".into()],
            interval: 300_000_000_000,
            timeout: 3_000_000_000,
            retries: 3,
            ..Healthcheck::default()
        };
        let expected = "{Test:[CMD-SHELL curl -f http://localhost/] Interval:5m0s Timeout:3s \
                        StartPeriod:0s StartInterval:0s Retries:3}";
        assert_eq!(healthcheck(&check), expected);
    }

    #[test]
    fn lists_are_quoted_with_blanks_between() {
        let list = ["python3".to_owned(), "a \"b\"".to_owned()];
        assert_eq!(quote_list(&list), r#"["python3" "a \"b\""]"#);
        assert_eq!(plain_list(&list), "[python3 a \"b\"]");
    }
}
