//! Reads Dockerfiles: text in, typed instructions with source spans, warnings and errors out.
//!
//! Word expansion ([`expand_word`]), stage names and lint rules live here too. Nothing here opens a
//! file, asks the network, the clock or the environment, or decides what an instruction does to an
//! image: the `build` room does that.
//!
//! Main types: [`Dockerfile`], [`Stage`], [`Instruction`], [`Span`], [`Error`], [`Warning`].
//! Implements the Dockerfile reference as BuildKit's frontend (1.26) behaves.

mod ast;
mod error;
mod expand;
mod flags;
mod frontend;
mod git;
mod healthcheck;
mod heredoc;
mod json;
mod kinds;
mod lines;
mod lint;
mod mount;
mod names;
mod parser;
mod source;
mod survey;

#[cfg(test)]
mod corpus;

pub use crate::suggest::suggest;
pub use ast::{
    Add, ArgPair, Command, Copy, Directives, Dockerfile, Flag, Healthcheck, Heredoc, Instruction,
    InstructionKind, Onbuild, Pair, Run, RunNetwork, RunScript, RunSecurity, Source, Stage,
};
pub use error::{Error, ErrorKind};
pub use expand::{
    ExpandError, Expanded, expand_heredoc, expand_shown, expand_word, expand_word_noting,
    expand_words,
};
pub use frontend::Frontend;
pub use git::{GitReference, GitTimes, GitTransport, InvalidGitReference};
pub(crate) use lint::is_secret;
pub use lint::{Checked, Checks, Rule, Warning};
pub use mount::{Mount, MountField, MountKind, MountSpec, Sharing};
pub use names::{InvalidStageName, StageName, find_base, find_stage};
pub use parser::{parse, parse_trigger};
pub use source::{NotText, Position, Span, Word, decode};
pub use survey::{Argument, BaseFacts, Mounted, OtherPlatform, Parameters, Surroundings};
