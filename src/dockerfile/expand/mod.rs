//! Expansion of variables in words, as BuildKit's shell lexer does it.
//!
//! All of `$v`, `${v}`, `${v:-w}`, `${v-w}`, `${v:+w}`, `${v+w}`, `${v:?e}`, `${v?e}`, `${v#p}`,
//! `${v##p}`, `${v%p}`, `${v%%p}`, `${v/p/r}` and `${v//p/r}`; words may hold quotes and variables
//! themselves (Dockerfile reference, "Environment replacement").

mod lexer;
mod pattern;

pub(crate) use lexer::{Lexer, Quotes};

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {word:?}: {message}")]
pub struct ExpandError {
    /// The word.
    pub word: String,
    /// What is wrong, in BuildKit's words.
    pub message: String,
}

/// An expanded text, and what it asked for in vain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The result.
    pub text: String,
    /// Names of variables that were looked up, not found, and not excused by an operator that is
    /// made for it (`-`, `+`, `?`), in the order of the text, each once.
    pub undefined: Vec<String>,
}

/// Expands a word: variables are replaced, quotes and escapes removed.
///
/// ```
/// use rpub::dockerfile::expand_word;
/// let lookup = |name: &str| (name == "who").then(|| "world".to_owned());
/// assert_eq!(expand_word(r#""hello $who"${x:-!}"#, '\\', &lookup).unwrap(), "hello world!");
/// ```
pub fn expand_word(
    word: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ExpandError> {
    expand_word_noting(word, escape, lookup).map(|expanded| expanded.text)
}

/// Expands a word as [`expand_word`] does and says which variables were undefined.
pub fn expand_word_noting(
    word: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Expanded, ExpandError> {
    let lexed = Lexer::new(escape).run(word, lookup)?;
    Ok(Expanded { text: lexed.text, undefined: lexed.undefined })
}

/// Expands a word and splits the result at white space outside quotes.
pub fn expand_words(
    word: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, ExpandError> {
    Lexer::new(escape).run(word, lookup).map(|lexed| lexed.words)
}

/// Expands the body of a here-document: quotes are ordinary characters and stay; the escape
/// character is always `\`.
pub fn expand_heredoc(
    body: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ExpandError> {
    Lexer::new('\\').quotes(Quotes::Ordinary).run(body, lookup).map(|lexed| lexed.text)
}

/// Expands a text for people: quotes, escapes and unset variables stay as they are written, and so
/// does a text that cannot be expanded.
#[must_use]
pub fn expand_shown(text: &str, escape: char, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let lexer = Lexer::new(escape).quotes(Quotes::Raw).raw_escapes().keep_unset();
    lexer.run(text, lookup).map_or_else(|_| text.to_owned(), |lexed| lexed.text)
}

#[cfg(test)]
mod tests;
