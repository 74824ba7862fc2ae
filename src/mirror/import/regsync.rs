//! regsync's files (regclient, docs/regsync.md, "Configuration File").

use std::ops::Range;

use super::go::Scope;
use super::{FileReader, file, flag, map, texts, warn};
use crate::image::Reference;
use crate::mirror::keys::unknown;
use crate::mirror::node::{Entry, Node, Value};
use crate::mirror::{Error, Warning};

/// What is said about a key that is not taken over: of defaults and of entries of `sync`.
const NOT_TAKEN: [(&str, &str); 14] = [
    ("backup", "an image that is replaced is not kept under another tag"),
    ("interval", "run `rpub mirror` by a timer"),
    ("schedule", "run `rpub mirror` by a timer"),
    ("ratelimit", "rpub stops at a registry's quota, says when it lifts, and goes on next time"),
    ("parallel", "give `--concurrency`"),
    ("referrerFilters", "all that refers to an image is copied, or nothing"),
    ("forceRecursive", "what is there already is not copied again"),
    ("includeExternal", "layers that are kept elsewhere stay there"),
    ("fastCheck", "images are compared by `HEAD` in any case"),
    ("mediaTypes", "images and indexes of every known type are copied"),
    ("hooks", "no programs are run"),
    ("skipDockerConfig", "give `--authfile`"),
    ("userAgent", "give `--user-agent-prefix`"),
    ("cacheCount", "it has no meaning here"),
];
const MORE_DEFAULTS: [&str; 2] = ["cacheTime", "blobLimit"];

/// The keys of an entry of `sync` that are taken over.
const SYNC: [&str; 10] = [
    "source",
    "target",
    "type",
    "tags",
    "tagSets",
    "repos",
    "platform",
    "platforms",
    "referrers",
    "digestTags",
];

/// Translates a file.
pub(in crate::mirror) fn regsync(
    root: &Node,
    files: FileReader<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<Node, Error> {
    let mut rules = Vec::new();
    let mut defaults = &Node::new(Value::Null, &(0..0));
    for entry in root.entries("the file")? {
        match entry.name.as_str() {
            "version" if entry.node.as_scalar() == Some("1") => {}
            "version" => return Err(entry.node.expected("version", "1, as regsync has it")),
            "creds" => {
                for registry in entry.node.items("creds")? {
                    credentials(registry, warnings)?;
                }
            }
            "defaults" => defaults = &entry.node,
            "sync" => {}
            name if name.starts_with("x-") => {}
            _ => return Err(unknown(entry, ["version", "creds", "defaults", "sync"].into_iter())),
        }
    }
    for entry in defaults.entries("defaults")? {
        let is_taken = ["referrers", "digestTags"].contains(&entry.name.as_str());
        if !is_taken && !entry.name.starts_with("x-") {
            let known = NOT_TAKEN.iter().map(|(name, _)| *name).chain(MORE_DEFAULTS);
            not_taken(entry, known.chain(["referrers", "digestTags"]), warnings)?;
        }
    }
    for sync in root.get("sync").map(|node| node.items("sync")).transpose()?.unwrap_or_default() {
        Step { node: sync, defaults, files }.rules(&mut rules, warnings)?;
    }
    Ok(file(Vec::new(), rules, &root.span))
}

/// Says what is not taken over, and what to do instead.
fn not_taken<'a>(
    entry: &Entry,
    known: impl Iterator<Item = &'a str> + Clone,
    warnings: &mut Vec<Warning>,
) -> Result<(), Error> {
    if !known.clone().any(|name| name == entry.name) {
        return Err(unknown(entry, known));
    }
    let advice = NOT_TAKEN.iter().find(|(name, _)| *name == entry.name);
    let advice = advice.map_or("it has no meaning here", |(_, advice)| advice);
    let message = format!("`{}` is not taken over: {advice}", entry.name);
    // Said once for all the entries that have it.
    if !warnings.iter().any(|warning| warning.message == message) {
        warn(warnings, &entry.name_span, message);
    }
    Ok(())
}

/// Says what to do about one registry of `creds`. No value of it is looked at but for how it is
/// reached.
fn credentials(node: &Node, warnings: &mut Vec<Warning>) -> Result<(), Error> {
    let host = node.get("registry").and_then(Node::as_scalar).unwrap_or("REGISTRY");
    for entry in node.entries("creds")? {
        let advice = match (entry.name.as_str(), entry.node.as_scalar()) {
            ("registry" | "credExpire" | "credHost" | "repoAuth" | "priority", _)
            | ("tls", Some("enabled")) => continue,
            ("user" | "pass" | "token" | "credHelper", _) => {
                format!("log in with `rpub login {host}`")
            }
            ("tls", Some("disabled")) => format!("give `--plain-http {host}`"),
            ("tls", _) => format!("give `--skip-tls-verify {host}`"),
            ("regcert", _) => "give the certificate in a file with `--ca-file`".to_owned(),
            ("hostname", _) => format!("say where `{host}` is with `--resolve`"),
            ("mirrors" | "pathPrefix", _) => "name mirrors in `registries.conf`".to_owned(),
            ("reqPerSec" | "reqConcurrent", _) => {
                "rpub finds out what the registry takes; `--concurrency` bounds it".to_owned()
            }
            _ => "it has no meaning here".to_owned(),
        };
        let message = format!("`{}` of `{host}` is not taken over: {advice}", entry.name);
        let is_said = |warning: &Warning| {
            warning.message.ends_with(&advice) && warning.message.contains(host)
        };
        if !warnings.iter().any(is_said) {
            warn(warnings, &entry.name_span, message);
        }
    }
    Ok(())
}

/// One entry of `sync`.
struct Step<'a> {
    node: &'a Node,
    defaults: &'a Node,
    files: FileReader<'a>,
}

impl Step<'_> {
    fn rules(&self, rules: &mut Vec<Node>, warnings: &mut Vec<Warning>) -> Result<(), Error> {
        for entry in self.node.entries("sync")? {
            let is_taken = SYNC.contains(&entry.name.as_str()) || entry.name.starts_with("x-");
            if !is_taken {
                let known = SYNC.into_iter().chain(NOT_TAKEN.iter().map(|(name, _)| *name));
                not_taken(entry, known, warnings)?;
            }
        }
        let (from, to, is_image) = self.places()?;
        let mut common = vec![from, to];
        let platforms = self.node.get("platforms").or_else(|| self.node.get("platform"));
        common.extend(platforms.map(|node| Entry::new("platforms", node.clone())));
        common.extend(self.repositories()?);
        let sets = match self.node.get("tagSets").filter(|_| !is_image) {
            Some(node) => node.items("tagSets")?.iter().collect(),
            None => vec![],
        };
        let own = self.node.get("tags").filter(|_| !is_image);
        let sets: Vec<Option<&Node>> = match (own, sets.as_slice()) {
            (None, []) => vec![None],
            (own, sets) => own.into_iter().chain(sets.iter().copied()).map(Some).collect(),
        };
        for set in sets {
            let mut entries = common.clone();
            let chosen = set.map(choice).transpose()?.unwrap_or_default();
            // Without a choice regsync copies these like all other tags.
            let takes_all = !is_image && !chosen.iter().any(|entry| entry.name != "exclude");
            entries.extend(chosen);
            entries.push(self.flag("referrers", "referrers", false)?);
            entries.push(self.flag("digestTags", "digest-tags", takes_all)?);
            rules.push(map(entries, &self.node.span));
        }
        Ok(())
    }

    /// Returns `from` and `to`, and whether they name one image.
    fn places(&self) -> Result<(Entry, Entry, bool), Error> {
        let (source, source_span) = self.filled("source", None)?;
        let (target, target_span) = self.filled("target", Some(&source))?;
        let kind = self.node.get("type");
        let (from, to, is_image) = match kind.and_then(Node::as_scalar) {
            Some("image") => (with_tag(&source), with_tag(&target), true),
            Some("repository") => (without_tag(&source), without_tag(&target), false),
            Some("registry") => (format!("{source}/**"), format!("{target}/{{repository}}"), false),
            _ => {
                let node = kind.unwrap_or(self.node);
                return Err(node.expected("type", "image, repository or registry"));
            }
        };
        let from = Entry::new("from", Node::text(from, &source_span));
        let to = Entry::new("to", Node::text(to, &target_span));
        Ok((from, to, is_image))
    }

    /// Returns a text with its templates filled.
    fn filled(&self, key: &str, source: Option<&str>) -> Result<(String, Range<usize>), Error> {
        let Some(node) = self.node.get(key) else {
            return Err(Error::new(format!("an entry of `sync` has no `{key}`"), &self.node.span));
        };
        let text = node.as_scalar().ok_or_else(|| node.expected(key, "a text"))?;
        let scope = Scope { sync: self.node, source, files: self.files };
        let filled = scope.fill(text).map_err(|message| {
            Error::new(message, &node.span).hint("write out what it stands for")
        })?;
        if filled.contains("://") {
            return Err(Error::new(format!("`{filled}` is not in a registry"), &node.span)
                .hint("mirrors are between registries; copy it with `rpub copy`"));
        }
        Ok((filled, node.span.clone()))
    }

    fn repositories(&self) -> Result<Vec<Entry>, Error> {
        let Some(node) = self.node.get("repos") else { return Ok(Vec::new()) };
        let mut entries = Vec::new();
        for entry in node.entries("repos")? {
            let ours = match entry.name.as_str() {
                "allow" => "repositories",
                "deny" => "exclude-repositories",
                _ => return Err(unknown(entry, ["allow", "deny"].into_iter())),
            };
            entries.push(Entry::new(ours, expressions(entry)?));
        }
        Ok(entries)
    }

    fn flag(&self, theirs: &str, ours: &str, otherwise: bool) -> Result<Entry, Error> {
        let given = self.node.get(theirs).or_else(|| self.defaults.get(theirs));
        let value = given.map(|node| node.flag(theirs)).transpose()?.unwrap_or(otherwise);
        Ok(Entry::new(ours, flag(value, given.map_or(&self.node.span, |node| &node.span))))
    }
}

/// Returns how a set of tags is chosen.
fn choice(node: &Node) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for entry in node.entries("tags")? {
        match entry.name.as_str() {
            "allow" => entries.push(Entry::new("tags", expressions(entry)?)),
            "deny" => entries.push(Entry::new("exclude", expressions(entry)?)),
            "semverRange" => {
                let ranges = entry.node.texts("semverRange")?;
                let range: Vec<&str> = ranges.into_iter().map(|(text, _)| text).collect();
                let node = Node::text(range.join(" || "), &entry.node.span);
                entries.push(Entry::new("semver", node));
            }
            _ => return Err(unknown(entry, ["allow", "deny", "semverRange"].into_iter())),
        }
    }
    // An empty list is none.
    entries.retain(|entry| !matches!(&entry.node.value, Value::List(items) if items.is_empty()));
    Ok(entries)
}

/// Returns the patterns of regular expressions, which match whole names in regsync too.
fn expressions(entry: &Entry) -> Result<Node, Error> {
    let list = entry.node.texts(&entry.name)?;
    Ok(texts(list.into_iter().map(|(text, _)| format!("/{text}/")), &entry.node.span))
}

fn with_tag(text: &str) -> String {
    match text.parse::<Reference>() {
        Ok(reference) if reference.tag.is_none() && reference.digest.is_none() => {
            format!("{text}:latest")
        }
        _ => text.to_owned(),
    }
}

fn without_tag(text: &str) -> String {
    match text.parse::<Reference>() {
        Ok(reference) if reference.tag.is_some() || reference.digest.is_some() => {
            reference.repository.to_string()
        }
        _ => text.to_owned(),
    }
}
