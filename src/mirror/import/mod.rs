//! Files of other tools, translated into rpub's words.
//!
//! What changes which image goes where and cannot be said here is an error; all else that cannot be
//! taken over is a warning with what to do instead. Passwords are never taken over.

mod go;
mod regsync;
mod skopeo;

use std::ops::Range;

use super::Warning;
use super::node::{Entry, Node, Value};

pub(super) use regsync::regsync;
pub(super) use skopeo::{SKOPEO_LISTS, skopeo};

/// Reads a file that a template of regsync's names.
pub type FileReader<'a> = &'a dyn Fn(&str) -> Result<String, String>;

fn warn(warnings: &mut Vec<Warning>, span: &Range<usize>, message: impl Into<String>) {
    warnings.push(Warning { message: message.into(), span: span.clone() });
}

fn texts(texts: impl IntoIterator<Item = String>, span: &Range<usize>) -> Node {
    let items = texts.into_iter().map(|text| Node::text(text, span)).collect();
    Node::new(Value::List(items), span)
}

fn map(entries: Vec<Entry>, span: &Range<usize>) -> Node {
    Node::new(Value::Map(entries), span)
}

fn flag(value: bool, span: &Range<usize>) -> Node {
    Node::new(Value::Plain(value.to_string()), span)
}

/// Returns the file of some rules.
fn file(defaults: Vec<Entry>, rules: Vec<Node>, span: &Range<usize>) -> Node {
    let version = Node::new(Value::Plain("1".to_owned()), span);
    let mut entries = vec![Entry::new("version", version)];
    if !defaults.is_empty() {
        entries.push(Entry::new("defaults", map(defaults, span)));
    }
    entries.push(Entry::new("rules", Node::new(Value::List(rules), span)));
    map(entries, span)
}
