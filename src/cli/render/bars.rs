//! Bars on a terminal: one line a running step with its last output, one a transfer.
//!
//! What ends within a quarter of a second is never drawn, only said when it is done, so that cached
//! steps and small blobs do not flicker. A thread of its own shows and ticks the rest; it lives as
//! long as the [`Bars`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::event::{Direction, Event, StepId, StepOutcome, TransferId, TransferOutcome};

use super::plain::{direction_word, rate};
use super::requests;
use super::text::{DIM, bytes, cut, last_line, seconds, terminal_columns};
use super::warning::{finding, warning};

/// Draws at most this often a second; more only costs time.
const FRAMES: u8 = 15;
/// What takes less than this is not drawn.
const PATIENCE: Duration = Duration::from_millis(250);
/// How often the spinners turn.
const TICK: Duration = Duration::from_millis(100);

/// Draws with indicatif on standard error.
pub(crate) struct Bars {
    screen: Arc<Screen>,
}

struct Screen {
    bars: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    has_ticker: bool,
    // In the order of their numbers, so that what is shown together keeps its order.
    steps: BTreeMap<StepId, Step>,
    transfers: BTreeMap<TransferId, Transfer>,
}

/// A bar that is drawn once it has been there for a while.
struct Patient {
    bar: ProgressBar,
    started: Instant,
    is_shown: bool,
}

struct Step {
    line: Patient,
    name: String,
    /// Output after the last line break.
    partial: String,
}

struct Transfer {
    line: Patient,
    direction: Direction,
    label: String,
    total_bytes: Option<u64>,
}

impl Bars {
    pub(crate) fn new() -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(FRAMES);
        let bars = MultiProgress::with_draw_target(target);
        Self { screen: Arc::new(Screen { bars, state: Mutex::new(State::default()) }) }
    }

    /// Takes everything off the screen. What begins later is drawn again.
    pub(crate) fn finish(&self) {
        let mut state = self.screen.lock();
        let steps = std::mem::take(&mut state.steps).into_values().map(|step| step.line);
        let transfers = std::mem::take(&mut state.transfers).into_values().map(|t| t.line);
        steps.chain(transfers).for_each(|line| self.screen.take_off(&line));
        // Clearing fails only when the terminal is gone.
        let _ = self.screen.bars.clear();
    }

    pub(crate) fn emit(&self, event: Event) {
        let mut state = self.screen.lock();
        match event {
            Event::Note { text } => self.screen.say(&format!("{DIM}{text}{DIM:#}")),
            Event::Warning { text } => self.screen.say(warning(&text).trim_end()),
            Event::Finding(it) => self.screen.say(finding(&it).trim_end()),
            Event::StepStarted { step, name } => {
                let name = name.lines().next().unwrap_or_default().to_owned();
                state.steps.insert(step, Step::new(name));
                self.start_ticker(&mut state);
            }
            Event::StepOutput { step, bytes } => {
                if let Some(step) = state.steps.get_mut(&step) {
                    step.show(&bytes);
                }
            }
            Event::StepMissed { step, kind: _, reason } => {
                if let Some(step) = state.steps.get(&step) {
                    let text = format!("{} missed: {reason}", step.name);
                    self.screen.say(&format!("{DIM}{text}{DIM:#}"));
                }
            }
            Event::StepFinished { step, outcome, elapsed } => {
                if let Some(step) = state.steps.remove(&step) {
                    self.screen.take_off(&step.line);
                    self.screen.say(&step.summary(&outcome, elapsed));
                }
            }
            Event::TransferStarted { transfer, direction, name, total_bytes } => {
                state.transfers.insert(transfer, Transfer::new(direction, &name, total_bytes));
                self.start_ticker(&mut state);
            }
            Event::TransferProgress { transfer, position_bytes } => {
                if let Some(transfer) = state.transfers.get(&transfer) {
                    transfer.line.bar.set_position(position_bytes);
                }
            }
            Event::TransferFinished { transfer, outcome } => {
                if let Some(transfer) = state.transfers.remove(&transfer) {
                    self.screen.take_off(&transfer.line);
                    if let Some(line) = transfer.summary(&outcome) {
                        self.screen.say(&line);
                    }
                }
            }
            event @ (Event::Retrying { .. }
            | Event::Waiting { .. }
            | Event::RateLimit { .. }
            | Event::LastSeen { .. }) => {
                if let Some(line) = requests::line(&event) {
                    self.screen.say(&line);
                }
            }
            Event::ServedByMirror { .. } => {}
            Event::Tagged { reference, digest } => {
                // The whole digest is in the command's result.
                self.screen.say(&line('✓', &reference.familiar(), digest.short()));
            }
        }
    }

    fn start_ticker(&self, state: &mut State) {
        if std::mem::replace(&mut state.has_ticker, true) {
            return;
        }
        let screen = Arc::downgrade(&self.screen);
        let ticker = std::thread::Builder::new().name("progress".into());
        if let Err(error) = ticker.spawn(move || tick(&screen)) {
            tracing::debug!("no progress is drawn: {error}");
        }
    }
}

/// Shows what has been there long enough, and turns the spinners, until the screen is gone.
fn tick(screen: &Weak<Screen>) {
    loop {
        std::thread::sleep(TICK);
        let Some(screen) = screen.upgrade() else { return };
        let mut state = screen.lock();
        let State { steps, transfers, .. } = &mut *state;
        // Steps stay above transfers.
        let shown = steps.values().filter(|step| step.line.is_shown).count();
        let steps = steps.values_mut().map(|step| &mut step.line);
        for (at, line) in (shown..).zip(steps.filter(|line| line.is_due())) {
            line.is_shown = true;
            line.bar = screen.bars.insert(at, line.bar.clone());
        }
        for line in transfers.values_mut().map(|t| &mut t.line).filter(|line| line.is_due()) {
            line.is_shown = true;
            line.bar = screen.bars.add(line.bar.clone());
        }
        let steps = state.steps.values().map(|step| &step.line);
        let lines = steps.chain(state.transfers.values().map(|transfer| &transfer.line));
        lines.filter(|line| line.is_shown).for_each(|line| line.bar.tick());
    }
}

impl Screen {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_off(&self, line: &Patient) {
        line.bar.finish_and_clear();
        self.bars.remove(&line.bar);
    }

    /// Prints a line that stays, above the bars.
    fn say(&self, text: &str) {
        // Through anstream, so that NO_COLOR is honoured; between frames, so that bars stay below.
        self.bars.suspend(|| anstream::eprintln!("{text}"));
    }
}

impl Patient {
    fn new(total_bytes: Option<u64>, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(total_bytes, ProgressDrawTarget::hidden());
        let bar = bar.with_style(style(template));
        Self { bar, started: Instant::now(), is_shown: false }
    }

    fn is_due(&self) -> bool {
        !self.is_shown && self.started.elapsed() >= PATIENCE
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are this file's own.
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    style
        .progress_chars("━━╌")
        .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
        .with_key("seconds", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = out.write_str(&seconds(state.elapsed()));
        })
        .with_key("moved", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = out.write_str(&bytes(state.pos()));
            if let Some(total) = state.len() {
                let _ = write!(out, "/{}", bytes(total));
            }
        })
        .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let rate = rate(state.pos(), state.elapsed().as_secs_f64());
            let _ = write!(out, "{}/s", bytes(rate));
        })
}

/// Returns a line that stays: mark, text cut so that the note fits beside it, note.
fn line(mark: char, text: &str, note: &str) -> String {
    let room = terminal_columns().saturating_sub(note.chars().count() + 3);
    format!("{mark} {} {DIM}{note}{DIM:#}", cut(text, room))
}

impl Step {
    fn new(name: String) -> Self {
        let line = Patient::new(None, "{spinner} {prefix} {seconds:.dim}");
        // Spinner, time and the blanks between.
        line.bar.set_prefix(cut(&name, terminal_columns().saturating_sub(12)));
        Self { line, name, partial: String::new() }
    }

    fn show(&mut self, bytes: &[u8]) {
        let is_first = self.line.bar.message().is_empty();
        self.partial.push_str(&String::from_utf8_lossy(bytes));
        if let Some(last) = last_line(&self.partial) {
            if is_first {
                let two_lines = "{spinner} {prefix} {seconds:.dim}\n  {wide_msg:.dim}";
                self.line.bar.set_style(style(two_lines));
            }
            self.line.bar.set_message(last);
        }
        let rest = self.partial.rfind(['\n', '\r']).map_or(0, |at| at + 1);
        self.partial.drain(..rest);
        // A line that never ends is not kept whole: no terminal shows more than this.
        if self.partial.len() > 4096 {
            self.partial.clear();
        }
    }

    fn summary(&self, outcome: &StepOutcome, elapsed: Duration) -> String {
        match outcome {
            StepOutcome::Done => line('✓', &self.name, &seconds(elapsed)),
            StepOutcome::Cached => line('✓', &self.name, "cached"),
            StepOutcome::Failed => line('✗', &self.name, &seconds(elapsed)),
            StepOutcome::Canceled => line('-', &self.name, "canceled"),
        }
    }
}

impl Transfer {
    fn new(direction: Direction, name: &str, total_bytes: Option<u64>) -> Self {
        let template = match (direction, total_bytes) {
            // The worker says nothing until it is done.
            (Direction::Unpack, _) => "{spinner} {prefix} {seconds:.dim}",
            (Direction::Pull | Direction::Push, Some(_)) => {
                "  {prefix} {bar:24} {moved} {rate:.dim}"
            }
            (Direction::Pull | Direction::Push, None) => "  {prefix} {moved} {rate:.dim}",
        };
        let label = format!("{} {name}", direction_word(direction));
        let line = Patient::new(total_bytes, template);
        // Beside it: the bar (24), both sizes (13), the rate (8) and blanks.
        line.bar.set_prefix(cut(&label, terminal_columns().saturating_sub(51)));
        Self { line, direction, label, total_bytes }
    }

    /// Returns the line that stays, if one does: what did not move is counted in the command's
    /// summary, and an unpacked layer is said only when it took its time.
    fn summary(&self, outcome: &TransferOutcome) -> Option<String> {
        match outcome {
            TransferOutcome::Moved
                if self.direction == Direction::Unpack && !self.line.is_shown =>
            {
                None
            }
            TransferOutcome::Moved => {
                let size = self.total_bytes.unwrap_or_else(|| self.line.bar.position());
                let elapsed = self.line.started.elapsed();
                let rate = bytes(rate(size, elapsed.as_secs_f64()));
                let note = format!("{} in {} ({rate}/s)", bytes(size), seconds(elapsed));
                Some(line('✓', &self.label, &note))
            }
            TransferOutcome::AlreadyThere | TransferOutcome::Mounted => None,
            TransferOutcome::Failed => Some(line('✗', &self.label, "failed")),
        }
    }
}
