//! One line for one file of a layer, the form of goldens and of the bases' files.
//!
//! ```text
//! d 0755 0:0 app                      a directory
//! f 0644 0:0 app/x "hello\n" @context a file, its content or `SIZE:DIGEST`, its time
//! l 0:0 app/link -> x                 a symbolic link
//! h app/other => app/x                a hard link
//! p 0644 0:0 app/pipe                 a fifo (`c` and `b` are devices)
//! x app/gone                          a whiteout
//! o app                               an opaque whiteout: nothing below shows
//! ```
//!
//! Extended attributes stand behind as `[user.name="value"]`. A word with blanks, quotes or control
//! characters is a JSON string.

use std::collections::BTreeMap;
use std::fmt;

/// What a line is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    /// With the content as it is shown.
    File(String),
    Symlink(String),
    Hardlink(String),
    /// `p`, `c` or `b`.
    Special(char),
    Whiteout,
    Opaque,
}

/// One file of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) owner: (u64, u64),
    pub(super) xattrs: BTreeMap<String, String>,
    /// `@context`, `@base`, a date, or nothing for the time of the build.
    pub(super) time: String,
}

impl Entry {
    /// Reads a line.
    ///
    /// # Panics
    /// When it is not of the form above.
    pub(super) fn parse(line: &str) -> Self {
        let mut rest = line.trim();
        let kind = word(&mut rest);
        let has_mode = matches!(kind.as_str(), "d" | "f" | "p" | "c" | "b");
        let mode = has_mode.then(|| u32::from_str_radix(&word(&mut rest), 8).unwrap());
        let has_owner = has_mode || kind == "l";
        let owner = has_owner.then(|| {
            let (uid, gid) = rest.split_once(' ').unwrap().0.split_once(':').unwrap();
            (uid.parse().unwrap(), gid.parse().unwrap())
        });
        if has_owner {
            word(&mut rest);
        }
        let path = word(&mut rest);
        let mut target = |arrow: &str| {
            assert_eq!(word(&mut rest), arrow, "{line}");
            word(&mut rest)
        };
        let kind = match kind.as_str() {
            "d" => Kind::Directory,
            "f" => Kind::File(content(&mut rest)),
            "l" => Kind::Symlink(target("->")),
            "h" => Kind::Hardlink(target("=>")),
            "x" => Kind::Whiteout,
            "o" => Kind::Opaque,
            "p" | "c" | "b" => Kind::Special(kind.chars().next().unwrap()),
            _ => panic!("no such kind of file: {line}"),
        };
        let mut entry = Self {
            path,
            kind,
            mode: mode.unwrap_or(0),
            owner: owner.unwrap_or_default(),
            xattrs: BTreeMap::new(),
            time: String::new(),
        };
        while let Some(inner) = rest.strip_prefix('[') {
            let (name, value) = inner.split_once('=').unwrap();
            rest = value;
            let value = content(&mut rest);
            rest = rest.strip_prefix(']').unwrap_or_else(|| panic!("no `]`: {line}")).trim_start();
            entry.xattrs.insert(name.to_owned(), value);
        }
        rest.clone_into(&mut entry.time);
        entry
    }

    /// Returns what a file holds whose content the line shows.
    pub(super) fn bytes(&self) -> Vec<u8> {
        match &self.kind {
            Kind::File(shown) => {
                serde_json::from_str::<String>(shown).expect("the content is shown").into_bytes()
            }
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mode, (uid, gid), path) = (self.mode, self.owner, quoted(&self.path));
        match &self.kind {
            Kind::Directory => write!(f, "d {mode:04o} {uid}:{gid} {path}"),
            Kind::File(content) => write!(f, "f {mode:04o} {uid}:{gid} {path} {content}"),
            Kind::Symlink(target) => write!(f, "l {uid}:{gid} {path} -> {}", quoted(target)),
            Kind::Hardlink(target) => write!(f, "h {path} => {}", quoted(target)),
            Kind::Special(kind) => write!(f, "{kind} {mode:04o} {uid}:{gid} {path}"),
            Kind::Whiteout => write!(f, "x {path}"),
            Kind::Opaque => write!(f, "o {path}"),
        }?;
        for (name, value) in &self.xattrs {
            write!(f, " [{name}={value}]")?;
        }
        if !self.time.is_empty() {
            write!(f, " {}", self.time)?;
        }
        Ok(())
    }
}

/// Shows what a file holds: short text as it is, all else by size and digest.
pub(super) fn shown(bytes: &[u8]) -> String {
    const LONGEST: usize = 200;
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= LONGEST => serde_json::to_string(text).unwrap(),
        _ => {
            let digest = crate::context::digest_of(bytes);
            format!("{}:{}", bytes.len(), &digest["sha256:".len()..][..16])
        }
    }
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !"\"\\".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        serde_json::to_string(word).unwrap()
    }
}

/// Takes a word off the front, and the blanks after it.
fn word(rest: &mut &str) -> String {
    if rest.starts_with('"') {
        return serde_json::from_str(&content(rest)).unwrap();
    }
    let (word, after) = rest.split_once(' ').unwrap_or((*rest, ""));
    *rest = after.trim_start();
    word.to_owned()
}

/// Takes a JSON string, as it stands, or a plain word off the front.
fn content(rest: &mut &str) -> String {
    if !rest.starts_with('"') {
        return word(rest);
    }
    let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<String>();
    stream.next().unwrap().unwrap();
    let (string, after) = rest.split_at(stream.byte_offset());
    *rest = after.trim_start();
    string.to_owned()
}
