//! Flags between an instruction's keyword and its arguments.

use crate::dockerfile::ast::Flag;
use crate::dockerfile::error::{Error, ErrorKind};
use crate::dockerfile::lines::Slice;
use crate::dockerfile::source::Word;
use crate::suggest::suggest;

/// How a flag takes values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, `true` or `false`.
    Bool,
    /// One value.
    Value,
    /// One value each time it is given.
    Values,
}

/// The flags of an instruction.
pub(crate) type Known = &'static [(&'static str, Takes)];

/// Splits the arguments into flags and what follows them.
///
/// Flags end at the first word that does not start with `--`, or after `--` alone. Inside them
/// quotes group and `\` escapes, whatever the file's escape character is.
pub(crate) fn split(arguments: Slice<'_>) -> (Vec<Flag>, Slice<'_>) {
    let text = arguments.text();
    let mut flags = Vec::new();
    let mut at = 0;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if !text[at..].starts_with("--") {
            return (flags, arguments.from(at).trim());
        }
        let (word, length) = unquote(&text[at..]);
        let end = at + length;
        if word == "--" {
            return (flags, arguments.from(end).trim());
        }
        let (name, value) = match word[2..].split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word[2..].to_owned(), None),
        };
        flags.push(Flag { name, value, span: arguments.part(at, end).span() });
        at = end;
    }
}

/// Reads one word, its quotes removed; returns it and the length of its text.
fn unquote(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => return (word, at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (_, '\\') => word.extend(chars.next().map(|(_, escaped)| escaped)),
            (_, c) => word.push(c),
        }
    }
    (word, text.len())
}

/// The flags of one instruction, checked against those it knows.
pub(crate) struct Flags<'a> {
    flags: &'a [Flag],
}

impl<'a> Flags<'a> {
    /// Checks names, values and repetition.
    pub(crate) fn check(flags: &'a [Flag], known: Known) -> Result<Self, Error> {
        for (index, flag) in flags.iter().enumerate() {
            let name = format!("--{}", flag.name);
            let fault = |message: String| Err(Error::new(ErrorKind::BadFlag, message, flag.span));
            let Some((_, takes)) = known.iter().find(|(known, _)| *known == flag.name) else {
                let names: Vec<String> =
                    known.iter().map(|(name, _)| format!("--{name}")).collect();
                let near = suggest(&name, names.iter().map(String::as_str));
                let message = format!("unknown flag: {name}");
                return Err(Error::new(ErrorKind::UnknownFlag, message, flag.span).suggesting(near));
            };
            if *takes != Takes::Values && flags[..index].iter().any(|it| it.name == flag.name) {
                return fault(format!("duplicate flag specified: {name}"));
            }
            match (*takes, flag.value.as_deref()) {
                (Takes::Bool, Some("")) | (Takes::Value | Takes::Values, None) => {
                    return fault(format!("missing a value on flag: {name}"));
                }
                (Takes::Bool, Some(value)) if to_bool(value).is_none() => {
                    return fault(format!("expecting boolean value for flag {name}, not: {value}"));
                }
                _ => {}
            }
        }
        Ok(Self { flags })
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &'a Flag> {
        self.flags.iter().filter(move |flag| flag.name == name)
    }

    /// Returns a flag's value; an empty one is as good as none.
    pub(crate) fn value(&self, name: &str) -> Option<Word> {
        self.values(name).into_iter().find(|word| !word.text.is_empty())
    }

    pub(crate) fn values(&self, name: &str) -> Vec<Word> {
        let word = |flag: &Flag| flag.value.clone().map(|text| Word { text, span: flag.span });
        self.all(name).filter_map(word).collect()
    }

    pub(crate) fn bool(&self, name: &str) -> Option<bool> {
        let flag = self.all(name).next()?;
        to_bool(flag.value.as_deref().unwrap_or("true"))
    }
}

fn to_bool(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}
