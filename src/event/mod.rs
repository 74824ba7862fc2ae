//! How work tells what it is doing. No drawing, no printing.
//!
//! Whoever does the work emits an [`Event`] to a [`Sink`]; only the command line draws. Positions
//! are absolute, so a retry or a resumed transfer simply reports a lower one.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::image::{Digest, Reference};

/// The stable number of one step of one build, from 1, in the order of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct StepId(pub u32);

/// The stable number of one transfer within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct TransferId(pub u64);

impl TransferId {
    /// Returns a number not used before in this process.
    #[must_use]
    pub fn next() -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Which way a transfer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From a registry.
    Pull,
    /// To a registry.
    Push,
    /// From the store into a snapshot.
    Unpack,
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferOutcome {
    /// The bytes were moved.
    Moved,
    /// The other side had them.
    AlreadyThere,
    /// The registry took them from another of its repositories.
    Mounted,
    /// It failed; the operation's error says why.
    Failed,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// It was executed.
    Done,
    /// Its result was in the cache.
    Cached,
    /// It failed; the operation's error says why.
    Failed,
    /// It was stopped because another step failed or the user asked.
    Canceled,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A line worth saying once, such as how steps are isolated.
    Note {
        /// The line, without a final newline.
        text: String,
    },
    /// Something the user should know though the work goes on.
    Warning {
        /// The line, without a final newline.
        text: String,
    },
    /// A warning about a place in a Dockerfile.
    #[serde(rename = "warning")]
    Finding(Box<Finding>),
    /// A step began.
    StepStarted {
        /// The step.
        step: StepId,
        /// Its name, as in `[build 2/5] RUN make`.
        name: String,
    },
    /// Why a step was not in the cache.
    StepMissed {
        /// The step.
        step: StepId,
        /// What differs, in a word: `file`, `variable`, `instruction`, `parent`, `base`, ...
        kind: String,
        /// The first thing in which it differs from the nearest earlier record.
        reason: String,
    },
    /// A running step wrote to its standard output or error.
    StepOutput {
        /// The step.
        step: StepId,
        /// Some of its output; lines may be cut anywhere.
        #[serde(serialize_with = "as_text")]
        bytes: Vec<u8>,
    },
    /// A step ended.
    StepFinished {
        /// The step.
        step: StepId,
        /// How.
        outcome: StepOutcome,
        /// How long it took.
        #[serde(rename = "seconds", serialize_with = "as_seconds")]
        elapsed: Duration,
    },
    /// A transfer began.
    TransferStarted {
        /// The transfer.
        transfer: TransferId,
        /// Which way.
        direction: Direction,
        /// What: a layer's or config's short digest, or a reference.
        name: String,
        /// Its size in bytes, when known.
        total_bytes: Option<u64>,
    },
    /// A transfer moved.
    TransferProgress {
        /// The transfer.
        transfer: TransferId,
        /// Bytes of the whole that are there now.
        position_bytes: u64,
    },
    /// A transfer ended.
    TransferFinished {
        /// The transfer.
        transfer: TransferId,
        /// How.
        outcome: TransferOutcome,
    },
    /// A request failed and is tried again.
    Retrying {
        /// What is being tried, as in `GET .../blobs/sha256:...`.
        what: String,
        /// Why the last try failed.
        reason: String,
        /// The number of the coming try, from 2.
        attempt: u32,
        /// How long the work waits first.
        #[serde(rename = "delay_seconds", serialize_with = "as_seconds")]
        delay: Duration,
    },
    /// A registry has asked for a pause, and nothing is sent to it until then.
    Waiting {
        /// The registry.
        what: String,
        /// How long the work waits.
        #[serde(rename = "delay_seconds", serialize_with = "as_seconds")]
        delay: Duration,
    },
    /// A registry has said how much of its quota is left.
    RateLimit {
        /// The registry.
        registry: String,
        /// How much is left.
        remaining: u64,
        /// How much there is.
        limit: Option<u64>,
        /// For how long, in seconds.
        window_seconds: Option<u64>,
    },
    /// A mirror served what was asked of the registry that it mirrors.
    ServedByMirror {
        /// The repository, under the name that it has there.
        mirror: String,
        /// The tag or digest of the content.
        content: String,
    },
    /// Nobody was asked what a name means: what it was last seen to mean counts.
    LastSeen {
        /// The image's name, or a URL without credentials and query.
        name: String,
        /// The manifest or index, or the file.
        digest: Digest,
        /// When it was seen.
        #[serde(serialize_with = "as_display")]
        at: Timestamp,
    },
    /// A tag now names a manifest, here or in a registry.
    Tagged {
        /// The tag.
        #[serde(serialize_with = "as_display")]
        reference: Reference,
        /// The manifest.
        digest: Digest,
    },
}

/// What a check found, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong there.
    pub text: String,
    /// The rule's name.
    pub rule: String,
    /// What the rule asks for.
    pub hint: String,
    /// The file's name as the user knows it.
    pub file: String,
    /// The line that docker's tools name, from 1.
    pub line: usize,
    /// The file's text.
    #[serde(skip)]
    pub source: Arc<str>,
    /// The bytes of the text that it is about.
    #[serde(skip)]
    pub span: Range<usize>,
}

/// Where events go.
pub trait Sink: Send + Sync {
    /// Takes one event. Must not block for long: it is called from the code that moves bytes.
    fn emit(&self, event: Event);
}

/// A sink that drops everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

impl Sink for Discard {
    fn emit(&self, _event: Event) {}
}

fn as_text<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}

fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn as_display<S, T>(value: &T, serializer: S) -> Result<S::Ok, S::Error>
where
    S: serde::Serializer,
    T: std::fmt::Display,
{
    serializer.collect_str(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_read_as_json_lines() {
        let event = Event::StepOutput { step: StepId(3), bytes: b"hi\n".to_vec() };
        let text = serde_json::to_string(&event).expect("serialises");
        assert_eq!(text, r#"{"event":"step_output","step":3,"bytes":"hi\n"}"#);
        let finding = Finding {
            text: "B".to_owned(),
            rule: "StageNameCasing".to_owned(),
            hint: "Stage names are in lower case.".to_owned(),
            file: "Dockerfile".to_owned(),
            line: 2,
            source: "\nFROM a AS B".into(),
            span: 11..12,
        };
        let event = Event::Finding(Box::new(finding));
        let text = serde_json::to_string(&event).expect("serialises");
        assert_eq!(
            text,
            r#"{"event":"warning","text":"B","rule":"StageNameCasing","hint":"Stage names are in lower case.","file":"Dockerfile","line":2}"#
        );
    }
}
