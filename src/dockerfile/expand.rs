//! Expansion of variables in words, as BuildKit's shell lexer does it.

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpandError {
    /// What is wrong, in BuildKit's words.
    pub message: String,
}

/// An expanded text, and what it asked for in vain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The result.
    pub text: String,
    /// Names of variables that were looked up, not found, and not excused by an operator.
    pub undefined: Vec<String>,
}

/// Expands a word: variables are replaced, quotes and escapes removed.
pub fn expand_word(
    word: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ExpandError> {
    let _ = (word, escape, lookup);
    todo!()
}

/// Expands a word and splits the result at white space outside quotes.
pub fn expand_words(
    word: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, ExpandError> {
    let _ = (word, escape, lookup);
    todo!()
}

/// Expands the body of a here-document: quotes are ordinary characters and stay.
pub fn expand_heredoc(
    body: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ExpandError> {
    let _ = (body, lookup);
    todo!()
}

/// Expands a word as [`expand_word`] does and says which variables were undefined.
pub fn expand_word_noting(
    word: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Expanded, ExpandError> {
    let _ = (word, escape, lookup);
    todo!()
}
