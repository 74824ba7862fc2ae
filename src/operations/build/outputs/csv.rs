//! The comma-separated values that docker's flags are written in (RFC 4180, as Go reads it).

/// Splits one line into its fields: a field in double quotes may contain commas, and double quotes
/// written twice.
pub(super) fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_field(quoted)?
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if rest[..end].contains('"') {
                return Err("a bare \" in a field that does not start with a quote".to_owned());
            }
            (rest[..end].to_owned(), &rest[end..])
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err("something follows the closing quote of a field".to_owned()),
        }
    }
}

/// Reads up to the closing quote; returns the field and what follows it.
fn quoted_field(text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let Some(end) = rest.find('"') else {
            return Err("a quote is not closed".to_owned());
        };
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_quotes() {
        for (text, expected) in [
            ("a", Ok(vec!["a"])),
            ("a,b=c", Ok(vec!["a", "b=c"])),
            (r#""a,b",c"#, Ok(vec!["a,b", "c"])),
            (r#""a""b""#, Ok(vec![r#"a"b"#])),
            ("a,", Ok(vec!["a", ""])),
            (r#""a"#, Err(())),
            (r#"a"b"#, Err(())),
            (r#""a"b"#, Err(())),
        ] {
            let expected: Result<Vec<String>, ()> =
                expected.map(|fields| fields.into_iter().map(str::to_owned).collect());
            assert_eq!(fields(text).map_err(|_| ()), expected, "{text}");
        }
    }
}
