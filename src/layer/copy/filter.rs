//! Which files of a source take part: what the ignore file, `--exclude` and `--parents` leave.

use std::path::Path;

use crate::ignore::{Patterns, State, Verdict};

/// The rules for one source.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    /// What the tree does not have: patterns of paths below the tree's root.
    pub(super) ignored: &'a Patterns,
    /// `--exclude`: patterns of paths below the source.
    pub(super) excluded: &'a Patterns,
    /// `--parents`: what below the source is taken, with the directories it is in.
    pub(super) included: Option<&'a Patterns>,
    /// The source's path in the tree.
    pub(super) base: &'a Path,
}

/// What the patterns have said of a directory and those above it.
#[derive(Debug, Clone, Default)]
pub(super) struct Above {
    ignored: State,
    excluded: State,
    included: State,
}

/// What becomes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Take {
    /// It takes part.
    All,
    /// A directory that is there if something below it is.
    IfNeeded,
    /// A directory that is only made for what is below it: one that exists keeps its owner.
    AsParent,
    /// Nothing of it.
    Nothing,
}

impl<'a> Rules<'a> {
    /// Returns the rules of a tree where everything takes part but for `ignored`.
    pub(super) fn of_tree(ignored: &'a Patterns, none: &'a Patterns) -> Self {
        Self { ignored, excluded: none, included: None, base: Path::new("") }
    }

    /// Returns what is known above the files that are in the source itself.
    pub(super) fn above(&self) -> Above {
        Above { ignored: self.ignored.state_of(self.base), ..Above::default() }
    }

    /// Returns whether every path takes part.
    pub(super) fn is_empty(&self) -> bool {
        self.ignored.is_empty() && self.excluded.is_empty() && self.included.is_none()
    }

    /// Says what becomes of `path` (below the tree's root), which is below the source, and what is
    /// known above the files in it.
    pub(super) fn decide(&self, path: &Path, is_directory: bool, above: &Above) -> (Take, Above) {
        if self.is_empty() {
            return (Take::All, Above::default());
        }
        let mut below = Above::default();
        let verdict;
        (verdict, below.ignored) = self.ignored.decide(path, is_directory, &above.ignored);
        let mut take = taken(verdict, is_directory, Take::IfNeeded);
        let inside = path.strip_prefix(self.base).unwrap_or(path);
        if take != Take::Nothing && !self.excluded.is_empty() {
            let verdict;
            (verdict, below.excluded) = self.excluded.decide(inside, is_directory, &above.excluded);
            take = take.max(taken(verdict, is_directory, Take::AsParent));
        }
        if let Some(included) = self.included.filter(|_| take != Take::Nothing) {
            let verdict;
            (verdict, below.included) = included.decide(inside, is_directory, &above.included);
            // Here a match takes, where in the others it leaves out.
            let is_match = verdict != Verdict::Keep;
            if !is_match {
                let may_be = is_directory && included.may_match_below(inside);
                take = take.max(if may_be { Take::AsParent } else { Take::Nothing });
            }
        }
        (take, below)
    }
}

fn taken(verdict: Verdict, is_directory: bool, entered: Take) -> Take {
    match verdict {
        Verdict::Keep => Take::All,
        Verdict::Skip if is_directory => entered,
        Verdict::Skip | Verdict::SkipTree => Take::Nothing,
    }
}
