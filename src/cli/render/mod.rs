//! Turns events into what people and programs read. The only place that draws.
//!
//! [`Progress`] is the sink of a command; which of the four ways it draws is decided once, from
//! `--progress`, `--quiet` and what standard error is.

mod bars;
mod diff;
mod error;
mod json;
mod plain;
mod requests;
mod table;
mod template;
mod text;
mod warning;

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::event::{Event, Sink};

pub(crate) use bars::Bars;
pub(crate) use diff::unified;
pub(crate) use error::{error, exit_code};
pub(crate) use json::JsonLines;
pub(crate) use plain::Plain;
pub(crate) use table::Table;
pub(crate) use template::fill;
pub(crate) use text::{age, bytes};

/// The value of `--progress`, in docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ProgressMode {
    /// Bars on a terminal, plain lines elsewhere.
    #[default]
    Auto,
    /// Bars.
    Tty,
    /// Numbered lines.
    Plain,
    /// Nothing but warnings and errors.
    #[value(alias = "none")]
    Quiet,
    /// One JSON object a line, for programs.
    Rawjson,
}

/// The sink that a command draws with.
pub(crate) struct Progress {
    way: Way,
    /// How many warnings came from checks.
    findings: AtomicUsize,
}

/// The ways to draw.
enum Way {
    Bars(Bars),
    Plain(Plain),
    Json(JsonLines),
    Quiet,
}

impl Progress {
    /// Returns the way of drawing that `mode` means on this standard error.
    pub(crate) fn new(mode: ProgressMode) -> Arc<Self> {
        let is_terminal = std::io::stderr().is_terminal();
        let way = match mode {
            ProgressMode::Auto if is_terminal => Way::Bars(Bars::new()),
            ProgressMode::Auto | ProgressMode::Plain => Way::Plain(Plain::new()),
            ProgressMode::Tty => Way::Bars(Bars::new()),
            ProgressMode::Quiet => Way::Quiet,
            ProgressMode::Rawjson => Way::Json(JsonLines::new()),
        };
        Arc::new(Self { way, findings: AtomicUsize::new(0) })
    }

    /// Takes what is drawn off the screen, so that an error or a result can follow.
    pub(crate) fn finish(&self) {
        if let Way::Bars(bars) = &self.way {
            bars.finish();
        }
    }

    /// Returns how many warnings came from checks so far.
    pub(crate) fn findings(&self) -> usize {
        self.findings.load(Ordering::Relaxed)
    }
}

impl Sink for Progress {
    fn emit(&self, event: Event) {
        if matches!(&event, Event::Finding(_)) {
            self.findings.fetch_add(1, Ordering::Relaxed);
        }
        match &self.way {
            Way::Bars(bars) => bars.emit(event),
            Way::Plain(plain) => plain.emit(event),
            Way::Json(json) => json.emit(&event),
            Way::Quiet => match event {
                Event::Warning { text } => anstream::eprint!("{}", warning::warning(&text)),
                Event::Finding(it) => anstream::eprint!("{}", warning::finding(&it)),
                _ => {}
            },
        }
    }
}
