//! Which of several processes does what.
//!
//! Every shard reads the same file and lists the same tags, and keeps what is its own: an image
//! belongs to the shard that the hash of its repository and of its line of versions names. That needs
//! no talk between them, and does not depend on what else is in the lists, so that the shards together
//! do everything once even when a tag appears between one's listing and another's.
//!
//! Why the line of versions and not the tag: `3.12`, `3.12.4` and `3.12.4-slim` share most of their
//! layers, which then cross once, in one process, and are mounted there. Why not the repository alone:
//! a mirror of one large repository would not be divided at all.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::image::{Reference, Repository, Tag};

/// One of several parts of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 1.
    index: u32,
    /// Of how many.
    count: NonZeroU32,
}

impl Shard {
    /// Returns the shard `index`, counted from 1, of `count`.
    ///
    /// # Errors
    ///
    /// A sentence when there is no such shard.
    pub fn new(index: u32, count: u32) -> Result<Self, String> {
        let wrong = || format!("there is no shard {index} of {count}: they count from 1");
        let count = NonZeroU32::new(count).ok_or_else(wrong)?;
        if index == 0 || index > count.get() { Err(wrong()) } else { Ok(Self { index, count }) }
    }

    /// Returns whether an image of this source is this shard's.
    #[must_use]
    pub fn has(self, source: &Reference) -> bool {
        let line = match (&source.tag, &source.digest) {
            (Some(tag), _) => line_of(tag),
            (None, Some(digest)) => digest.to_string(),
            (None, None) => String::new(),
        };
        self.is_named_by(&source.repository, &line)
    }

    /// Returns whether a tag that is to go from `repository` is this shard's.
    #[must_use]
    pub fn has_tag(self, repository: &Repository, tag: &Tag) -> bool {
        self.is_named_by(repository, &line_of(tag))
    }

    fn is_named_by(self, repository: &Repository, line: &str) -> bool {
        let hash = Sha256::digest(format!("{repository}\n{line}"));
        let (first, _) = hash.split_first_chunk().expect("the hash has 32 bytes");
        let number = u64::from_be_bytes(*first) % u64::from(self.count.get());
        number == u64::from(self.index - 1)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("`{text}` is not `INDEX/COUNT`, as in `1/3`");
        let (index, count) = text.split_once('/').ok_or_else(invalid)?;
        let number = |text: &str| text.trim().parse().map_err(|_| invalid());
        Self::new(number(index)?, number(count)?)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.index, self.count)
    }
}

/// Returns the line of versions that a tag belongs to: its first two numbers, or all of it.
fn line_of(tag: &Tag) -> String {
    let text = tag.as_str().strip_prefix(['v', 'V']).unwrap_or(tag.as_str());
    let core = text.split(['-', '_']).next().unwrap_or(text);
    let numbers: Vec<&str> = core.split('.').take(2).collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if numbers.iter().all(is_number) { numbers.join(".") } else { tag.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Vec<Reference> {
        let tags =
            (0..300).map(|n| format!("docker.io/library/a:{}.{}.{}", n / 100, n / 5 % 20, n % 5));
        let more = (0..50).map(|n| format!("quay.io/team/app-{n}:latest"));
        tags.chain(more).map(|text| text.parse().expect("a reference")).collect()
    }

    #[test]
    fn shards_are_exact_and_disjoint() {
        for count in [1, 2, 3, 7, 64] {
            let shards: Vec<Shard> =
                (1..=count).map(|index| Shard::new(index, count).expect("a shard")).collect();
            for source in sources() {
                let owners = shards.iter().filter(|shard| shard.has(&source)).count();
                assert_eq!(owners, 1, "{source} of {count}");
            }
        }
        // A large repository is divided, and evenly enough.
        let third = Shard::new(1, 3).expect("a shard");
        let mine = sources().iter().filter(|source| third.has(source)).count();
        assert!((60..180).contains(&mine), "{mine} of 350");
    }

    /// The division is part of what users rely on: shards of different versions of rpub may run side
    /// by side.
    #[test]
    fn the_division_stays_what_it_is() {
        let shard = Shard::new(2, 3).expect("a shard");
        let mine: Vec<String> = ["1.0", "1.1", "1.2", "1.3", "latest", "1.3-slim", "v1.3.9"]
            .into_iter()
            .filter(|tag| shard.has(&format!("r.example/a:{tag}").parse().expect("a reference")))
            .map(ToOwned::to_owned)
            .collect();
        assert_eq!(mine, ["1.0", "1.2"]);
    }

    #[test]
    fn lines_of_versions_stay_together() {
        let line = |tag: &str| line_of(&tag.parse().expect("a tag"));
        assert_eq!(line("3.12.4-slim"), "3.12");
        assert_eq!(line("v3.12"), "3.12");
        assert_eq!(line("3"), "3");
        assert_eq!(line("bookworm-slim"), "bookworm-slim");
        assert_eq!(line("20240101"), "20240101");
    }

    #[test]
    fn shards_are_read() {
        assert_eq!("2/3".parse::<Shard>().map(|shard| shard.to_string()), Ok("2/3".to_owned()));
        for text in ["", "1", "0/3", "4/3", "1/0", "a/b", "-1/3", "1/3/4"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
