//! Any bytes parse as a Dockerfile, or are refused at a place inside the text. What parses is
//! checked, and its triggers are read.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use rpub::dockerfile::{self, Frontend, InstructionKind, Surroundings};
use rpub::ignore::Patterns;

fuzz_target!(|bytes: &[u8]| {
    let text = match dockerfile::decode(bytes.to_vec()) {
        Ok(text) => text,
        Err(refusal) => {
            let span = refusal.error.span;
            let _ = &refusal.text[span.start..span.end];
            return;
        }
    };
    let none = BTreeMap::new();
    let _ = Frontend::of(&text, &none);
    let file = match dockerfile::parse(&text) {
        Ok(file) => file,
        Err(error) => {
            let _ = &text[error.span.start..error.span.end];
            let _ = error.position(&text);
            return;
        }
    };
    for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
        let _ = &text[instruction.span.start..instruction.span.end];
        if let InstructionKind::Onbuild(onbuild) = &instruction.kind {
            let _ = dockerfile::parse_trigger(&onbuild.trigger);
        }
    }
    let surroundings = Surroundings {
        build_args: &none,
        predefined: &[],
        bases: &BTreeMap::new(),
        stages: None,
        other_platforms: &[],
        ignored: &Patterns::default(),
        is_reference: &|text| !text.is_empty(),
    };
    if let Ok(checked) = file.check(&surroundings) {
        for warning in checked.warnings {
            let _ = &text[warning.span.start..warning.span.end];
            let _ = &text[warning.location.start..warning.location.end];
        }
    }
    for stage in 0..file.stages.len() {
        let _ = file.parameters(&surroundings, stage);
    }
});
