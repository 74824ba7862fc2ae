//! Any tar unpacks or is refused, and nothing comes to be beside the directory it unpacks into.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rpub::layer::{ApplyOptions, Ownership, WhiteoutForm, apply};

fuzz_target!(|bytes: &[u8]| {
    let Ok(root) = tempfile::tempdir() else { return };
    let target = root.path().join("target");
    if std::fs::create_dir(&target).is_err() {
        return;
    }
    let options = ApplyOptions {
        ownership: Ownership::Ignore,
        whiteouts: WhiteoutForm::Plain,
        max_entries: 1_000,
        max_bytes: 1 << 20,
    };
    let _ = apply(bytes, &target, &options);
    let beside = std::fs::read_dir(root.path()).map_or(0, Iterator::count);
    assert_eq!(beside, 1, "something was made outside");
});
