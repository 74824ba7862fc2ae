//! Any text is an image reference or is refused; one prints as a text that reads as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rpub::image::Reference;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse::<Reference>().ok(), Some(reference));
    }
});
