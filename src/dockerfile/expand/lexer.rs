//! The shell lexer itself.

use std::iter::Peekable;
use std::str::Chars;

use crate::dockerfile::expand::pattern::Pattern;
use crate::dockerfile::expand::{ExpandError, pattern};

/// Substitutions may nest this deep; real files stay below four.
const MAX_DEPTH: usize = 100;

/// What quotes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quotes {
    /// They group and are removed.
    Removed,
    /// They group and stay in the text.
    Raw,
    /// They are characters like others.
    Ordinary,
}

/// How a text is lexed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lexer {
    escape: char,
    quotes: Quotes,
    raw_escapes: bool,
    keep_unset: bool,
}

/// What lexing found.
#[derive(Debug, Default)]
pub(crate) struct Lexed {
    pub(crate) text: String,
    pub(crate) words: Vec<String>,
    pub(crate) undefined: Vec<String>,
}

impl Lexer {
    pub(crate) const fn new(escape: char) -> Self {
        Self { escape, quotes: Quotes::Removed, raw_escapes: false, keep_unset: false }
    }

    pub(crate) const fn quotes(mut self, quotes: Quotes) -> Self {
        self.quotes = quotes;
        self
    }

    /// Keeps escape characters in the result.
    pub(crate) const fn raw_escapes(mut self) -> Self {
        self.raw_escapes = true;
        self
    }

    /// Keeps references to unset variables in the result.
    pub(crate) const fn keep_unset(mut self) -> Self {
        self.keep_unset = true;
        self
    }

    /// Splits into words with no variable set.
    pub(crate) fn words(self, text: &str) -> Result<Vec<String>, ExpandError> {
        self.run(text, &|_| None).map(|lexed| lexed.words)
    }

    pub(crate) fn run(
        self,
        text: &str,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Lexed, ExpandError> {
        let mut run = Run {
            lexer: self,
            chars: text.chars().peekable(),
            lookup,
            undefined: Vec::new(),
            depth: 0,
        };
        match run.until(None, self.raw_escapes) {
            Ok((text, words)) => Ok(Lexed { text, words, undefined: run.undefined }),
            Err(message) => Err(ExpandError { word: text.to_owned(), message }),
        }
    }
}

/// Collects words beside the plain text.
#[derive(Default)]
struct Words {
    word: String,
    words: Vec<String>,
}

impl Words {
    fn plain(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

struct Run<'a> {
    lexer: Lexer,
    chars: Peekable<Chars<'a>>,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    undefined: Vec<String>,
    depth: usize,
}

impl Run<'_> {
    /// Lexes up to `stop`, which is consumed, or to the end.
    fn until(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
    ) -> Result<(String, Vec<String>), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("substitutions are nested too deeply".to_owned());
        }
        let outer = std::mem::replace(&mut self.lexer.raw_escapes, raw_escapes);
        let result = self.until_inner(stop);
        self.lexer.raw_escapes = outer;
        self.depth -= 1;
        result
    }

    fn until_inner(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), String> {
        let mut text = String::new();
        let mut words = Words::default();
        let quoting = self.lexer.quotes != Quotes::Ordinary;
        while let Some(c) = self.chars.next() {
            if Some(c) == stop {
                return Ok((text, words.finish()));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| words.plain(c));
                    text.push_str(&value);
                }
                '\'' | '"' if quoting => {
                    let value =
                        if c == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    words.word.push_str(&value);
                    text.push_str(&value);
                }
                c if c == self.lexer.escape => {
                    let kept = self.lexer.raw_escapes.then_some(c);
                    for c in kept.into_iter().chain(self.chars.next()) {
                        words.word.push(c);
                        text.push(c);
                    }
                }
                c => {
                    words.plain(c);
                    text.push(c);
                }
            }
        }
        match stop {
            Some(stop) => {
                Err(format!("unexpected end of statement while looking for matching {stop}"))
            }
            None => Ok((text, words.finish())),
        }
    }

    fn single_quoted(&mut self) -> Result<String, String> {
        let mut text: String = self.raw_quote('\'').into_iter().collect();
        for c in self.chars.by_ref() {
            if c == '\'' {
                text.extend(self.raw_quote('\''));
                return Ok(text);
            }
            text.push(c);
        }
        Err("unexpected end of statement while looking for matching single-quote".to_owned())
    }

    fn double_quoted(&mut self) -> Result<String, String> {
        let mut text: String = self.raw_quote('"').into_iter().collect();
        while let Some(c) = self.chars.next() {
            match c {
                '"' => {
                    text.extend(self.raw_quote('"'));
                    return Ok(text);
                }
                '$' => text.push_str(&self.dollar()?),
                c if c == self.lexer.escape => {
                    if self.lexer.raw_escapes {
                        text.push(c);
                    }
                    let escape = self.lexer.escape;
                    let escapable = |next: &char| matches!(*next, '"' | '$') || *next == escape;
                    match self.chars.next_if(escapable) {
                        Some(escaped) => text.push(escaped),
                        // Before other characters the escape character stands for itself.
                        None if self.chars.peek().is_some() => text.push(c),
                        None => {}
                    }
                }
                c => text.push(c),
            }
        }
        Err("unexpected end of statement while looking for matching double-quote".to_owned())
    }

    fn raw_quote(&self, quote: char) -> Option<char> {
        (self.lexer.quotes == Quotes::Raw).then_some(quote)
    }

    /// Lexes what follows a `$`.
    fn dollar(&mut self) -> Result<String, String> {
        if self.chars.next_if_eq(&'{').is_some() {
            return self.braced();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        let value = self.noted(&name);
        Ok(match value {
            Some(value) => value,
            None if self.lexer.keep_unset => format!("${name}"),
            None => String::new(),
        })
    }

    fn braced(&mut self) -> Result<String, String> {
        match self.chars.peek() {
            None => return Err(missing("}", "")),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".to_owned()),
            Some(_) => {}
        }
        let name = self.name();
        match self.chars.next() {
            None => Err(missing("}", "")),
            Some('}') => Ok(match self.noted(&name) {
                Some(value) => value,
                None if self.lexer.keep_unset => format!("${{{name}}}"),
                None => String::new(),
            }),
            Some('/') => self.replacement(&name),
            Some(':') => match self.chars.next() {
                None => Err(missing("}", "")),
                Some(modifier) => self.modified(&name, modifier, Empty::IsUnset),
            },
            Some(modifier) if "+-?#%".contains(modifier) => {
                self.modified(&name, modifier, Empty::IsSet)
            }
            Some(modifier) => Err(unsupported(&modifier.to_string())),
        }
    }

    fn modified(&mut self, name: &str, modifier: char, empty: Empty) -> Result<String, String> {
        let shown = match empty {
            Empty::IsUnset => format!(":{modifier}"),
            Empty::IsSet => modifier.to_string(),
        };
        let trims = matches!(modifier, '#' | '%');
        let word = self.until_or_missing('}', trims, "")?;
        let value = if trims { self.noted(name) } else { (self.lookup)(name) };
        if value.is_none() && self.lexer.keep_unset {
            // A shell's own forms, such as `${v:1:2}`, pass here: they are not ours to judge.
            return Ok(format!("${{{name}{shown}{word}}}"));
        }
        if !"+-?#%".contains(modifier) || (trims && empty == Empty::IsUnset) {
            return Err(unsupported(&shown));
        }
        let Some(value) = value else {
            return match modifier {
                '-' => Ok(word),
                '?' => Err(refusal(name, &word, "is not allowed to be unset")),
                _ => Ok(String::new()),
            };
        };
        let null = empty == Empty::IsUnset && value.is_empty();
        match modifier {
            '-' => Ok(if null { word } else { value }),
            '+' => Ok(if null { String::new() } else { word }),
            '?' if null => Err(refusal(name, &word, "is not allowed to be empty")),
            '?' => Ok(value),
            side => {
                let (extent, pattern) = match word.strip_prefix(side) {
                    Some(pattern) => (pattern::Extent::Longest, pattern),
                    None => (pattern::Extent::Shortest, word.as_str()),
                };
                if side == '#' {
                    pattern::trim_prefix(pattern, &value, extent)
                } else {
                    pattern::trim_suffix(pattern, &value, extent)
                }
            }
        }
    }

    fn replacement(&mut self, name: &str) -> Result<String, String> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let pattern = self.until_or_missing('/', true, " in ${}")?;
        let replacement = self.until_or_missing('}', true, "")?;
        let value = self.noted(name);
        let Some(value) = value.or((!self.lexer.keep_unset).then(String::new)) else {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        };
        let compiled = Pattern::replacing(&pattern)?;
        Ok(if all {
            compiled.replace_all(&value, &replacement)
        } else {
            compiled.replace_first(&value, &replacement)
        })
    }

    fn until_or_missing(
        &mut self,
        stop: char,
        raw_escapes: bool,
        place: &str,
    ) -> Result<String, String> {
        match self.until(Some(stop), raw_escapes) {
            Ok((text, _)) => Ok(text),
            Err(_) if self.chars.peek().is_none() && self.depth <= MAX_DEPTH => {
                Err(missing(&stop.to_string(), place))
            }
            Err(message) => Err(message),
        }
    }

    /// Reads a variable's name: letters, digits and `_`; or digits; or one special character.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(c) if c.is_ascii_digit() => {
                while let Some(digit) = self.chars.next_if(char::is_ascii_digit) {
                    name.push(digit);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.chars.next()),
            _ => {
                while let Some(c) = self.chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(c);
                }
            }
        }
        name
    }

    /// Looks a variable up and notes it when it is not set.
    fn noted(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        if value.is_none() && !self.undefined.iter().any(|known| known == name) {
            self.undefined.push(name.to_owned());
        }
        value
    }
}

/// Whether an empty value counts as set: the colon before an operator says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Empty {
    IsSet,
    IsUnset,
}

fn missing(what: &str, place: &str) -> String {
    format!("syntax error: missing '{what}'{place}")
}

fn unsupported(modifier: &str) -> String {
    format!("unsupported modifier ({modifier}) in substitution")
}

fn refusal(name: &str, word: &str, otherwise: &str) -> String {
    format!("{name}: {}", if word.is_empty() { otherwise } else { word })
}
