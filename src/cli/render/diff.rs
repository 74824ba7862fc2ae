//! Two texts line by line, as `diff -u` shows them.

use std::fmt::Write as _;

/// How many lines around a change are shown.
const CONTEXT: usize = 3;
/// How many pairs of lines are compared: 16 million cells are 64 MB, for texts of 4000 lines that
/// have nothing in common. Beyond, all of the one is replaced by all of the other.
const MAX_CELLS: usize = 16 << 20;

/// One line of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Both(&'a str),
    Removed(&'a str),
    Added(&'a str),
}

/// Returns what differs between two texts called `names`, in unified form; nothing when they are
/// the same.
pub(crate) fn unified(names: [&str; 2], before: &str, after: &str) -> String {
    let lines = compare(&before.lines().collect::<Vec<_>>(), &after.lines().collect::<Vec<_>>());
    let changed: Vec<usize> =
        (0..lines.len()).filter(|at| !matches!(lines[*at], Line::Both(_))).collect();
    let mut out = String::new();
    let Some(mut first) = changed.first().copied() else { return out };
    // Writing to a string cannot fail.
    let _ = writeln!(out, "--- {}\n+++ {}", names[0], names[1]);
    let mut last = first;
    for at in changed.into_iter().skip(1).chain([usize::MAX]) {
        if at - last > 2 * CONTEXT + 1 {
            hunk(&lines, first, last, &mut out);
            first = at;
        }
        last = at;
    }
    out
}

/// Writes the lines from `first` to `last` with some around them.
fn hunk(lines: &[Line<'_>], first: usize, last: usize, out: &mut String) {
    let (start, end) = (first.saturating_sub(CONTEXT), (last + CONTEXT + 1).min(lines.len()));
    let count = |lines: &[Line<'_>], other: fn(&Line<'_>) -> bool| {
        lines.iter().filter(|line| !other(line)).count()
    };
    let sides = [
        |line: &Line<'_>| matches!(line, Line::Added(_)),
        |line: &Line<'_>| matches!(line, Line::Removed(_)),
    ];
    let ranges = sides.map(|other| {
        let (before, within) = (count(&lines[..start], other), count(&lines[start..end], other));
        // An empty range is said to be after the line before it.
        format!("{},{within}", if within == 0 { before } else { before + 1 })
    });
    let _ = writeln!(out, "@@ -{} +{} @@", ranges[0], ranges[1]);
    for line in &lines[start..end] {
        let _ = match line {
            Line::Both(text) => writeln!(out, " {text}"),
            Line::Removed(text) => writeln!(out, "-{text}"),
            Line::Added(text) => writeln!(out, "+{text}"),
        };
    }
}

/// Finds a longest common subsequence; what both begin and end with is set aside first.
fn compare<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<Line<'a>> {
    let start = before.iter().zip(after).take_while(|(a, b)| a == b).count();
    let ends = before[start..].iter().rev().zip(after[start..].iter().rev());
    let end = ends.take_while(|(a, b)| a == b).count();
    let mut lines: Vec<Line<'a>> = before[..start].iter().map(|text| Line::Both(text)).collect();
    middle(&before[start..before.len() - end], &after[start..after.len() - end], &mut lines);
    lines.extend(before[before.len() - end..].iter().map(|text| Line::Both(text)));
    lines
}

fn middle<'a>(old: &[&'a str], new: &[&'a str], lines: &mut Vec<Line<'a>>) {
    let width = new.len() + 1;
    if (old.len() + 1).saturating_mul(width) > MAX_CELLS {
        lines.extend(old.iter().map(|text| Line::Removed(text)));
        lines.extend(new.iter().map(|text| Line::Added(text)));
        return;
    }
    // How many lines the texts from a pair of lines on have in common.
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for at in (0..old.len()).rev() {
        for to in (0..new.len()).rev() {
            common[at * width + to] = if old[at] == new[to] {
                common[(at + 1) * width + to + 1] + 1
            } else {
                common[(at + 1) * width + to].max(common[at * width + to + 1])
            };
        }
    }
    let (mut at, mut to) = (0, 0);
    while at < old.len() || to < new.len() {
        if at < old.len() && to < new.len() && old[at] == new[to] {
            lines.push(Line::Both(old[at]));
            (at, to) = (at + 1, to + 1);
        } else if to == new.len()
            || (at < old.len() && common[(at + 1) * width + to] >= common[at * width + to + 1])
        {
            lines.push(Line::Removed(old[at]));
            at += 1;
        } else {
            lines.push(Line::Added(new[to]));
            to += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_shown_with_some_lines_around() {
        let before = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n";
        let after = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n";
        assert_eq!(
            unified(["a", "b"], before, after),
            "--- a\n+++ b\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n@@ -12,3 +12,4 @@\n \
             12\n 13\n 14\n+15\n"
        );
    }

    #[test]
    fn the_same_is_nothing_and_all_else_is_found() {
        assert_eq!(unified(["a", "b"], "x\ny\n", "x\ny\n"), "");
        assert_eq!(unified(["a", "b"], "", "x\n"), "--- a\n+++ b\n@@ -0,0 +1,1 @@\n+x\n");
        let lines = compare(&["a", "b", "c", "d"], &["b", "x", "d", "e"]);
        let expected = [
            Line::Removed("a"),
            Line::Both("b"),
            Line::Removed("c"),
            Line::Added("x"),
            Line::Both("d"),
            Line::Added("e"),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn texts_without_end_are_replaced_as_a_whole() {
        let old: Vec<String> = (0..5000).map(|number| format!("old {number}")).collect();
        let new: Vec<String> = (0..5000).map(|number| format!("new {number}")).collect();
        let text = |lines: &[String]| lines.join("\n");
        let shown = unified(["a", "b"], &text(&old), &text(&new));
        assert_eq!(shown.lines().count(), 3 + 10_000);
    }
}
