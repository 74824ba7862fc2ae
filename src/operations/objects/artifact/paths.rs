//! Names of files that come from elsewhere: what of them may become a path here.

use std::path::{Component, Path, PathBuf};

/// Longest name of a file.
const MAX_LENGTH: usize = 4096;
/// Most directories in one.
const MAX_DEPTH: usize = 256;

/// Returns the path below a directory that a title names, without `.`; empty for the directory itself.
/// `None` when it leads elsewhere.
pub(super) fn below(title: &Path) -> Option<PathBuf> {
    if title.as_os_str().len() > MAX_LENGTH || title.as_os_str().as_encoded_bytes().contains(&0) {
        return None;
    }
    let mut path = PathBuf::new();
    for component in title.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (path.components().count() <= MAX_DEPTH).then_some(path)
}

/// Returns whether a symbolic link in the directory `parent`, a path below some root, leads to a place
/// below that root. `..` may only stand at its start: after a name, which may be a link too, it leads
/// nobody knows where.
pub(super) fn stays_below(parent: &Path, target: &Path) -> bool {
    let mut depth = parent.components().count();
    let mut has_descended = false;
    for component in target.components() {
        match component {
            Component::Normal(_) => has_descended = true,
            Component::CurDir => {}
            Component::ParentDir if !has_descended && depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    !target.as_os_str().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_down() {
        for (title, expected) in [
            ("a", Some("a")),
            ("./a//b/.", Some("a/b")),
            (".", Some("")),
            ("a..b/..c", Some("a..b/..c")),
            ("../a", None),
            ("a/../../b", None),
            ("a/..", None),
            ("/a", None),
        ] {
            assert_eq!(below(Path::new(title)), expected.map(PathBuf::from), "{title}");
        }
        assert_eq!(below(Path::new(&"x".repeat(5000))), None);
        assert_eq!(below(Path::new(&"x/".repeat(300))), None);
    }

    #[test]
    fn links_stay_below() {
        for (parent, target, expected) in [
            ("", "a", true),
            ("a", "../b", true),
            ("a/b", "../../c/d", true),
            ("", "../a", false),
            ("a", "../../b", false),
            ("a", "/etc", false),
            ("", "a/../b", false),
            ("a", "", false),
        ] {
            assert_eq!(
                stays_below(Path::new(parent), Path::new(target)),
                expected,
                "{parent} {target}"
            );
        }
    }
}
