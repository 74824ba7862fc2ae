//! YAML to a tree of nodes: one document of the core schema, with anchors, aliases and merge keys.

use std::collections::HashMap;
use std::iter::Peekable;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::Error;
use super::node::{Entry, MAX_DEPTH, MAX_NODES, Node, Value};

/// Parses YAML.
pub(super) fn parse(text: &str) -> Result<Node, Error> {
    let mut reader = Reader {
        events: Parser::new_from_str(text).peekable(),
        anchors: HashMap::new(),
        left: MAX_NODES,
        text_length: text.len(),
    };
    reader.document()
}

struct Reader<'a> {
    events: Peekable<Parser<'a, StrInput<'a>>>,
    /// What each anchor stands for.
    anchors: HashMap<usize, Node>,
    /// How many more values there may be: aliases of aliases grow fast.
    left: usize,
    text_length: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Node, Error> {
        let mut root = Node::new(Value::Null, &(0..0));
        let mut is_first = true;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if is_first => is_first = false,
                Event::DocumentStart(..) => {
                    return Err(Error::new("the file has more than one YAML document", &span));
                }
                event => root = self.node(event, span, 0)?,
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Range<usize>), Error> {
        match self.events.next() {
            Some(Ok((event, span))) => Ok((event, bytes(span, self.text_length))),
            Some(Err(error)) => Err(syntax(&error, self.text_length)),
            None => Ok((Event::StreamEnd, self.text_length..self.text_length)),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Range<usize>, depth: usize) -> Result<Node, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::new(format!("nested deeper than {MAX_DEPTH} levels"), &span));
        }
        self.count(1, &span)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (scalar(&text, style), anchor),
            Event::SequenceStart(_, anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned();
                let node = node
                    .ok_or_else(|| Error::new("an alias stands inside of its own anchor", &span))?;
                self.count(size(&node), &span)?;
                return Ok(node);
            }
            _ => return Err(Error::new("invalid YAML: a value is missing here", &span)),
        };
        let node = Node::new(value, &span);
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Error> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Error> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            let Some(name) = key.as_scalar() else {
                return Err(Error::new("a key must be a word", &key.span));
            };
            if name == "<<" && key.value == Value::Plain("<<".to_owned()) {
                merged.push(node);
            } else if entries.iter().any(|entry| entry.name == name) {
                return Err(Error::new(format!("`{name}` is given twice"), &key.span));
            } else {
                let name = name.to_owned();
                entries.push(Entry { name, name_span: key.span, node });
            }
        }
        for node in merged {
            merge(&mut entries, node)?;
        }
        Ok(Value::Map(entries))
    }

    fn count(&mut self, nodes: usize, span: &Range<usize>) -> Result<(), Error> {
        self.left = self.left.checked_sub(nodes).ok_or_else(|| {
            Error::new(format!("the file has more than {MAX_NODES} values"), span)
        })?;
        Ok(())
    }
}

/// Adds what `<<` brings: entries of a map, or of several, that are not there yet
/// (yaml.org/type/merge.html).
fn merge(entries: &mut Vec<Entry>, node: Node) -> Result<(), Error> {
    let sources = match node.value {
        Value::List(items) => items,
        value => vec![Node { value, ..node }],
    };
    for source in sources {
        let Value::Map(more) = source.value else {
            return Err(source.expected("<<", "a map, or a list of maps"));
        };
        for entry in more {
            if !entries.iter().any(|known| known.name == entry.name) {
                entries.push(entry);
            }
        }
    }
    Ok(())
}

/// Returns what a scalar is by the core schema, in its letters.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "True" | "TRUE" => Value::Plain("true".to_owned()),
        "False" | "FALSE" => Value::Plain("false".to_owned()),
        text => Value::Plain(text.to_owned()),
    }
}

/// Returns how many values a node has in it.
fn size(node: &Node) -> usize {
    let inner: usize = match &node.value {
        Value::List(items) => items.iter().map(size).sum(),
        Value::Map(entries) => entries.iter().map(|entry| size(&entry.node)).sum(),
        Value::Null | Value::Plain(_) | Value::Text(_) => 0,
    };
    inner + 1
}

fn bytes(span: Span, length: usize) -> Range<usize> {
    span.byte_range().unwrap_or(length..length)
}

fn syntax(error: &ScanError, length: usize) -> Error {
    let at = error.marker().byte_offset().unwrap_or(length);
    Error::new(format!("invalid YAML: {}", error.info()), &(at..at))
}
