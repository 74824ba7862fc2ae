//! Wildcards of source arguments: one path component at a time, by the rules of Go's
//! `filepath.Match`, which the Dockerfile reference names for COPY.

/// Returns whether `component` has a wildcard. A backslash takes the next character's meaning.
pub(super) fn has_wildcard(component: &[u8]) -> bool {
    let mut bytes = component.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// A part of a pattern that stands for one character, or for any number of them.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Exactly(u32),
    Class { ranges: Vec<(u32, u32)>, negated: bool },
}

/// A pattern of one path component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Part>);

impl Pattern {
    /// Returns the pattern that `text` spells, or `None` where Go has a syntax error.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut rest = text;
        let mut parts = Vec::new();
        while let Some(first) = rest.first() {
            let part = match first {
                b'*' => (Part::Any, &rest[1..]),
                b'?' => (Part::One, &rest[1..]),
                b'[' => class(&rest[1..])?,
                _ => {
                    let (character, next) = literal(rest)?;
                    (Part::Exactly(character), next)
                }
            };
            parts.push(part.0);
            rest = part.1;
        }
        Some(Self(parts))
    }

    /// Returns whether the whole of `name` fits. Takes time proportional to the product of both
    /// lengths at worst.
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        let (mut part, mut at) = (0, 0);
        // Where to go on if what follows the last `*` does not fit: let the `*` take one more.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            if part == self.0.len() && at == name.len() {
                return true;
            }
            if let Some(Part::Any) = self.0.get(part) {
                retry = Some((part, at));
                part += 1;
                continue;
            }
            if let (Some(wanted), true) = (self.0.get(part), at < name.len()) {
                let (character, length) = decode(&name[at..]);
                if wanted.fits(character) {
                    part += 1;
                    at += length;
                    continue;
                }
            }
            match retry {
                Some((star, taken)) if taken < name.len() => {
                    let taken = taken + decode(&name[taken..]).1;
                    retry = Some((star, taken));
                    (part, at) = (star + 1, taken);
                }
                _ => return false,
            }
        }
    }
}

impl Part {
    fn fits(&self, character: u32) -> bool {
        match self {
            Self::Any => false,
            Self::One => true,
            Self::Exactly(wanted) => *wanted == character,
            Self::Class { ranges, negated } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) != *negated
            }
        }
    }
}

/// Reads a class after its `[`.
fn class(mut rest: &[u8]) -> Option<(Part, &[u8])> {
    let negated = rest.first() == Some(&b'^');
    if negated {
        rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    loop {
        if rest.first() == Some(&b']') && !ranges.is_empty() {
            return Some((Part::Class { ranges, negated }, &rest[1..]));
        }
        let (low, next) = class_member(rest)?;
        rest = next;
        let mut high = low;
        if rest.first() == Some(&b'-') {
            (high, rest) = class_member(&rest[1..])?;
        }
        ranges.push((low, high));
        if rest.is_empty() {
            return None;
        }
    }
}

fn class_member(rest: &[u8]) -> Option<(u32, &[u8])> {
    if matches!(rest.first(), None | Some(b'-' | b']')) {
        return None;
    }
    literal(rest)
}

/// Reads one character, escaped or not.
fn literal(rest: &[u8]) -> Option<(u32, &[u8])> {
    let rest = if rest.first() == Some(&b'\\') { &rest[1..] } else { rest };
    if rest.is_empty() {
        return None;
    }
    let (character, length) = decode(rest);
    Some((character, &rest[length..]))
}

/// Returns the first character of the non-empty `bytes` and its length; a byte that is not UTF-8
/// counts as one character, beyond all real ones, so that it only fits itself.
fn decode(bytes: &[u8]) -> (u32, usize) {
    for length in 1..=bytes.len().min(4) {
        if let Ok(text) = std::str::from_utf8(&bytes[..length]) {
            return (text.chars().next().map_or(0, u32::from), length);
        }
    }
    (0x11_0000 + u32::from(bytes[0]), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_go_does() {
        let cases = [
            ("*", "anything", true),
            ("*", ".hidden", true),
            ("*.txt", "a.txt", true),
            ("*.txt", "a.txt.gz", false),
            ("a*b*c", "axxbxxbc", true),
            ("a*b*c", "axxbxxb", false),
            ("?", "é", true),
            ("?", "ab", false),
            ("[a-c]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[^a-c]x", "dx", true),
            ("[^a-c]x", "ax", false),
            ("arr[[]0].txt", "arr[0].txt", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[\\-a]", "-", true),
            ("", "", true),
            ("*", "", true),
        ];
        for (pattern, name, expected) in cases {
            let parsed = Pattern::parse(pattern.as_bytes()).unwrap();
            assert_eq!(parsed.matches(name.as_bytes()), expected, "{pattern} on {name}");
        }
        assert!(Pattern::parse(b"?").unwrap().matches(b"\xff"));
    }

    #[test]
    fn refuses_what_go_refuses() {
        for pattern in ["[", "[a", "[]a]", "[-]", "[a-]", "a\\", "[^]"] {
            assert_eq!(Pattern::parse(pattern.as_bytes()), None, "{pattern}");
        }
    }

    #[test]
    fn a_backslash_hides_a_wildcard() {
        assert!(has_wildcard(b"a*") && has_wildcard(b"a?") && has_wildcard(b"[a]"));
        assert!(!has_wildcard(b"a\\*") && !has_wildcard(b"plain"));
    }
}
