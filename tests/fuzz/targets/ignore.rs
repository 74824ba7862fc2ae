//! Any text is a list of patterns or is refused, and a path is excluded exactly when a pattern is
//! the reason for it. The first line is the path.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use rpub::ignore::{Patterns, Verdict};

fuzz_target!(|text: &str| {
    let (path, patterns) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(patterns) = Patterns::parse(patterns) else { return };
    let path = Path::new(path);
    let is_kept = patterns.verdict(path, false) == Verdict::Keep;
    assert_eq!(patterns.reason(path).is_none(), is_kept);
});
