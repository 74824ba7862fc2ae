//! From a branch, a tag or nothing to a commit.

use std::time::Duration;

use super::address::Address;
use super::program::Program;
use crate::remote::{Error, Result};

/// How long the list of references may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What a reference means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The object: a commit, or the tag that names one.
    pub(super) object: String,
    /// The commit, when it is known to be one.
    commit: Option<String>,
    /// The full name of the branch or tag.
    pub(super) name: Option<String>,
}

impl Resolved {
    pub(super) fn commit(id: &str) -> Self {
        Self { object: id.to_owned(), commit: Some(id.to_owned()), name: None }
    }

    /// Returns the commit when it needs no look into the repository. A branch names a commit; a
    /// plain tag does as well, when the other side lists no commit behind it.
    pub(super) fn known_commit(&self) -> Option<&str> {
        self.commit.as_deref()
    }
}

/// Returns whether `text` is the whole name of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Refuses what git would take for an option or a pattern (git-check-ref-format(1)).
pub(super) fn check(reference: &str, address: &Address) -> Result<()> {
    let is_bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    if reference.starts_with('-') || reference.contains(is_bad) || reference.contains("..") {
        return Err(Error::NoReference {
            remote: address.shown.clone(),
            reference: reference.to_owned(),
        });
    }
    Ok(())
}

/// Asks the other side what `reference` is; the default branch for `None`.
pub(super) fn ask(program: &Program<'_>, reference: Option<&str>) -> Result<Resolved> {
    let remote = program.remote();
    let peeled = reference.map(|name| format!("{name}^{{}}"));
    let mut args = vec!["ls-remote"];
    if reference.is_none() {
        args.push("--symref");
    }
    args.extend(["--", remote, reference.unwrap_or("HEAD")]);
    args.extend(peeled.as_deref());
    let output = program.ask(&args, LIMIT)?;
    let lines = String::from_utf8_lossy(&output);
    let found = match reference {
        Some(reference) => choose(&lines, reference),
        None => default_branch(&lines),
    };
    found.ok_or_else(|| Error::NoReference {
        remote: program.shown().to_owned(),
        reference: reference.unwrap_or("HEAD").to_owned(),
    })
}

/// Chooses among the lines of `ls-remote`: the reference of that very name, a branch, a tag, as
/// `git checkout` does.
fn choose(lines: &str, reference: &str) -> Option<Resolved> {
    let pairs: Vec<(&str, &str)> = lines.lines().filter_map(|l| l.split_once('\t')).collect();
    let find = |name: &str| {
        let found = pairs.iter().find(|(_, other)| *other == name);
        found.map(|(id, _)| *id).filter(|id| is_commit(id))
    };
    let bare = |prefix: &str| reference.strip_prefix(prefix).unwrap_or(reference).to_owned();
    let names = [
        format!("refs/{}", bare("refs/")),
        format!("refs/heads/{}", bare("refs/heads/")),
        format!("refs/tags/{}", bare("refs/tags/")),
        reference.to_owned(),
    ];
    let (name, object) = names.iter().find_map(|name| Some((name, find(name)?)))?;
    let commit = find(&format!("{name}^{{}}"))
        .or_else(|| (!name.starts_with("refs/tags/") || pairs.len() == 1).then_some(object));
    let (object, commit) = (object.to_owned(), commit.map(str::to_owned));
    Some(Resolved { object, commit, name: Some(name.clone()) })
}

/// Reads `ls-remote --symref`: a line `ref: refs/heads/main<tab>HEAD` before that of `HEAD`.
fn default_branch(lines: &str) -> Option<Resolved> {
    let pairs = || lines.lines().filter_map(|line| line.split_once('\t'));
    let (id, _) = pairs().find(|(id, name)| *name == "HEAD" && is_commit(id))?;
    let branch = pairs().find_map(|(target, _)| target.strip_prefix("ref: "));
    let name = Some(branch.unwrap_or("HEAD").to_owned());
    Some(Resolved { object: id.to_owned(), commit: Some(id.to_owned()), name })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn a_branch_comes_before_a_tag_and_a_tag_means_its_commit() {
        let both = format!("{A}\trefs/heads/v1\n{B}\trefs/tags/v1\n");
        let chosen = choose(&both, "v1").unwrap();
        assert_eq!((chosen.object.as_str(), chosen.known_commit()), (A, Some(A)));
        assert_eq!(choose(&both, "refs/tags/v1").unwrap().object, B);
        let annotated = format!("{A}\trefs/tags/v1\n{B}\trefs/tags/v1^{{}}\n");
        let chosen = choose(&annotated, "v1").unwrap();
        assert_eq!((chosen.object.as_str(), chosen.known_commit()), (A, Some(B)));
        assert_eq!(chosen.name.as_deref(), Some("refs/tags/v1"));
    }

    #[test]
    fn a_longer_name_with_the_same_end_is_another() {
        assert_eq!(choose(&format!("{A}\trefs/heads/old/main\n"), "main"), None);
        assert_eq!(choose("", "main"), None);
        let pull = format!("{A}\trefs/pull/1/head\n");
        assert_eq!(choose(&pull, "pull/1/head").unwrap().object, A);
    }

    #[test]
    fn reads_the_default_branch() {
        let lines = format!("ref: refs/heads/trunk\tHEAD\n{A}\tHEAD\n{B}\trefs/remotes/x/HEAD\n");
        let found = default_branch(&lines).unwrap();
        assert_eq!((found.name.as_deref(), found.object.as_str()), (Some("refs/heads/trunk"), A));
        assert_eq!(default_branch(""), None);
    }
}
