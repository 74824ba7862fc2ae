//! Events as JSON lines on standard error, each with the time it happened.

use std::io::Write;

use serde::Serialize;

use crate::event::Event;

/// Writes one JSON object a line.
pub(crate) struct JsonLines {}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a Event,
}

impl JsonLines {
    pub(crate) fn new() -> Self {
        Self {}
    }

    #[expect(clippy::unused_self, reason = "the same shape as the other ways of drawing")]
    pub(crate) fn emit(&self, event: &Event) {
        let time = jiff::Timestamp::now().to_string();
        if let Ok(mut line) = serde_json::to_vec(&Line { time, event }) {
            line.push(b'\n');
            // A closed standard error must not stop the work.
            let _ = std::io::stderr().lock().write_all(&line);
        }
    }
}
