//! Any bytes are a manifest or index, or are refused; what is read keeps its bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rpub::image::Manifest;

fuzz_target!(|bytes: &[u8]| {
    let _ = Manifest::parse(bytes.to_vec(), None);
});
