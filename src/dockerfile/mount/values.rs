//! The forms of values inside a `--mount`.

/// Splits a line of comma-separated values; quotes around a field protect commas (RFC 4180).
pub(super) fn csv(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            let field = &rest[..end];
            if field.contains('"') {
                return Err("failed to parse csv mounts: bare \" in non-quoted field".to_owned());
            }
            fields.push(field.to_owned());
            match rest.get(end + 1..) {
                Some(next) => rest = next,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        let mut chars = quoted.char_indices().peekable();
        let end = loop {
            match chars.next() {
                Some((_, '"')) if chars.next_if(|(_, c)| *c == '"').is_some() => field.push('"'),
                Some((at, '"')) => break at,
                Some((_, c)) => field.push(c),
                None => {
                    return Err("failed to parse csv mounts: missing closing quote".to_owned());
                }
            }
        };
        fields.push(field);
        match quoted[end + 1..].strip_prefix(',') {
            Some(next) => rest = next,
            None if quoted.len() == end + 1 => return Ok(fields),
            None => {
                return Err("failed to parse csv mounts: text after a closing quote".to_owned());
            }
        }
    }
}

/// Reads a size: a number and a unit of powers of 1024 (`64m`, `1GiB`).
pub(super) fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let power = match unit.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    let scale = 1_u64 << (10 * power);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    // More than twelve places say nothing below a byte.
    let fraction = &fraction[..fraction.len().min(12)];
    let part = match fraction {
        "" => 0,
        _ => u128::from(fraction.parse::<u64>().ok()?) * u128::from(scale) / power_of_ten(fraction),
    };
    whole.checked_add(u64::try_from(part).ok()?)
}

fn power_of_ten(fraction: &str) -> u128 {
    fraction.bytes().fold(1, |power, _| power * 10)
}
