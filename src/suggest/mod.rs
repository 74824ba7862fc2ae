//! "Did you mean": the known word nearest to an unknown one. Used by whatever reads words that people
//! write.

/// Farthest distance that still counts as a slip of the keyboard.
const MAX_DISTANCE: usize = 2;

/// Returns the known word nearest to `word`, if one is at most two edits away. The first of
/// equally near ones wins; casing counts.
#[must_use]
pub fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best = None;
    let mut nearest = MAX_DISTANCE + 1;
    for candidate in known {
        let distance = distance(word, candidate);
        if distance < nearest {
            nearest = distance;
            best = Some(candidate);
        }
    }
    best
}

/// Returns how many characters must be inserted, removed or replaced to get from `a` to `b`;
/// anything beyond 64 characters counts as far.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let a: Vec<char> = a.chars().take(65).collect();
    if a.len() > 64 || a.len().abs_diff(b.len()) > MAX_DISTANCE {
        return usize::MAX;
    }
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (row, from) in a.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, to) in b.iter().enumerate() {
            let replaced = previous[column] + usize::from(from != to);
            let shifted = previous[column + 1].min(current[column]) + 1;
            current.push(replaced.min(shifted));
        }
        previous = current;
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_word_is_found() {
        let known = ["from", "run", "copy", "add"];
        for (word, expected) in [
            ("fom", Some("from")),
            ("rnu", Some("run")),
            ("copi", Some("copy")),
            ("install", None),
            ("", None),
            ("éun", Some("run")),
        ] {
            assert_eq!(suggest(word, known), expected, "{word}");
        }
    }
}
