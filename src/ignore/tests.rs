use std::path::Path;

use proptest::prelude::*;

use crate::ignore::{Patterns, Verdict};

fn is_excluded(patterns: &str, path: &str) -> bool {
    let patterns = Patterns::parse(patterns).unwrap();
    patterns.verdict(Path::new(path), false) != Verdict::Keep
}

#[test]
fn patterns_match_as_in_moby() {
    for (pattern, path, expected) in [
        ("**", "file", true),
        ("**", "dir/file", true),
        ("**/", "file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir", false),
        ("dir/**", "dir/dir2/file", true),
        ("**/dir", "dir/file", true),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/**", "dir/dir2/dir2/file", true),
        ("**file", "file", true),
        ("**file", "dir/file", true),
        ("**/file", "dir/file", true),
        ("**/file", "dirfile", false),
        ("**/*.txt", "a/b.txt", true),
        ("**/*.txt", "b.txt", true),
        ("a**/*.txt", "ab/c.txt", true),
        ("a/**/*.txt", "a/b/c/d.txt", true),
        ("a/**/*.txt", "a/d.txt", true),
        ("a[b-d]e", "ace", true),
        ("a[b-d]e", "aae", false),
        ("a[^b-d]e", "afe", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "axb", false),
        ("a?b", "axb", true),
        ("a?b", "a/b", false),
        ("*", "x/y", true),
        ("*/y", "x/y/z", true),
        ("abc.def", "abcxdef", false),
        ("a(b)c/def", "a(b)c/def/x", true),
        ("/file", "file", true),
        ("./dir/../file", "file", true),
        ("../file", "file", false),
        ("dir/", "dir/file", true),
        ("  dir  ", "dir", true),
        ("#dir", "#dir", false),
        (" #dir", "#dir", true),
        (".", "file", false),
        ("é?", "éü", true),
        ("docs\n!docs/README.md", "docs/README.md", false),
        ("docs\n!docs/README.md", "docs/other.md", true),
        ("docs\n! docs/README.md ", "docs/README.md", false),
        ("docs\n!docs/README.md\ndocs/*.md", "docs/README.md", true),
        ("*\n!src", "src/deep/file", false),
        ("!src\n*", "src/file", true),
        ("**\n!**/*.rs", "a/b.rs", false),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
        ("\u{feff}dir", "dir", true),
        ("dir\r\nfile\r\n", "dir", true),
    ] {
        assert_eq!(is_excluded(pattern, path), expected, "{pattern:?} {path}");
    }
}

#[test]
fn bad_patterns_are_refused_with_their_line() {
    for (text, message, line) in [
        ("a\n!", "illegal exclusion pattern: \"!\"", 2),
        ("a\n\n# x\n[", "syntax error in pattern", 4),
        ("[]a]", "syntax error in pattern", 1),
        ("[-x]", "syntax error in pattern", 1),
        ("a\\", "syntax error in pattern", 1),
        ("[z-a]", "syntax error in pattern", 1),
    ] {
        let error = Patterns::parse(text).unwrap_err();
        assert_eq!((error.message.as_str(), error.line), (message, line), "{text}");
    }
}

#[test]
fn directories_are_pruned_unless_something_below_may_return() {
    for (text, directory, expected) in [
        ("node_modules", "node_modules", Verdict::SkipTree),
        ("node_modules\n!src/keep", "node_modules", Verdict::SkipTree),
        ("node_modules\n!node_modules/keep", "node_modules", Verdict::Skip),
        ("**\n!*.md", "docs", Verdict::SkipTree),
        ("**\n!*/x.md", "docs", Verdict::Skip),
        ("**\n!**/x.md", "docs", Verdict::Skip),
        ("a\n!a/b/c", "a/b", Verdict::Skip),
        ("a\n!a/b/c", "a/d", Verdict::SkipTree),
        ("a\n!a[^b]c", "a", Verdict::Skip),
        ("x", "y", Verdict::Keep),
    ] {
        let patterns = Patterns::parse(text).unwrap();
        assert_eq!(patterns.verdict(Path::new(directory), true), expected, "{text:?}");
    }
}

#[test]
fn reasons_name_pattern_and_line() {
    let patterns = Patterns::parse("# comment\n*.log\n!keep.log\n build \n").unwrap();
    let reason = patterns.reason(Path::new("build/out/x")).unwrap();
    assert_eq!((reason.pattern.as_str(), reason.line), ("build", 4));
    assert_eq!(patterns.reason(Path::new("a.log")).unwrap().line, 2);
    assert_eq!(patterns.reason(Path::new("keep.log")), None);
    assert_eq!(patterns.reason(Path::new("src")), None);
}

#[test]
fn directories_that_may_hold_a_match_are_known() {
    let cases = [
        ("a/b/*.txt", "a", true),
        ("a/b/*.txt", "a/b", true),
        ("a/b/*.txt", "a/c", false),
        ("a/b/*.txt", "a/b/x", false),
        ("**/x", "a/b/c", true),
        ("a/**", "b", false),
        ("!a/b", "a", false),
    ];
    for (pattern, directory, expected) in cases {
        let patterns = Patterns::parse(pattern).unwrap();
        assert_eq!(patterns.may_match_below(Path::new(directory)), expected, "{pattern}");
    }
}

#[test]
fn a_hundred_thousand_paths_take_a_moment() {
    let text = "node_modules\n**/*.pyc\n.git\n*.log\n!keep.log\nbuild/**\n**/__pycache__\n";
    let patterns = Patterns::parse(text).unwrap();
    let mut kept = 0;
    for directory in 0..1000 {
        let directory = format!("src/d{}/e{directory}", directory / 10);
        let state = patterns.state_of(Path::new(&directory));
        let files = (0..100).map(|n| format!("{directory}/file{n}.py"));
        let is_kept =
            |path: &String| patterns.decide(Path::new(path), false, &state).0 == Verdict::Keep;
        kept += files.filter(is_kept).count();
    }
    assert_eq!(kept, 100_000);
}

#[test]
fn wildcards_stars_and_parents() {
    let cases = [
        ("**/", "one/two", true),
        ("**/**", "one", true),
        ("**/**/*.go", "x.go", true),
        ("**/**/*.go", "one/two/x.go", true),
        ("**/**/*.go", "one/two/x.rs", false),
        ("**/lib", "lib", true),
        ("**/lib", "one/two/lib/x", true),
        ("**/lib/*", "one/lib/x", true),
        ("**/lib/**", "lib/lib/x", true),
        ("**/lib/**", "one/lib", false),
        ("**lib", "onelib", true),
        ("**/x*", "one/x.tar", true),
        ("**/x*tar", "one/two/x.tar", true),
        ("**/x*.t*", "one/two/x.tar", true),
        ("one**/*.go", "one/x.go", true),
        ("one**/*.go", "one/two/three/x.go", true),
        ("one**/*.go", "oneself/x.go", true),
        ("one/*.go", "one/two/x.go", false),
        ("one/*.go**", "one/x.go", true),
        ("one/**/two/**/x", "one/two/x", true),
        ("one/**/two/**/x", "one/a/b/two/c/x", true),
        ("one/**/two/**/x", "one/x", false),
        ("v[0-9]", "v7", true),
        ("v[0-9]", "v", false),
        ("v[0-9]", "v77", false),
        ("v[^0-9]", "vx", true),
        ("v[^0-9]", "v1", false),
        ("v[\\]x]", "v]", true),
        (".*", ".hidden", true),
        (".*", "shown", false),
        ("**/.git", "one/.git/config", true),
        ("**/.git", "one/x.git", false),
        ("a?c", "a/c", false),
        ("a?c", "abbc", false),
        ("x.|)$(}+{y", "x.|)$(}+{y", true),
        ("x+y", "xxy", false),
        ("dist/app-1.2.3+local.whl", "dist/app-1.2.3+local.whl", true),
        ("dist/*.whl", "dist/app-1.2.3+local.whl", true),
        ("one/**", "one/two/three", true),
        ("one/**", "ones/two", false),
        ("one/two", "one", false),
        ("**\n!one/two", "one/two/x", false),
        ("**\n!one/two\none/two/x", "one/two/x", true),
        ("one\n!one/two\none/two/x", "one/two/y", false),
        ("!one\none", "one", true),
        ("one\n!**/two", "one/a/two", false),
        ("one/*\n!one/two\n**/x", "one/two/x", true),
    ];
    for (pattern, path, expected) in cases {
        assert_eq!(is_excluded(pattern, path), expected, "{pattern:?} {path}");
    }
}

/// Matches components one by one: another way to say what a pattern means.
fn glob(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], path) => path.is_empty(),
        (["**"], path) => !path.is_empty(),
        (["**", rest @ ..], path) => (0..=path.len()).any(|skip| glob(rest, &path[skip..])),
        ([first, rest @ ..], [name, below @ ..]) => {
            (matches!(*first, "*" | "?") || first == name) && glob(rest, below)
        }
        (_, []) => false,
    }
}

/// Asks as moby does: directories first, each pattern's answer handed down; a pattern that cannot
/// change the outcome is not asked.
fn excludes(patterns: &str, path: &str) -> bool {
    let patterns: Vec<&str> = patterns.lines().filter(|line| !line.is_empty()).collect();
    let names: Vec<&str> = path.split('/').collect();
    let mut above = vec![false; patterns.len()];
    let mut is_excluded = false;
    for depth in 1..=names.len() {
        is_excluded = false;
        for (pattern, matched) in patterns.iter().zip(&mut above) {
            let (brings_back, text) = match pattern.strip_prefix('!') {
                Some(text) => (true, text),
                None => (false, *pattern),
            };
            let components: Vec<&str> = text.split('/').collect();
            *matched =
                *matched || (brings_back == is_excluded && glob(&components, &names[..depth]));
            if *matched {
                is_excluded = !brings_back;
            }
        }
    }
    is_excluded
}

fn patterns() -> impl Strategy<Value = String> {
    proptest::collection::vec(r"!?(\*\*/)?[ab*?](/[ab*]|/\*\*){0,2}", 0..6)
        .prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn patterns_mean_what_their_components_mean(
        text in proptest::collection::vec(r"!?(\*\*/)?[ab*?](/[ab*]|/\*\*){0,3}", 0..6),
        path in "[ab](/[ab]){0,4}",
    ) {
        let text = text.join("\n");
        prop_assert_eq!(is_excluded(&text, &path), excludes(&text, &path), "{}", text);
    }

    #[test]
    fn any_text_parses_or_is_refused(text in r"([\[\]^!\\*?/.a-c\n -]|\PC){0,30}", path in "[a-c/]{0,8}") {
        if let Ok(patterns) = Patterns::parse(&text) {
            let path = Path::new(&path);
            let is_kept = patterns.verdict(path, false) == Verdict::Keep;
            prop_assert_eq!(patterns.reason(path).is_none(), is_kept);
        }
    }

    #[test]
    fn pruning_hides_nothing_and_states_are_handed_on(
        text in patterns(),
        path in "[ab]/[ab]/[ab](/[ab])?",
    ) {
        let patterns = Patterns::parse(&text).unwrap();
        let path = Path::new(&path);
        let verdict = patterns.verdict(path, false);
        let mut state = patterns.state_of(Path::new(""));
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.pop();
        for directory in above.into_iter().rev() {
            state = patterns.decide(directory, true, &state).1;
            prop_assert_eq!(&patterns.state_of(directory), &state);
        }
        prop_assert_eq!(patterns.decide(path, false, &state).0, verdict);
        if verdict == Verdict::Keep {
            for directory in path.ancestors().skip(1).filter(|it| !it.as_os_str().is_empty()) {
                prop_assert_ne!(patterns.verdict(directory, true), Verdict::SkipTree);
            }
        }
    }
}
