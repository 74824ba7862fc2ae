//! `ONBUILD`: what a base wants to be done first in the stages that start from it.

use crate::dockerfile::{Instruction, Stage, parse_trigger};

use super::Error;

/// A trigger of a base.
#[derive(Debug, Clone)]
pub(super) struct Trigger {
    /// As the base stores it.
    text: String,
    /// What it does. Its spans are those of the `FROM` that fires it, but for the words inside.
    pub(super) instruction: Instruction,
}

impl Trigger {
    /// Reads a trigger of the base of `stage`.
    pub(super) fn parse(text: String, stage: &Stage) -> Result<Self, Error> {
        let parsed =
            parse_trigger(&text).map_err(|error| refusal(&error.to_string(), None, &text, stage));
        let mut instruction = parsed?;
        instruction.span = stage.span;
        instruction.keyword_span = stage.base.span;
        Ok(Self { text, instruction })
    }

    /// Says where the trigger fired: the place in it means nothing to the reader of the Dockerfile.
    pub(super) fn explain(&self, error: Error, stage: &Stage) -> Error {
        match error {
            Error::Refused { message, hint, .. } => refusal(&message, hint, &self.text, stage),
            other => other,
        }
    }
}

fn refusal(message: &str, hint: Option<String>, trigger: &str, stage: &Stage) -> Error {
    let line = trigger.lines().next().unwrap_or(trigger);
    let message = format!("in `ONBUILD {line}` of the base: {message}");
    Error::Refused { message, span: Some(stage.base.span), hint }
}
