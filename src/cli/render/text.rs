//! Numbers, times and styles as people read them.

use std::time::Duration;

use clap::builder::styling::{AnsiColor, Style};

/// Style of the word `error`.
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// Style of the word `warning`.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// Style of what matters less.
pub(crate) const DIM: Style = Style::new().dimmed();

/// Returns `count` in docker's decimal units with three significant digits, as in `1.23MB`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count}B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{}", UNITS[unit])
}

/// Returns `time` in seconds with one digit, as in `12.3s`.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

/// Returns how long ago something was, in docker's words, as in `3 hours ago`.
pub(crate) fn age(elapsed_seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    // Hours are rounded, everything else is cut, as docker does.
    let (count, unit) = match elapsed_seconds {
        ..1 => return "Less than a second ago".to_owned(),
        1 => return "1 second ago".to_owned(),
        2..MINUTE => (elapsed_seconds, "seconds"),
        MINUTE..120 => return "About a minute ago".to_owned(),
        120..HOUR => (elapsed_seconds / MINUTE, "minutes"),
        _ => match (elapsed_seconds + HOUR / 2) / HOUR {
            1 => return "About an hour ago".to_owned(),
            hours @ ..48 => (hours, "hours"),
            hours @ 48..336 => (hours / 24, "days"),
            hours @ 336..1440 => (hours / 24 / 7, "weeks"),
            hours @ 1440..17520 => (hours / 24 / 30, "months"),
            _ => (elapsed_seconds / (365 * DAY), "years"),
        },
    };
    format!("{count} {unit} ago")
}

/// Returns how wide standard error's terminal is; without one, wide enough for anything.
pub(crate) fn terminal_columns() -> usize {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        Ok(_) | Err(_) => usize::MAX,
    }
}

/// Returns `text` in at most `columns` columns, the last an ellipsis if some is left out.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let start: String = text.chars().take(columns.saturating_sub(1)).collect();
    format!("{}…", start.trim_end())
}

/// Returns the last line of a program's output that is not blank, as a terminal would show it at
/// rest: without escapes, and of what was overwritten only the last.
pub(crate) fn last_line(output: &str) -> Option<String> {
    let line = output.rsplit(['\n', '\r']).find(|line| !line.trim().is_empty())?;
    let plain = anstream::adapter::strip_str(line).to_string();
    let visible = plain.chars().map(|c| if c == '\t' { ' ' } else { c });
    let visible: String = visible.filter(|c| !c.is_control()).collect();
    (!visible.trim().is_empty()).then(|| visible.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (count, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (12_345, "12.3kB"),
            (87_000_000, "87.0MB"),
            (999_600_000, "1.00GB"),
            (123_456_789_000, "123GB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn ages_read_as_docker_writes_them() {
        for (seconds, expected) in [
            (0, "Less than a second ago"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (60, "About a minute ago"),
            (200, "3 minutes ago"),
            (3600, "About an hour ago"),
            (7200, "2 hours ago"),
            (3 * 86400, "3 days ago"),
            (21 * 86400, "3 weeks ago"),
            (400 * 86400, "13 months ago"),
            (800 * 86400, "2 years ago"),
        ] {
            assert_eq!(age(seconds), expected);
        }
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("[2/2] RUN make all", 12), "[2/2] RUN m…");
        assert_eq!(cut("äöüß", 3), "äö…");
    }

    #[test]
    fn the_last_line_is_what_a_terminal_shows() {
        for (output, expected) in [
            ("one\ntwo\n", Some("two")),
            ("one\ntw", Some("tw")),
            (" 10%\r 20%\r", Some(" 20%")),
            ("\u{1b}[31mred\u{1b}[0m\ttab\n\n", Some("red tab")),
            ("\n \n", None),
            ("", None),
        ] {
            assert_eq!(last_line(output).as_deref(), expected, "{output:?}");
        }
    }
}
