//! What a file says before it is known what it means: scalars, lists and maps, each with its place.
//!
//! TOML and YAML are both read into this tree, the files of other tools are translated in it, and it
//! is what is written when a file is converted. A scalar keeps the letters in which it was written,
//! so that the tag `3.10` stays `3.10` with and without quotes.

use std::ops::Range;

use super::Error;

/// Largest file that is read. A thousand rules have about 200 KiB.
pub(super) const MAX_BYTES: usize = 4 << 20;
/// Most values in one file, those of repeated anchors counted each time.
pub(super) const MAX_NODES: usize = 200_000;
/// Deepest nesting.
pub(super) const MAX_DEPTH: usize = 32;

/// One value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) value: Value,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing, as YAML has it.
    Null,
    /// A number, a truth value or a word without quotes, as written.
    Plain(String),
    /// A text in quotes.
    Text(String),
    /// Values in order.
    List(Vec<Node>),
    /// Values with names, in order.
    Map(Vec<Entry>),
}

/// One entry of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) name_span: Range<usize>,
    pub(super) node: Node,
}

impl Node {
    pub(super) fn new(value: Value, span: &Range<usize>) -> Self {
        Self { span: span.clone(), value }
    }

    /// Returns a text that stands in the place of another value.
    pub(super) fn text(text: impl Into<String>, span: &Range<usize>) -> Self {
        Self::new(Value::Text(text.into()), span)
    }

    /// Returns the scalar's letters; `None` for what is no scalar.
    pub(super) fn as_scalar(&self) -> Option<&str> {
        match &self.value {
            Value::Plain(text) | Value::Text(text) => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Returns the map's entries; an empty value is an empty map.
    pub(super) fn entries(&self, what: &str) -> Result<&[Entry], Error> {
        match &self.value {
            Value::Map(entries) => Ok(entries),
            Value::Null => Ok(&[]),
            _ => Err(self.expected(what, "a table of keys")),
        }
    }

    /// Returns the list's items; an empty value is an empty list.
    pub(super) fn items(&self, what: &str) -> Result<&[Self], Error> {
        match &self.value {
            Value::List(items) => Ok(items),
            Value::Null => Ok(&[]),
            _ => Err(self.expected(what, "a list")),
        }
    }

    /// Returns one text or several as texts with their places.
    pub(super) fn texts(&self, what: &str) -> Result<Vec<(&str, &Range<usize>)>, Error> {
        if let Some(text) = self.as_scalar() {
            return Ok(vec![(text, &self.span)]);
        }
        let items = match &self.value {
            Value::List(items) => items.as_slice(),
            Value::Null => &[],
            _ => return Err(self.expected(what, "a text or a list of texts")),
        };
        let text = |item: &'_ Self| item.as_scalar().is_some();
        match items.iter().find(|item| !text(item)) {
            Some(item) => Err(item.expected(what, "a list of texts")),
            None => {
                Ok(items.iter().filter_map(|item| Some((item.as_scalar()?, &item.span))).collect())
            }
        }
    }

    /// Returns the truth value.
    pub(super) fn flag(&self, what: &str) -> Result<bool, Error> {
        match self.as_scalar() {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => Err(self.expected(what, "true or false")),
        }
    }

    /// Returns an error: `what` is not of the kind that it must be.
    pub(super) fn expected(&self, what: &str, kind: &str) -> Error {
        Error::new(format!("`{what}` must be {kind}"), &self.span)
    }

    /// Returns a map's value by its name.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.name == name).map(|entry| &entry.node)
    }
}

impl Entry {
    /// Returns an entry that stands in the place of its value.
    pub(super) fn new(name: &str, node: Node) -> Self {
        Self { name: name.to_owned(), name_span: node.span.clone(), node }
    }
}
