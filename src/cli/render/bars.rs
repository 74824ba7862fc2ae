//! Bars on a terminal: one line a running step with its last output, one a transfer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::event::{Event, StepId, StepOutcome, TransferId, TransferOutcome};

use super::plain::direction_word;
use super::text::{DIM, bytes, seconds, warning};

/// Draws with indicatif on standard error.
pub(crate) struct Bars {
    screen: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    steps: HashMap<StepId, Step>,
    transfers: HashMap<TransferId, Transfer>,
}

struct Step {
    bar: ProgressBar,
    name: String,
    partial: String,
}

struct Transfer {
    bar: ProgressBar,
    label: String,
    total_bytes: Option<u64>,
}

/// Draws at most this often a second; more only costs time.
const FRAMES: u8 = 15;

impl Bars {
    pub(crate) fn new() -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(FRAMES);
        Self {
            screen: MultiProgress::with_draw_target(target),
            state: Mutex::new(State::default()),
        }
    }

    pub(crate) fn finish(&self) {
        // Clearing fails only when the terminal is gone.
        let _ = self.screen.clear();
    }

    pub(crate) fn emit(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Note { text } => self.line(&format!("{DIM}{text}{DIM:#}")),
            Event::Warning { text } => self.line(&warning(&text)),
            Event::StepStarted { step, name } => {
                let bar = self.add(
                    ProgressBar::new_spinner(),
                    "{spinner} {prefix} {elapsed:.dim}\n  {msg:.dim}",
                );
                bar.set_prefix(name.lines().next().unwrap_or_default().to_owned());
                bar.enable_steady_tick(Duration::from_millis(120));
                state.steps.insert(step, Step { bar, name, partial: String::new() });
            }
            Event::StepOutput { step, bytes } => {
                if let Some(step) = state.steps.get_mut(&step) {
                    step.show(&bytes);
                }
            }
            Event::StepFinished { step, outcome, elapsed } => {
                if let Some(step) = state.steps.remove(&step) {
                    step.bar.finish_and_clear();
                    let (mark, note) = match outcome {
                        StepOutcome::Done => ("✓", seconds(elapsed)),
                        StepOutcome::Cached => ("✓", "cached".to_owned()),
                        StepOutcome::Failed => ("✗", seconds(elapsed)),
                        StepOutcome::Canceled => ("-", "canceled".to_owned()),
                    };
                    let name = step.name.lines().next().unwrap_or_default();
                    self.line(&format!("{mark} {name} {DIM}{note}{DIM:#}"));
                }
            }
            Event::TransferStarted { transfer, direction, name, total_bytes } => {
                let label = format!("{} {name}", direction_word(direction));
                let template = "  {prefix} {bar:24} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec:.dim}";
                let bar = self.add(ProgressBar::new(total_bytes.unwrap_or(0)), template);
                bar.set_prefix(label.clone());
                state.transfers.insert(transfer, Transfer { bar, label, total_bytes });
            }
            Event::TransferProgress { transfer, position_bytes } => {
                if let Some(transfer) = state.transfers.get(&transfer) {
                    transfer.bar.set_position(position_bytes);
                }
            }
            Event::TransferFinished { transfer, outcome } => {
                if let Some(transfer) = state.transfers.remove(&transfer) {
                    transfer.bar.finish_and_clear();
                    self.line(&transfer.summary(&outcome));
                }
            }
            Event::Retrying { what, reason, attempt, delay } => {
                self.line(&format!("{what}: {reason}; try {attempt} in {}", seconds(delay)));
            }
            Event::Tagged { reference, digest } => {
                self.line(&format!("✓ {} {DIM}{digest}{DIM:#}", reference.familiar()));
            }
        }
    }

    fn line(&self, text: &str) {
        // Through anstream, so that NO_COLOR is honoured; between frames, so that bars stay below.
        self.screen.suspend(|| anstream::eprintln!("{text}"));
    }

    fn add(&self, bar: ProgressBar, template: &str) -> ProgressBar {
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.screen.add(bar.with_style(style))
    }
}

impl Step {
    fn show(&mut self, bytes: &[u8]) {
        self.partial.push_str(&String::from_utf8_lossy(bytes));
        let last = self.partial.trim_end_matches(['\n', '\r']).rsplit(['\n', '\r']).next();
        let last = last.unwrap_or_default().to_owned();
        self.bar.set_message(last.clone());
        self.partial = if self.partial.ends_with('\n') { String::new() } else { last };
    }
}

impl Transfer {
    fn summary(&self, outcome: &TransferOutcome) -> String {
        let size = bytes(self.total_bytes.unwrap_or_else(|| self.bar.position()));
        let label = &self.label;
        match outcome {
            TransferOutcome::Moved => {
                format!("✓ {label} {DIM}{size} in {}{DIM:#}", seconds(self.bar.elapsed()))
            }
            TransferOutcome::AlreadyThere => format!("✓ {label} {DIM}{size} already there{DIM:#}"),
            TransferOutcome::Mounted => format!("✓ {label} {DIM}{size} mounted{DIM:#}"),
            TransferOutcome::Failed => format!("✗ {label}"),
        }
    }
}
