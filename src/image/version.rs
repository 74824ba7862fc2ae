//! Versions in tags: what `1.10` and `v2.0.0-rc.1` mean when tags are put in order.

use std::cmp::Ordering;

/// The version that a tag names, in the order of Semantic Versioning 2.0, section 11.
///
/// Tags are freer than the specification: a leading `v` is allowed, and numbers may be missing at the
/// end or be more than three. A missing number counts as zero, so that `1.2` and `1.2.0` are equal.
///
/// ```
/// use rpub::image::Version;
/// let version = |tag| Version::parse(tag).unwrap();
/// assert!(version("v1.9") < version("1.10.0-rc.1"));
/// assert!(version("1.10.0-rc.1") < version("1.10"));
/// assert!(Version::parse("latest").is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: Vec<u64>,
    /// The identifiers after the hyphen; none for a release.
    before: Vec<String>,
}

impl Version {
    /// Reads the version in a tag; `None` when there is none.
    #[must_use]
    pub fn parse(tag: &str) -> Option<Self> {
        let text = tag.strip_prefix(['v', 'V']).unwrap_or(tag);
        let (core, before) = match text.split_once('-') {
            Some((core, before)) => (core, before.split('.').map(ToOwned::to_owned).collect()),
            None => (text, Vec::new()),
        };
        let number = |part: &str| {
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| part.parse().ok()).flatten()
        };
        let mut numbers = core.split('.').map(number).collect::<Option<Vec<u64>>>()?;
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        Some(Self { numbers, before })
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let release = || match (self.before.is_empty(), other.before.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let pairs = self.before.iter().zip(&other.before);
                let differing = pairs.map(|(a, b)| identifiers(a, b)).find(|order| order.is_ne());
                differing.unwrap_or_else(|| self.before.len().cmp(&other.before.len()))
            }
        };
        self.numbers.cmp(&other.numbers).then_with(release)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Numbers come before words, and are compared as numbers.
fn identifiers(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

/// Compares two tags: those that are no version first, by name; then by version, and equal versions
/// by name.
#[must_use]
pub fn by_version(a: &str, b: &str) -> Ordering {
    Version::parse(a).cmp(&Version::parse(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_in_the_order_of_their_versions() {
        let expected = [
            "latest",
            "stable-slim",
            "0.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1",
            "1.0.0",
            "v1.0",
            "1.0.0.1",
            "1.2.3",
            "1.10",
            "20240101",
        ];
        let mut tags = expected;
        tags.reverse();
        tags.sort_by(|a, b| by_version(a, b));
        assert_eq!(tags, expected);
        // Too large for a number: no version.
        assert!(Version::parse("99999999999999999999").is_none());
        assert!(Version::parse("1..2").is_none());
        assert!(Version::parse("v").is_none());
    }
}
