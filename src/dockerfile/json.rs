//! The JSON form of arguments.

use crate::dockerfile::error::{Error, ErrorKind};
use crate::dockerfile::lines::Slice;
use crate::dockerfile::source::Word;

/// Reads arguments in JSON form.
///
/// What is no JSON array is in shell form: none. An array with something else than strings in it
/// is an error.
pub(crate) fn strings(arguments: Slice<'_>) -> Result<Option<Vec<Word>>, Error> {
    let text = arguments.text();
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
        return Ok(None);
    };
    let mut literals = literals(text);
    let mut words = Vec::with_capacity(values.len());
    for value in values {
        let serde_json::Value::String(text) = value else {
            let message = "when using JSON array syntax, arrays must be comprised of strings only";
            return Err(Error::new(ErrorKind::BadArguments, message, arguments.span()));
        };
        let (start, end) = literals.next().unwrap_or((0, arguments.text().len()));
        words.push(Word { text, span: arguments.part(start, end).span() });
    }
    Ok(Some(words))
}

/// Finds the string literals of a JSON array of strings.
fn literals(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find('"')?;
        let mut escaped = false;
        for (offset, c) in text[start + 1..].char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    at = start + 1 + offset + 1;
                    return Some((start, at));
                }
                _ => {}
            }
        }
        None
    })
}
