//! TOML to a tree of nodes.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Error;
use super::node::{Entry, MAX_DEPTH, Node, Value};

/// Parses TOML.
pub(super) fn parse(text: &str) -> Result<Node, Error> {
    let table = DeTable::parse(text).map_err(|error| {
        Error::new(format!("invalid TOML: {}", error.message()), &error.span().unwrap_or(0..0))
    })?;
    let span = table.span();
    Ok(Node::new(Value::Map(entries(table.get_ref(), 0)?), &span))
}

fn entries(table: &DeTable<'_>, depth: usize) -> Result<Vec<Entry>, Error> {
    let entry = |(name, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
        let node = node(value.get_ref(), &value.span(), depth + 1)?;
        Ok(Entry { name: name.get_ref().to_string(), name_span: name.span(), node })
    };
    table.iter().map(entry).collect()
}

fn node(value: &DeValue<'_>, span: &Range<usize>, depth: usize) -> Result<Node, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(format!("nested deeper than {MAX_DEPTH} levels"), span));
    }
    let value = match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => Value::Plain(number.to_string()),
        DeValue::Float(number) => Value::Plain(number.to_string()),
        DeValue::Boolean(flag) => Value::Plain(flag.to_string()),
        DeValue::Datetime(time) => Value::Plain(time.to_string()),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| node(item.get_ref(), &item.span(), depth + 1));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => Value::Map(entries(table, depth)?),
    };
    Ok(Node::new(value, span))
}
