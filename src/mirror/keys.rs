//! The keys of a mirror file: one table, by which files are read, and which the schema is made of.

use std::ops::Range;

use super::Error;
use super::node::{Entry, Node, Value};
use crate::suggest::suggest;

/// One key: its name, what its value is, and what it is for.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) about: &'static str,
}

/// What a value is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A text.
    Text,
    /// A text or a list of texts.
    Texts,
    /// True or false.
    Flag,
    /// A number, from 1.
    Count,
    /// One of some words.
    Word(&'static [&'static str]),
    /// The number of the format.
    Version(u64),
    /// A table of keys.
    Table(&'static [Key]),
    /// A list of tables of keys.
    Tables(&'static [Key]),
}

const fn key(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, about }
}

/// The newest version of the format.
pub(super) const VERSION: u64 = 1;

/// The keys of the file.
pub(super) const FILE: &[Key] = &[
    key("version", Kind::Version(VERSION), "The version of the format"),
    key("defaults", Kind::Table(DEFAULTS), "What holds for every rule that does not say otherwise"),
    key("rules", Kind::Tables(RULE), "What is copied, and where to"),
];

const TO: Key = key(
    "to",
    Kind::Texts,
    "Where images go: references, with {registry}, {repository}, {name} and {tag} of the source",
);
const EXCLUDE: Key =
    key("exclude", Kind::Texts, "Tags that are left out, unless named whole in `tags`");
const PLATFORMS: Key = key(
    "platforms",
    Kind::Texts,
    "Copy only these platforms: one gives its image, several a smaller index; all without it",
);
const REFERRERS: Key = key(
    "referrers",
    Kind::Flag,
    "Copy what refers to an image, such as signatures; true without it",
);
const DIGEST_TAGS: Key = key(
    "digest-tags",
    Kind::Flag,
    "Copy the tags that cosign makes of an image's digest; true without it",
);
const IMMUTABLE: Key = key(
    "immutable",
    Kind::Texts,
    "Tags that never change: once copied, no registry is asked about them again",
);

/// The keys of the defaults.
pub(super) const DEFAULTS: &[Key] = &[TO, EXCLUDE, PLATFORMS, REFERRERS, DIGEST_TAGS, IMMUTABLE];

/// The keys of a rule.
pub(super) const RULE: &[Key] = &[
    key("name", Kind::Text, "What the rule is called in reports"),
    key(
        "from",
        Kind::Text,
        "An image, a repository, or the repositories of a registry by a glob: registry.example/team/**",
    ),
    key("repositories", Kind::Texts, "Which repositories of the registry: names, globs, /regex/"),
    key("exclude-repositories", Kind::Texts, "Which repositories of the registry are left out"),
    TO,
    key("tags", Kind::Texts, "Which tags: names, globs, /regex/; all without it. Or digests"),
    EXCLUDE,
    key("semver", Kind::Text, "Of the tags that are not named whole, only versions in this range"),
    key(
        "latest",
        Kind::Count,
        "Of the tags that are not named whole, only so many highest versions",
    ),
    PLATFORMS,
    REFERRERS,
    DIGEST_TAGS,
    IMMUTABLE,
    key(
        "delete",
        Kind::Word(&["extra"]),
        "Remove tags of the destination that are not among those copied; only when confirmed",
    ),
];

/// A table of keys as it is in a file, each key known.
pub(super) struct Fields<'a> {
    entries: &'a [Entry],
}

impl<'a> Fields<'a> {
    /// Checks that all keys of `node` are in `keys`.
    pub(super) fn new(node: &'a Node, what: &str, keys: &[Key]) -> Result<Self, Error> {
        let entries = node.entries(what)?;
        for entry in entries {
            if !keys.iter().any(|key| key.name == entry.name) {
                return Err(unknown(entry, keys.iter().map(|key| key.name)));
            }
        }
        Ok(Self { entries })
    }

    /// Returns the value of a key that is there.
    pub(super) fn get(&self, name: &str) -> Option<&'a Node> {
        let found = self.entries.iter().find(|entry| entry.name == name);
        found.map(|entry| &entry.node).filter(|node| node.value != Value::Null)
    }

    /// Returns where a key stands.
    pub(super) fn span(&self, name: &str) -> Option<&'a Range<usize>> {
        let found = self.entries.iter().find(|entry| entry.name == name);
        found.map(|entry| &entry.name_span)
    }

    /// Returns a truth value.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        self.get(name).map(|node| node.flag(name)).transpose()
    }
}

/// Returns the error for a key that is not known.
pub(super) fn unknown<'a>(entry: &Entry, known: impl Iterator<Item = &'a str> + Clone) -> Error {
    let error = Error::new(format!("unknown key `{}`", entry.name), &entry.name_span);
    // Other tools write keys with capitals or underscores inside.
    let plain = |name: &str| name.to_lowercase().replace(['_', '-'], "");
    let wanted = plain(&entry.name);
    let near = known.clone().find(|name| plain(name) == wanted);
    match near.or_else(|| suggest(&entry.name, known.clone())) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("known here: {}", known.collect::<Vec<_>>().join(", "))),
    }
}
