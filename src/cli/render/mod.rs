//! Turns events into what people and programs read. The only place that draws.
//!
//! [`Progress`] is the sink of a command; which of the four ways it draws is decided once, from
//! `--progress`, `--quiet` and what standard error is.

mod bars;
mod error;
mod json;
mod plain;
mod table;
mod template;
mod text;

use std::io::IsTerminal;
use std::sync::Arc;

use crate::event::{Event, Sink};

pub(crate) use bars::Bars;
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
pub(crate) enum Progress {
    Bars(Bars),
    Plain(Plain),
    Json(JsonLines),
    Quiet,
}

impl Progress {
    /// Returns the way of drawing that `mode` means on this standard error.
    pub(crate) fn new(mode: ProgressMode) -> Arc<Self> {
        let is_terminal = std::io::stderr().is_terminal();
        Arc::new(match mode {
            ProgressMode::Auto if is_terminal => Self::Bars(Bars::new()),
            ProgressMode::Auto | ProgressMode::Plain => Self::Plain(Plain::new()),
            ProgressMode::Tty => Self::Bars(Bars::new()),
            ProgressMode::Quiet => Self::Quiet,
            ProgressMode::Rawjson => Self::Json(JsonLines::new()),
        })
    }

    /// Takes what is drawn off the screen, so that an error or a result can follow.
    pub(crate) fn finish(&self) {
        if let Self::Bars(bars) = self {
            bars.finish();
        }
    }
}

impl Sink for Progress {
    fn emit(&self, event: Event) {
        match self {
            Self::Bars(bars) => bars.emit(event),
            Self::Plain(plain) => plain.emit(event),
            Self::Json(json) => json.emit(&event),
            Self::Quiet => {
                if let Event::Warning { text } = event {
                    anstream::eprintln!("{}", text::warning(&text));
                }
            }
        }
    }
}
