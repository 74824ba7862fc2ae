//! The part of Go's templates that names in regsync's files use.

use super::FileReader;
use crate::mirror::node::Node;

/// What an expression gives.
enum Value {
    Text(String),
    List(Vec<String>),
}

/// What a template sees.
pub(super) struct Scope<'a> {
    /// The entry of `sync` that it is in.
    pub(super) sync: &'a Node,
    /// What fields of the entry are by now, other than they were written.
    pub(super) source: Option<&'a str>,
    /// Reads the files that it names.
    pub(super) files: FileReader<'a>,
}

impl Scope<'_> {
    /// Fills a template. What it takes from the environment stays a variable: `${NAME}`.
    ///
    /// # Errors
    ///
    /// A sentence about the expression that is not understood.
    pub(super) fn fill(&self, template: &str) -> Result<String, String> {
        let (mut done, mut rest) = (String::new(), template);
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((expression, after)) = after.split_once("}}") else {
                return Err(format!("`{template}` has a `{{{{` without its `}}}}`"));
            };
            done.push_str(before);
            let words = words(expression);
            let mut words = words.as_deref().unwrap_or_default();
            match self.call(&mut words) {
                Some(Value::Text(text)) if words.is_empty() => done.push_str(&text),
                _ => {
                    let expression = expression.trim();
                    return Err(format!("the template `{{{{{expression}}}}}` is not understood"));
                }
            }
            rest = after;
        }
        Ok(done + rest)
    }

    /// Evaluates a function with its arguments, or a single value.
    fn call(&self, words: &mut &[String]) -> Option<Value> {
        let (first, rest) = words.split_first()?;
        *words = rest;
        match first.as_str() {
            "env" => Some(Value::Text(format!("${{{}}}", self.text(words)?))),
            "file" => Some(Value::Text((self.files)(&self.text(words)?).ok()?.trim().to_owned())),
            "lower" => Some(Value::Text(self.text(words)?.to_lowercase())),
            "upper" => Some(Value::Text(self.text(words)?.to_uppercase())),
            "split" => {
                let (text, separator) = (self.text(words)?, self.text(words)?);
                Some(Value::List(text.split(&separator).map(ToOwned::to_owned).collect()))
            }
            "index" => {
                let Value::List(items) = self.argument(words)? else { return None };
                let number: usize = self.text(words)?.parse().ok()?;
                items.get(number).cloned().map(Value::Text)
            }
            word => self.value(word),
        }
    }

    fn text(&self, words: &mut &[String]) -> Option<String> {
        match self.argument(words)? {
            Value::Text(text) => Some(text),
            Value::List(_) => None,
        }
    }

    /// Evaluates one argument: a value, or a call in parentheses.
    fn argument(&self, words: &mut &[String]) -> Option<Value> {
        let (first, rest) = words.split_first()?;
        *words = rest;
        if first != "(" {
            return self.value(first);
        }
        let value = self.call(words)?;
        let (last, rest) = words.split_first()?;
        *words = rest;
        (last == ")").then_some(value)
    }

    /// Evaluates a field, a text in quotes or a number.
    fn value(&self, word: &str) -> Option<Value> {
        if let Some(field) = word.strip_prefix(".Sync.") {
            if field == "Source"
                && let Some(source) = self.source
            {
                return Some(Value::Text(source.to_owned()));
            }
            let text = self.sync.get(&field.to_lowercase())?.as_scalar()?;
            // One that is itself a template would have to be filled first.
            return (!text.contains("{{")).then(|| Value::Text(text.to_owned()));
        }
        let quoted = word.strip_prefix('"').or_else(|| word.strip_prefix('`'));
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        match quoted {
            Some(text) => Some(Value::Text(text.to_owned())),
            None => is_number.then(|| Value::Text(word.to_owned())),
        }
    }
}

/// Splits an expression into words, parentheses and texts; a text keeps its first quote.
fn words(expression: &str) -> Option<Vec<String>> {
    let expression = expression.trim().trim_matches('-');
    let mut words = Vec::new();
    let mut rest = expression.trim();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' => 1,
            '"' | '`' => {
                let end = rest[1..].find(first)?;
                words.push(rest[..=end].to_owned());
                rest = rest[end + 2..].trim_start();
                continue;
            }
            _ => rest.find(|c: char| c.is_whitespace() || c == ')').unwrap_or(rest.len()),
        };
        words.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    Some(words)
}
