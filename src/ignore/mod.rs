//! Patterns of paths: what `.dockerignore` leaves out of a build context, `--exclude` out of a copy,
//! and `--parents` takes. Pure: nothing here looks at files.
//!
//! The rules are moby/patternmatcher's, in the way BuildKit asks it ("matches using parent
//! results"): the last pattern that matches wins, `!` brings back, and a pattern that matches a
//! directory matches everything below it. Reading the file is the caller's job.

mod pattern;

use std::path::Path;

use crate::ignore::pattern::Pattern;

pub(crate) use pattern::clean;

/// Why a `.dockerignore` was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct IgnoreError {
    /// What is wrong, in BuildKit's words.
    pub message: String,
    /// The pattern's line, from 1.
    pub line: usize,
}

/// The patterns of a `.dockerignore`.
///
/// ```
/// use std::path::Path;
/// use rpub::ignore::{Patterns, Verdict};
/// let patterns = Patterns::parse("*.log\n!keep.log\n").unwrap();
/// assert_eq!(patterns.verdict(Path::new("a.log"), false), Verdict::SkipTree);
/// assert_eq!(patterns.verdict(Path::new("keep.log"), false), Verdict::Keep);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

/// What a walker does with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    Keep,
    /// Leave it out, but enter it: something below may be included again.
    Skip,
    /// Leave it out with all that is below it.
    SkipTree,
}

/// The pattern that excluded a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The pattern as written.
    pub pattern: String,
    /// Its line, from 1.
    pub line: usize,
}

/// Which patterns have matched a directory or one above it; the default is the context's root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State(Vec<bool>);

impl Patterns {
    /// Reads the text of a `.dockerignore`.
    ///
    /// # Errors
    ///
    /// For a lone `!` and for a pattern with broken brackets or a backslash at its end.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let numbered = text.lines().zip(1..);
        let patterns = numbered
            .filter(|(line, _)| !line.starts_with('#'))
            .filter_map(|(line, number)| Pattern::parse(line, number).transpose());
        Ok(Self { patterns: patterns.collect::<Result<_, _>>()? })
    }

    /// Reads patterns that stand alone, such as those of `--exclude`.
    ///
    /// # Errors
    ///
    /// As [`Patterns::parse`]; the line is the pattern's place in the list, from 1.
    pub fn from_list<'a>(list: impl IntoIterator<Item = &'a str>) -> Result<Self, IgnoreError> {
        let patterns = list.into_iter().zip(1..);
        let patterns = patterns.filter_map(|(text, line)| Pattern::parse(text, line).transpose());
        Ok(Self { patterns: patterns.collect::<Result<_, _>>()? })
    }

    /// Whether a pattern could match something below the directory `path`; errs on the side of yes.
    #[must_use]
    pub fn may_match_below(&self, path: &Path) -> bool {
        let text = path.to_string_lossy();
        self.patterns.iter().any(|pattern| !pattern.includes && pattern.may_match_below(&text))
    }

    /// Whether there is no pattern.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether some pattern brings back what others exclude.
    pub(crate) fn brings_back(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.includes)
    }

    /// Whether a pattern excludes everything in the context.
    pub(crate) fn leaves_nothing(&self) -> bool {
        let all = |pattern: &Pattern| matches!(pattern.written.as_str(), "*" | "**" | "**/*");
        self.patterns.iter().any(all)
    }

    /// Says what to do with a path, given the state of its directory; returns the state for what
    /// is below it. The path is relative to the context.
    #[must_use]
    pub fn decide(&self, path: &Path, is_directory: bool, parent: &State) -> (Verdict, State) {
        let (text, last, state) = self.matches(path, parent);
        if last.is_none_or(|index| self.patterns[index].includes) {
            return (Verdict::Keep, state);
        }
        let may_return = |pattern: &Pattern| pattern.includes && pattern.may_match_below(&text);
        let verdict = if is_directory && self.patterns.iter().any(may_return) {
            Verdict::Skip
        } else {
            Verdict::SkipTree
        };
        (verdict, state)
    }

    /// Says what to do with a path relative to the context, whatever was asked before.
    ///
    /// Walkers of many paths hand the state of each directory on with [`Patterns::decide`] instead.
    #[must_use]
    pub fn verdict(&self, path: &Path, is_directory: bool) -> Verdict {
        self.decide(path, is_directory, &self.state_above(path)).0
    }

    /// Returns the pattern that excludes the path, if it is excluded.
    #[must_use]
    pub fn reason(&self, path: &Path) -> Option<Reason> {
        let (_, last, _) = self.matches(path, &self.state_above(path));
        let pattern = last.map(|index| &self.patterns[index]).filter(|it| !it.includes)?;
        Some(Reason { pattern: pattern.written.clone(), line: pattern.line })
    }

    /// Returns the state for what is in `directory`, whatever was asked before.
    #[must_use]
    pub fn state_of(&self, directory: &Path) -> State {
        if directory.as_os_str().is_empty() {
            return State::default();
        }
        self.matches(directory, &self.state_above(directory)).2
    }

    fn state_above(&self, path: &Path) -> State {
        let mut state = State::default();
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.pop();
        for directory in above.into_iter().rev() {
            state = self.matches(directory, &state).2;
        }
        state
    }

    /// Returns the path as text, the last pattern that matched, and the state for what is below.
    fn matches(&self, path: &Path, parent: &State) -> (String, Option<usize>, State) {
        // Names that are no UTF-8 match as if their odd bytes were U+FFFD, as in Go.
        let text = path.to_string_lossy().into_owned();
        let mut last = None;
        let mut excluded = false;
        let mut state = vec![false; self.patterns.len()];
        for (index, pattern) in self.patterns.iter().enumerate() {
            // A pattern that would change nothing is not asked; that it may therefore not count
            // for what is below is a rule of the original.
            let matched = parent.0.get(index).copied().unwrap_or(false)
                || (pattern.includes == excluded && pattern.is_match(&text));
            state[index] = matched;
            if matched {
                excluded = !pattern.includes;
                last = Some(index);
            }
        }
        (text, last, State(state))
    }
}

#[cfg(test)]
mod tests;
