//! Warnings as people read them; those of checks with the source line underlined, as errors are.

use std::fmt::Write as _;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet as Source};

use crate::event::Finding;

use super::text::{DIM, WARNING};

/// Returns a warning as a line.
pub(super) fn warning(text: &str) -> String {
    format!("{WARNING}warning{WARNING:#}: {text}\n")
}

/// Returns what a check found as text, with a final newline.
pub(super) fn finding(finding: &Finding) -> String {
    let title = format!("{}: {}", finding.rule, finding.text);
    let annotation = AnnotationKind::Primary.span(first_line(&finding.source, &finding.span));
    let source = Source::source(&*finding.source).path(&*finding.file).annotation(annotation);
    let report = [Level::WARNING.primary_title(&*title).element(source)];
    let mut rendered = Renderer::styled().render(&report);
    let _ = writeln!(rendered, "\n  {DIM}hint:{DIM:#} {}", finding.hint);
    rendered
}

/// Returns the part of a span that is on its first line, within the text, so that a long
/// instruction is pointed at and not repeated.
pub(super) fn first_line(text: &str, span: &std::ops::Range<usize>) -> std::ops::Range<usize> {
    let (start, end) = (span.start.min(text.len()), span.end.min(text.len()));
    let line_end = text[start..end].find('\n').map_or(end, |at| start + at);
    start..line_end
}
