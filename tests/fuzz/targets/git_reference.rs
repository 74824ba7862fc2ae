//! Any text is an address of a git repository, or is not, or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rpub::dockerfile::GitReference;

fuzz_target!(|text: &str| {
    if let Ok(Some(reference)) = GitReference::parse(text) {
        let _ = reference.name();
    }
    let _ = GitReference::parse_known(text);
});
