//! Reads Dockerfiles: text in, typed instructions with source spans, warnings and errors out.
//!
//! Word expansion ([`expand_word`]), ignore patterns ([`Patterns`]), stage names and lint rules live
//! here too. Nothing here opens a file, asks the network, the clock or the environment, or decides
//! what an instruction does to an image: the `build` room does that.
//!
//! Main types: [`Dockerfile`], [`Stage`], [`Instruction`], [`Span`], [`Error`], [`Warning`].
//! Implements the Dockerfile reference as BuildKit's frontend (1.26) behaves.

mod ast;
mod error;
mod expand;
mod ignore;
mod lint;
mod mount;
mod names;
mod source;
mod suggest;

pub use ast::{
    Add, ArgPair, Command, Copy, Directives, Dockerfile, Flag, Healthcheck, Heredoc, Instruction,
    InstructionKind, Onbuild, Pair, Run, RunNetwork, RunScript, RunSecurity, Source, Stage,
};
pub use error::{Error, ErrorKind};
pub use expand::{
    ExpandError, Expanded, expand_heredoc, expand_word, expand_word_noting, expand_words,
};
pub use ignore::{IgnoreError, Patterns, Reason, Verdict};
pub use lint::{Rule, Warning};
pub use mount::{Mount, MountField};
pub use names::{InvalidStageName, StageName, find_base, find_stage};
pub use source::{Position, Span, Word};

/// Parses a Dockerfile.
pub fn parse(text: &str) -> Result<Dockerfile, Error> {
    let _ = text;
    todo!()
}

/// Parses the trigger of an `ONBUILD`, as an image's config stores it.
///
/// Spans are offsets in `text`.
pub fn parse_trigger(text: &str) -> Result<Instruction, Error> {
    let _ = text;
    todo!()
}
