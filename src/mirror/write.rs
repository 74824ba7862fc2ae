//! A tree of nodes as TOML, in the way people write mirror files.

use std::fmt::Write as _;

use super::node::{Entry, Node, Value};

/// Longest list that stays on one line.
const LINE_WIDTH: usize = 88;

/// Returns the file as TOML: what is simple first, then tables, then lists of tables.
pub(super) fn write(root: &Node) -> String {
    let mut text = String::new();
    let Value::Map(entries) = &root.value else { return text };
    write_simple(&mut text, entries);
    for entry in entries {
        if let Value::Map(inner) = &entry.node.value {
            let _ = write!(text, "\n[{}]\n", entry.name);
            write_simple(&mut text, inner);
        }
    }
    for (name, items) in entries.iter().filter_map(tables) {
        for item in items {
            let _ = write!(text, "\n[[{name}]]\n");
            if let Value::Map(inner) = &item.value {
                write_simple(&mut text, inner);
            }
        }
    }
    text.trim_start().to_owned()
}

fn tables(entry: &Entry) -> Option<(&str, &[Node])> {
    match &entry.node.value {
        Value::List(items) if items.iter().any(|item| matches!(item.value, Value::Map(_))) => {
            Some((&entry.name, items))
        }
        _ => None,
    }
}

fn write_simple(text: &mut String, entries: &[Entry]) {
    for entry in entries {
        let is_simple = !matches!(entry.node.value, Value::Map(_) | Value::Null);
        if is_simple && tables(entry).is_none() {
            let _ = writeln!(text, "{} = {}", entry.name, value(&entry.node));
        }
    }
}

fn value(node: &Node) -> String {
    match &node.value {
        Value::Plain(text) if is_bare(text) => text.clone(),
        Value::Plain(text) | Value::Text(text) => quoted(text),
        Value::List(items) => {
            let items = items.iter().filter_map(Node::as_scalar).map(quoted);
            let items: Vec<String> = items.collect();
            let line = format!("[{}]", items.join(", "));
            if line.len() <= LINE_WIDTH {
                line
            } else {
                format!("[\n    {},\n]", items.join(",\n    "))
            }
        }
        Value::Null | Value::Map(_) => String::new(),
    }
}

/// Returns whether a scalar may stand without quotes.
fn is_bare(text: &str) -> bool {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    (is_number && !text.is_empty()) || text == "true" || text == "false"
}

/// Returns a TOML string: without escapes where there would be many, as in regular expressions.
fn quoted(text: &str) -> String {
    let is_literal = text.contains(['\\', '"']) && !text.contains(['\'']);
    if is_literal && !text.chars().any(char::is_control) {
        return format!("'{text}'");
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
