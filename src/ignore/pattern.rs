//! One pattern of a `.dockerignore`.

use std::iter::Peekable;
use std::str::Chars;

use regex::Regex;

use crate::ignore::IgnoreError;

/// A pattern, ready to match.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// As written, without white space around it.
    pub(super) written: String,
    pub(super) line: usize,
    /// Whether it begins with `!`.
    pub(super) includes: bool,
    matcher: Matcher,
    /// How many path components it has at its start without any wildcard.
    literal: Vec<String>,
    /// How many components a match has; none when that varies.
    depth: Option<usize>,
}

/// Most patterns need no regular expression.
#[derive(Debug, Clone)]
enum Matcher {
    Exact(String),
    /// `dir/**`: everything below, not `dir` itself.
    Prefix(String),
    /// `**/name`: the name at any depth. The text starts with `/` unless the pattern was `**name`.
    Suffix(String),
    Regex(Regex),
}

impl Pattern {
    /// Reads a line; none if it is blank.
    pub(super) fn parse(line: &str, number: usize) -> Result<Option<Self>, IgnoreError> {
        let fault = |message: &str| IgnoreError { message: message.to_owned(), line: number };
        let written = line.trim();
        if written.is_empty() {
            return Ok(None);
        }
        let (includes, text) = match written.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, written),
        };
        if text.is_empty() {
            return Err(fault("illegal exclusion pattern: \"!\""));
        }
        let cleaned = clean(text);
        let text = match cleaned.strip_prefix('/') {
            Some(rest) if !rest.is_empty() => rest,
            _ => &cleaned,
        };
        let compiled = Compiler::run(text).map_err(|()| fault("syntax error in pattern"))?;
        let components = || text.split('/');
        let wild = |component: &&str| component.contains(['*', '?', '[', '\\']);
        let fixed = !text.contains("**") && !compiled.crosses_slash;
        Ok(Some(Self {
            written: written.to_owned(),
            line: number,
            includes,
            matcher: compiled.matcher.ok_or_else(|| fault("syntax error in pattern"))?,
            literal: components().take_while(|it| !wild(it)).map(str::to_owned).collect(),
            depth: fixed.then(|| components().count()),
        }))
    }

    pub(super) fn is_match(&self, path: &str) -> bool {
        match &self.matcher {
            Matcher::Exact(text) => path == text,
            Matcher::Prefix(text) => path.starts_with(text.as_str()),
            Matcher::Suffix(text) => {
                path.ends_with(text.as_str()) || text.strip_prefix('/') == Some(path)
            }
            Matcher::Regex(regex) => regex.is_match(path),
        }
    }

    /// Whether it could match something strictly below a directory; errs on the side of yes.
    pub(super) fn may_match_below(&self, directory: &str) -> bool {
        let depth = directory.split('/').count();
        if self.depth.is_some_and(|components| components <= depth) {
            return false;
        }
        self.literal.iter().zip(directory.split('/')).all(|(literal, name)| literal == name)
    }
}

/// Cleans a path by its text alone, as Go's `filepath.Clean` does.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// What a pattern has turned out to be so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Exact,
    Prefix,
    Suffix,
    Regex,
}

struct Compiled {
    matcher: Option<Matcher>,
    /// A negated class can match a slash.
    crosses_slash: bool,
}

struct Compiler<'a> {
    chars: Peekable<Chars<'a>>,
    expression: String,
    shape: Shape,
    crosses_slash: bool,
}

impl Compiler<'_> {
    /// Compiles a cleaned pattern; the error is a pattern that Go's `filepath.Match` refuses.
    fn run(text: &str) -> Result<Compiled, ()> {
        let mut compiler = Compiler {
            chars: text.chars().peekable(),
            expression: "(?s)^".to_owned(),
            shape: Shape::Exact,
            crosses_slash: false,
        };
        let mut first = true;
        while let Some(c) = compiler.chars.next() {
            compiler.one(c, first)?;
            first = false;
        }
        let matcher = match compiler.shape {
            Shape::Exact => Some(Matcher::Exact(text.to_owned())),
            Shape::Prefix => Some(Matcher::Prefix(text.trim_end_matches('*').to_owned())),
            Shape::Suffix => text.strip_prefix("**").map(|it| Matcher::Suffix(it.to_owned())),
            Shape::Regex => {
                compiler.expression.push('$');
                Regex::new(&compiler.expression).ok().map(Matcher::Regex)
            }
        };
        Ok(Compiled { matcher, crosses_slash: compiler.crosses_slash })
    }

    fn one(&mut self, c: char, first: bool) -> Result<(), ()> {
        match c {
            '*' if self.chars.next_if_eq(&'*').is_some() => {
                // The slash after `**` belongs to it: `**/x` is also `x`.
                self.chars.next_if_eq(&'/');
                if self.chars.peek().is_some() {
                    self.expression.push_str("(?:.*/)?");
                    self.shape = Shape::Regex;
                } else if self.shape == Shape::Exact {
                    self.shape = Shape::Prefix;
                } else {
                    self.expression.push_str(".*");
                    self.shape = Shape::Regex;
                }
                if first {
                    self.shape = Shape::Suffix;
                }
            }
            '*' => self.wild("[^/]*"),
            '?' => self.wild("[^/]"),
            '[' => self.class()?,
            '\\' => {
                let escaped = self.chars.next().ok_or(())?;
                self.literal(escaped);
                self.shape = Shape::Regex;
            }
            c => self.literal(c),
        }
        Ok(())
    }

    fn wild(&mut self, expression: &str) {
        self.expression.push_str(expression);
        self.shape = Shape::Regex;
    }

    fn literal(&mut self, c: char) {
        self.expression.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }

    fn class(&mut self) -> Result<(), ()> {
        let negated = self.chars.next_if_eq(&'^').is_some();
        self.crosses_slash |= negated;
        self.expression.push_str(if negated { "[^" } else { "[" });
        let mut any = false;
        while !any || self.chars.next_if_eq(&']').is_none() {
            let low = self.class_member()?;
            let high =
                if self.chars.next_if_eq(&'-').is_some() { self.class_member()? } else { low };
            let range = format!("\\x{{{:x}}}-\\x{{{:x}}}", u32::from(low), u32::from(high));
            self.expression.push_str(&range);
            any = true;
        }
        self.wild("]");
        Ok(())
    }

    fn class_member(&mut self) -> Result<char, ()> {
        match self.chars.next() {
            Some('\\') => self.chars.next().ok_or(()),
            None | Some('-' | ']') => Err(()),
            Some(c) => Ok(c),
        }
    }
}
