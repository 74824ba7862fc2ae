//! Ranges of versions, in the words that npm, cargo and Helm share: `>=1.2 <2`, `^1.4`, `~3.18`,
//! `1.2 - 1.6`, `2.x`, `1 || 3`.
//!
//! As with those, a pre-release (`1.2.0-rc.1`; and by their form also tags such as `1.2-alpine`) is
//! only in a range one of whose limits is a pre-release.

use std::fmt;

use crate::image::Version;

/// Longest range that is read.
const MAX_LENGTH: usize = 512;

/// A range of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRange {
    text: String,
    /// One of these lists must hold, each of them whole.
    alternatives: Vec<Vec<Comparator>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Comparator {
    operator: Operator,
    limit: Limit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Tilde,
    Caret,
}

const OPERATORS: [(&str, Operator); 12] = [
    ("", Operator::Equal),
    ("=", Operator::Equal),
    ("==", Operator::Equal),
    ("!=", Operator::Unequal),
    (">", Operator::Greater),
    (">=", Operator::GreaterOrEqual),
    ("=>", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    ("<=", Operator::LessOrEqual),
    ("=<", Operator::LessOrEqual),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
];

/// A version whose last numbers may be missing: it then stands for all that begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Limit {
    /// The numbers that are given, at most three.
    numbers: Vec<u64>,
    pre_release: Option<String>,
}

impl VersionRange {
    /// Parses a range.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("a range of versions has at most {MAX_LENGTH} characters"));
        }
        let alternatives = text.split("||").map(comparators).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), alternatives })
    }

    /// Returns whether a tag is a version of at most three numbers and in the range.
    #[must_use]
    pub fn matches(&self, tag: &str) -> bool {
        let core = tag.split_once('-').map_or(tag, |(core, _)| core);
        if core.split('.').count() > 3 {
            return false;
        }
        let Some(version) = Version::parse(tag) else { return false };
        let is_pre_release = tag.contains('-');
        self.alternatives.iter().any(|all| {
            let is_open = !is_pre_release || all.iter().any(|it| it.limit.pre_release.is_some());
            is_open && all.iter().all(|comparator| comparator.holds(&version))
        })
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Reads comparators that must all hold, with blanks or commas between them.
fn comparators(text: &str) -> Result<Vec<Comparator>, String> {
    if let Some((from, to)) = text.split_once(" - ") {
        let one =
            |operator, text: &str| limit(text.trim()).map(|limit| Comparator { operator, limit });
        return Ok(vec![one(Operator::GreaterOrEqual, from)?, one(Operator::LessOrEqual, to)?]);
    }
    let is_gap = |c: char| c.is_whitespace() || c == ',';
    let is_sign = |c: char| "<>=!~^".contains(c);
    let mut rest = text.trim_matches(is_gap);
    let mut found = Vec::new();
    while !rest.is_empty() {
        let signs = rest.find(|c| !is_sign(c)).unwrap_or(rest.len());
        let (operator, after) = rest.split_at(signs);
        let after = after.trim_start();
        let end = after.find(|c| is_gap(c) || is_sign(c)).unwrap_or(after.len());
        let (version, after) = after.split_at(end);
        // Ruby's word for a tilde.
        let operator = if operator == "~>" { "~" } else { operator };
        let known = OPERATORS.iter().find(|(sign, _)| *sign == operator);
        let (_, operator) = known.ok_or_else(|| format!("`{operator}` compares no versions"))?;
        found.push(Comparator { operator: *operator, limit: limit(version)? });
        rest = after.trim_start_matches(is_gap);
    }
    if found.is_empty() {
        return Err("a range of versions is empty; `*` stands for all".to_owned());
    }
    Ok(found)
}

fn limit(text: &str) -> Result<Limit, String> {
    let invalid = || format!("`{text}` is no version such as 1.2.3");
    let bare = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let bare = bare.split_once('+').map_or(bare, |(version, _)| version);
    let (core, pre_release) = match bare.split_once('-') {
        Some((core, pre_release)) => (core, Some(pre_release.to_owned())),
        None => (bare, None),
    };
    let mut numbers = Vec::new();
    for part in core.split('.') {
        if matches!(part, "x" | "X" | "*") {
            break;
        }
        numbers.push(part.parse().map_err(|_| invalid())?);
    }
    if numbers.len() > 3 || core.split('.').count() > 3 {
        return Err(invalid());
    }
    Ok(Limit { numbers, pre_release })
}

impl Limit {
    /// Returns the lowest version that the limit stands for.
    fn floor(&self) -> Version {
        version(&self.numbers, self.pre_release.as_deref())
    }

    /// Returns the first version above all that begin with the first `count` numbers; `None` when
    /// that is no number.
    fn above(&self, count: usize) -> Option<Version> {
        let mut numbers = self.numbers.get(..count)?.to_vec();
        let last = numbers.last_mut()?;
        *last = last.checked_add(1)?;
        Some(version(&numbers, None))
    }

    fn is_whole(&self) -> bool {
        self.numbers.len() == 3
    }
}

impl Comparator {
    fn holds(&self, version: &Version) -> bool {
        let Self { operator, limit } = self;
        let count = limit.numbers.len();
        // `*`, and every range with it, is all there is.
        if count == 0 {
            return !matches!(operator, Operator::Unequal | Operator::Greater | Operator::Less);
        }
        let floor = limit.floor();
        let is_below = |count: usize| limit.above(count).is_none_or(|above| *version < above);
        let is_within = |count: usize| *version >= floor && is_below(count);
        match operator {
            Operator::Equal if limit.is_whole() => *version == floor,
            Operator::Equal => is_within(count),
            Operator::Unequal if limit.is_whole() => *version != floor,
            Operator::Unequal => !is_within(count),
            Operator::Greater if limit.is_whole() => *version > floor,
            Operator::Greater => !is_below(count),
            Operator::GreaterOrEqual => *version >= floor,
            Operator::Less => *version < floor,
            Operator::LessOrEqual if limit.is_whole() => *version <= floor,
            Operator::LessOrEqual => is_below(count),
            Operator::Tilde => is_within(count.min(2)),
            Operator::Caret => {
                // Up to the first number that is not zero, or the last one given.
                let leading = limit.numbers.iter().take_while(|number| **number == 0).count();
                is_within((leading + 1).min(count))
            }
        }
    }
}

fn version(numbers: &[u64], pre_release: Option<&str>) -> Version {
    let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
    let text = match pre_release {
        Some(pre_release) => format!("{}-{pre_release}", numbers.join(".")),
        None => numbers.join("."),
    };
    Version::parse(&text).expect("numbers with dots between them are a version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_say() {
        for (range, yes, no) in [
            (">= 3.12.0", "3.12.0 3.12 4 v3.13.1", "3.11.9 3.13.0-rc.1 latest 3.12.0.1"),
            (">=1.2,<2", "1.2 1.9.9", "2 2.0.0 1.1"),
            (">=1.2 <2 !=1.5.0", "1.4.9 1.5.1", "1.5.0"),
            ("^1.4", "1.4 1.99", "2.0 1.3"),
            ("^0.2.3", "0.2.3 0.2.9", "0.3.0 0.2.2"),
            ("^0.0.3", "0.0.3", "0.0.4 0.0.2"),
            ("^0", "0.9", "1.0"),
            ("~3.18", "3.18 3.18.9", "3.19 3.17"),
            ("~3", "3.0 3.99", "4"),
            ("~1.2.3", "1.2.3 1.2.9", "1.3.0 1.2.2"),
            ("~> 1.2.3", "1.2.4", "1.3"),
            ("1.2", "1.2 1.2.7", "1.3"),
            ("=1.2.3", "1.2.3", "1.2.4"),
            ("2.x", "2.0 2.9.9", "3 1"),
            ("*", "1 9.9.9", "latest 1-rc"),
            ("1.2 - 1.6", "1.2 1.6.9", "1.7 1.1"),
            ("1 || 3", "1.5 3.5", "2.5"),
            (">1.2", "1.3", "1.2.9 1.2"),
            ("<=1.2", "1.2.9", "1.3"),
            (">=1.2.0-rc.1", "1.2.0-rc.2 1.2.0 1.3.0-beta", "1.2.0-beta"),
        ] {
            let range = VersionRange::parse(range).unwrap_or_else(|error| panic!("{error}"));
            for tag in yes.split(' ') {
                assert!(range.matches(tag), "{tag} is in {range}");
            }
            for tag in no.split(' ') {
                assert!(!range.matches(tag), "{tag} is not in {range}");
            }
        }
    }

    #[test]
    fn what_is_no_range_is_said() {
        for (range, expected) in [
            ("", "a range of versions is empty"),
            ("1 ||", "a range of versions is empty"),
            ("newest", "`newest` is no version"),
            ("><1", "`><` compares no versions"),
            ("1.2.3.4", "`1.2.3.4` is no version"),
            (">", "`` is no version"),
        ] {
            let error = VersionRange::parse(range).err().unwrap_or_default();
            assert!(error.contains(expected), "{range}: {error}");
        }
        assert!(VersionRange::parse(&"1 ".repeat(1000)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[0-9v.x*<>=~^|, -]{0,24}", tag in "[0-9v.a-]{0,12}") {
            if let Ok(range) = VersionRange::parse(&text) {
                let _ = range.matches(&tag);
            }
        }
    }
}
