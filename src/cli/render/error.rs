//! Errors as people read them: what failed, where in the Dockerfile, why, what to do.

use std::error::Error as _;
use std::fmt::Write as _;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet as Source};

use crate::operations::{Error, Kind};

use super::text::{DIM, ERROR};
use super::warning::first_line;

/// How many of a failed step's last lines are repeated below the error.
const TAIL_LINES: usize = 20;

/// Returns the error as text, with a final newline.
pub(crate) fn error(error: &Error) -> String {
    let mut text = String::new();
    if let Some(output) = error.output.as_deref().filter(|output| !output.trim().is_empty()) {
        let lines: Vec<&str> = output.lines().collect();
        let start = lines.len().saturating_sub(TAIL_LINES);
        text.push_str("------\n");
        for line in &lines[start..] {
            let _ = writeln!(text, " > {line}");
        }
        text.push_str("------\n");
    }
    match &error.snippet {
        Some(snippet) => {
            let level = Level::ERROR;
            let span = snippet.span.start..snippet.span.end;
            let annotation = AnnotationKind::Primary.span(first_line(&snippet.text, &span));
            let source = Source::source(&*snippet.text).path(&*snippet.file).annotation(annotation);
            let report = [level.primary_title(&*error.message).element(source)];
            text.push_str(&Renderer::styled().render(&report));
            text.push('\n');
        }
        None => {
            let _ = writeln!(text, "{ERROR}error{ERROR:#}: {}", error.message);
        }
    }
    let mut said = error.message.clone();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let line = inner.to_string();
        if line != said {
            let _ = writeln!(text, "  {DIM}caused by:{DIM:#} {line}");
        }
        said = line;
        cause = inner.source();
    }
    for hint in &error.hints {
        let _ = writeln!(text, "  {DIM}hint:{DIM:#} {hint}");
    }
    text
}

/// Returns the exit code of a kind of failure.
pub(crate) fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::User | Kind::Network | Kind::Build | Kind::Reported | Kind::Internal => 1,
        Kind::Settings => 2,
        Kind::NotFound => 3,
        Kind::Denied => 4,
        Kind::RateLimited => 5,
        Kind::Partial => 6,
        Kind::Integrity => 7,
        Kind::Interrupted => 130,
    }
}
