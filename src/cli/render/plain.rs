//! Numbered lines, as BuildKit's plain progress writes them: readable in a CI log, in order.
//!
//! A step keeps its number for all its lines; a transfer has one line, when it ends. Numbers start
//! at 1 and appear in order.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::event::{Direction, Event, StepId, StepOutcome, TransferId, TransferOutcome};

use super::requests;
use super::text::{bytes, seconds};
use super::warning::{finding, warning};

/// Writes numbered lines to standard error.
pub(crate) struct Plain {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u32,
    steps: HashMap<StepId, Step>,
    transfers: HashMap<TransferId, Transfer>,
}

struct Step {
    number: u32,
    started: Instant,
    /// Output after the last newline.
    partial: Vec<u8>,
}

struct Transfer {
    started: Instant,
    label: String,
    total_bytes: Option<u64>,
    position_bytes: u64,
}

impl Plain {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::default()) }
    }

    pub(crate) fn emit(&self, event: Event) {
        let mut state = self.lock();
        match event {
            Event::Note { text } => anstream::eprintln!("{text}"),
            Event::Warning { text } => anstream::eprint!("{}", warning(&text)),
            Event::Finding(it) => anstream::eprint!("{}", finding(&it)),
            Event::StepStarted { step, name } => {
                let number = state.number();
                let one_line = name.lines().next().unwrap_or_default();
                anstream::eprintln!("#{number} {one_line}");
                state
                    .steps
                    .insert(step, Step { number, started: Instant::now(), partial: Vec::new() });
            }
            Event::StepOutput { step, bytes } => {
                if let Some(step) = state.steps.get_mut(&step) {
                    step.print(&bytes);
                }
            }
            Event::StepMissed { step, kind: _, reason } => {
                if let Some(step) = state.steps.get_mut(&step) {
                    step.flush();
                    anstream::eprintln!("#{} MISSED {reason}", step.number);
                }
            }
            Event::StepFinished { step, outcome, elapsed } => {
                if let Some(step) = state.steps.remove(&step) {
                    step.finish(&outcome, elapsed);
                }
            }
            Event::TransferStarted { transfer, direction, name, total_bytes } => {
                state.transfers.insert(transfer, Transfer::new(direction, &name, total_bytes));
            }
            Event::TransferProgress { transfer, position_bytes } => {
                if let Some(transfer) = state.transfers.get_mut(&transfer) {
                    transfer.position_bytes = position_bytes;
                }
            }
            Event::TransferFinished { transfer, outcome } => {
                // Numbered when it is printed, so that the numbers in the log have no gaps.
                if let Some(transfer) = state.transfers.remove(&transfer) {
                    let number = state.number();
                    anstream::eprintln!("#{number} {}", transfer.summary(&outcome));
                }
            }
            event @ (Event::Retrying { .. }
            | Event::Waiting { .. }
            | Event::RateLimit { .. }
            | Event::LastSeen { .. }) => {
                if let Some(line) = requests::line(&event) {
                    anstream::eprintln!("{line}");
                }
            }
            Event::ServedByMirror { .. } => {}
            Event::Tagged { reference, digest } => {
                let number = state.number();
                anstream::eprintln!("#{number} {} is {digest}", reference.familiar());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }
}

impl Step {
    fn print(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let mut rest = std::mem::take(&mut self.partial);
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            self.line(&line);
        }
        self.partial = rest;
    }

    fn finish(mut self, outcome: &StepOutcome, elapsed: Duration) {
        self.flush();
        let time = seconds(elapsed);
        let line = match outcome {
            StepOutcome::Done => format!("DONE {time}"),
            StepOutcome::Cached => "CACHED".to_owned(),
            StepOutcome::Failed => format!("ERROR after {time}"),
            StepOutcome::Canceled => "CANCELED".to_owned(),
        };
        anstream::eprintln!("#{} {line}", self.number);
    }

    fn flush(&mut self) {
        let rest = std::mem::take(&mut self.partial);
        if !rest.is_empty() {
            self.line(&rest);
        }
    }

    fn line(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        let time = self.started.elapsed().as_secs_f64();
        anstream::eprintln!("#{} {time:.3} {text}", self.number);
    }
}

impl Transfer {
    fn new(direction: Direction, name: &str, total_bytes: Option<u64>) -> Self {
        let label = format!("{} {name}", direction_word(direction));
        Self { started: Instant::now(), label, total_bytes, position_bytes: 0 }
    }

    fn summary(&self, outcome: &TransferOutcome) -> String {
        let label = &self.label;
        let size = self.total_bytes.unwrap_or(self.position_bytes);
        match outcome {
            TransferOutcome::Moved => {
                let elapsed = self.started.elapsed();
                let rate = super::text::bytes(rate(size, elapsed.as_secs_f64()));
                format!("{label} {} in {} ({rate}/s)", bytes(size), seconds(elapsed))
            }
            TransferOutcome::AlreadyThere => format!("{label} {} already there", bytes(size)),
            TransferOutcome::Mounted => format!("{label} {} mounted", bytes(size)),
            TransferOutcome::Failed => format!("{label} FAILED"),
        }
    }
}

/// Returns bytes a second.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is shown with three digits and is never negative"
)]
pub(super) fn rate(count: u64, elapsed_seconds: f64) -> u64 {
    (count as f64 / elapsed_seconds.max(0.001)) as u64
}

pub(super) fn direction_word(direction: Direction) -> &'static str {
    match direction {
        Direction::Pull => "pull",
        Direction::Push => "push",
        Direction::Unpack => "unpack",
    }
}
