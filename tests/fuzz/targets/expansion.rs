//! Any word expands or is refused, with some variables set and both escape characters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rpub::dockerfile::{expand_heredoc, expand_word, expand_words};

fuzz_target!(|text: &str| {
    let lookup = |name: &str| match name.len() {
        0 => None,
        length if length % 3 == 0 => Some(String::new()),
        length if length % 3 == 1 => Some("a/b/c.tar.gz".to_owned()),
        _ => None,
    };
    for escape in ['\\', '`'] {
        let _ = expand_word(text, escape, &lookup);
        let _ = expand_words(text, escape, &lookup);
    }
    let _ = expand_heredoc(text, &lookup);
});
