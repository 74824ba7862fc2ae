//! skopeo's `sync --src yaml` (skopeo-sync(1), "YAML file content").

use super::{file, map, texts, warn};
use crate::image::Digest;
use crate::mirror::keys::unknown;
use crate::mirror::node::{Entry, Node};
use crate::mirror::{Error, Warning};

/// The keys of a registry that name images.
pub(in crate::mirror) const SKOPEO_LISTS: [&str; 3] =
    ["images", "images-by-tag-regex", "images-by-semver"];

const OTHERS: [&str; 3] = ["credentials", "tls-verify", "cert-dir"];

/// Translates a file. `to` says where images go: what has no place in it for their name gets the last
/// part of their repository, as skopeo does without `--scoped`.
pub(in crate::mirror) fn skopeo(
    root: &Node,
    to: &[String],
    warnings: &mut Vec<Warning>,
) -> Result<Node, Error> {
    if to.is_empty() {
        return Err(Error::new("skopeo's files do not say where images go", &(0..0))
            .hint("give `--to`, as in `--to registry.example/mirror`"));
    }
    let to = to.iter().map(|text| {
        let is_template = text.contains('{');
        if is_template { text.clone() } else { format!("{}/{{name}}", text.trim_end_matches('/')) }
    });
    let defaults = vec![Entry::new("to", texts(to, &root.span))];
    let mut rules = Vec::new();
    for registry in root.entries("the file")? {
        let what = format!("the registry {}", registry.name);
        for entry in registry.node.entries(&what)? {
            match entry.name.as_str() {
                "images" => images(registry, &entry.node, &mut rules)?,
                "images-by-tag-regex" => {
                    by(registry, &entry.node, &mut rules, |expression| {
                        ("tags", whole(expression))
                    })?;
                }
                "images-by-semver" => {
                    by(registry, &entry.node, &mut rules, |range| ("semver", range.to_owned()))?;
                }
                _ => other(registry, entry, warnings)?,
            }
        }
    }
    if rules.is_empty() {
        return Err(Error::new("the file names no images", &root.span));
    }
    Ok(file(defaults, rules, &root.span))
}

fn images(registry: &Entry, node: &Node, rules: &mut Vec<Node>) -> Result<(), Error> {
    for image in node.entries("images")? {
        let mut entries = vec![from(registry, image)];
        let tags = image.node.texts(&image.name)?;
        if !tags.is_empty() {
            entries.push(Entry::new("tags", image.node.clone()));
        }
        // A name with wildcards would be a pattern here.
        if let Some((text, span)) = tags.iter().find(|(text, _)| !is_tag_or_digest(text)) {
            return Err(Error::new(format!("`{text}` is no tag"), span));
        }
        rules.push(map(entries, &image.name_span));
    }
    Ok(())
}

fn is_tag_or_digest(text: &str) -> bool {
    text.parse::<crate::image::Tag>().is_ok() || text.parse::<Digest>().is_ok()
}

fn by(
    registry: &Entry,
    node: &Node,
    rules: &mut Vec<Node>,
    key: impl Fn(&str) -> (&'static str, String),
) -> Result<(), Error> {
    for image in node.entries("a list of images")? {
        let text = image.node.as_scalar();
        let text = text.ok_or_else(|| image.node.expected(&image.name, "a text"))?;
        let (name, value) = key(text);
        let value = Entry::new(name, Node::text(value, &image.node.span));
        rules.push(map(vec![from(registry, image), value], &image.name_span));
    }
    Ok(())
}

fn from(registry: &Entry, image: &Entry) -> Entry {
    let text = format!("{}/{}", registry.name, image.name);
    Entry::new("from", Node::text(text, &image.name_span))
}

/// Returns the pattern of an expression that may match any part of a tag, as skopeo's do.
fn whole(expression: &str) -> String {
    let is_plain = !expression.contains('|') && !expression.ends_with("\\$");
    let (start, rest) = match expression.strip_prefix('^') {
        Some(rest) if is_plain => ("", rest),
        _ => (".*", expression),
    };
    match rest.strip_suffix('$') {
        Some(rest) if is_plain && start.is_empty() => format!("/{rest}/"),
        Some(rest) if is_plain => format!("/{start}(?:{rest})/"),
        _ if start.is_empty() => format!("/(?:{rest}).*/"),
        _ => format!("/.*(?:{rest}).*/"),
    }
}

/// Says what is to be done about what is no list of images.
fn other(registry: &Entry, entry: &Entry, warnings: &mut Vec<Warning>) -> Result<(), Error> {
    let (host, name) = (&registry.name, &entry.name);
    let advice = match name.as_str() {
        "credentials" => format!("log in with `rpub login {host}`"),
        "cert-dir" => format!("give `--cert-dir`, or put the files into `certs.d/{host}`"),
        "tls-verify" if entry.node.as_scalar() == Some("false") => {
            format!("give `--insecure-registry {host}`")
        }
        "tls-verify" => return Ok(()),
        _ => return Err(unknown(entry, SKOPEO_LISTS.into_iter().chain(OTHERS))),
    };
    warn(warnings, &entry.name_span, format!("`{name}` of `{host}` is not taken over: {advice}"));
    Ok(())
}
