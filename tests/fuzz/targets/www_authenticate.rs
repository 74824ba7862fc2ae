//! Any `WWW-Authenticate` header is read without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = rpub::registry::is_challenge(text);
});
