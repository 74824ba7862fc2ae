//! Which digest each reference stood for: what a mirror writes down at its end, and what can be
//! pulled or mirrored again exactly.

use serde::Serialize;

use crate::image::{Digest, Reference};

use super::Error;
use super::node::{Entry, Node, Value};

/// A reference and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pinned {
    /// The reference.
    pub reference: Reference,
    /// The digest of its manifest.
    pub digest: Digest,
}

impl Pinned {
    /// Returns `reference digest`, the line of a digest file.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {}", self.reference, self.digest)
    }
}

/// Reads lines of a reference and a digest as rules, one for each; `None` when the text has others.
pub(super) fn read_lines(text: &str, to: &[String]) -> Result<Option<Node>, Error> {
    let mut rules = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let span = offset..offset + line.trim_end().len();
        offset += line.len();
        if line.trim().is_empty() {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        // skopeo's order is the other way round, and its references have the transport's name.
        let (reference, digest) = match words[..] {
            [reference, digest] if digest.parse::<Digest>().is_ok() => (reference, digest),
            [digest, reference] if digest.parse::<Digest>().is_ok() => (reference, digest),
            _ => return Ok(None),
        };
        let reference = reference.strip_prefix("docker://").unwrap_or(reference);
        rules.push(rule(reference, digest, &span)?);
    }
    if rules.is_empty() { Ok(None) } else { file(rules, to, &(0..0)).map(Some) }
}

/// Reads a list of objects with `reference` and `digest`.
pub(super) fn read_json(root: &Node, to: &[String]) -> Result<Node, Error> {
    let rules = root.items("the file")?.iter().map(|item| {
        let text = |name: &str| item.get(name).and_then(Node::as_scalar);
        match (text("reference"), text("digest")) {
            (Some(reference), Some(digest)) => rule(reference, digest, &item.span),
            _ => Err(Error::new("an entry needs `reference` and `digest`", &item.span)),
        }
    });
    file(rules.collect::<Result<_, _>>()?, to, &root.span)
}

/// Returns the rule that copies a digest to where its tag says.
fn rule(reference: &str, digest: &str, span: &std::ops::Range<usize>) -> Result<Node, Error> {
    let wrong = |error: crate::image::Error| Error::new(error.to_string(), span);
    let mut pinned: Reference = reference.parse().map_err(wrong)?;
    let digest: Digest = digest.parse().map_err(wrong)?;
    pinned.digest = Some(digest);
    let from = Entry::new("from", Node::text(pinned.to_string(), span));
    Ok(Node::new(Value::Map(vec![from]), span))
}

fn file(rules: Vec<Node>, to: &[String], span: &std::ops::Range<usize>) -> Result<Node, Error> {
    if to.is_empty() {
        return Err(Error::new("a list of digests does not say where images go", span)
            .hint("give `--to`, as in `--to registry.example/{repository}`"));
    }
    let to = to.iter().map(|text| Node::text(text, span)).collect();
    let defaults = Value::Map(vec![Entry::new("to", Node::new(Value::List(to), span))]);
    let entries = vec![
        Entry::new("defaults", Node::new(defaults, span)),
        Entry::new("rules", Node::new(Value::List(rules), span)),
    ];
    Ok(Node::new(Value::Map(entries), span))
}
