//! Why a build cannot be planned or did not finish.

use thiserror::Error;

use crate::dockerfile::Span;
use crate::{layer, sandbox, store};

/// Errors of planning and executing a build.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The Dockerfile asks for something that cannot be done.
    #[error("{message}")]
    Refused {
        /// What, in BuildKit's words where it has them.
        message: String,
        /// Where.
        span: Option<Span>,
        /// What to do.
        hint: Option<String>,
    },
    /// A step's command failed.
    #[error("{reason}")]
    StepFailed {
        /// The exit code or signal in words.
        reason: String,
        /// Where the step stands.
        span: Span,
        /// The last lines that it wrote.
        output: String,
    },
    /// A step could not be carried out.
    #[error("failed to run the step `{step}`")]
    Step {
        /// The step's name.
        step: String,
        /// Where it stands.
        span: Span,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A base image's layer could not be had.
    #[error("failed to get layer {digest} of the base image `{image}`")]
    Base {
        /// The base.
        image: String,
        /// The layer's digest.
        digest: crate::image::Digest,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What a step adds by URL could not be had.
    #[error("failed to get what the step adds")]
    Remote {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The layer of a cache entry could not be had.
    #[error("failed to get layer {digest}, which a cache names")]
    Cached {
        /// The layer's digest.
        digest: crate::image::Digest,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Reading or writing files as a layer failed.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// Copying files into a layer failed.
    #[error(transparent)]
    Copy(#[from] layer::CopyError),
    /// The worker failed.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// A file operation outside store and layers failed.
    #[error("failed to {what}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another step failed, or the user interrupted.
    #[error("canceled")]
    Canceled,
}

impl Error {
    /// Returns a refusal at `span`.
    pub(super) fn refused(message: impl Into<String>, span: Span) -> Self {
        Self::Refused { message: message.into(), span: Some(span), hint: None }
    }

    /// Returns whether a step's command failed by itself.
    pub(super) fn is_step_failure(&self) -> bool {
        matches!(self, Self::StepFailed { .. })
    }

    /// Adds what to do to a refusal; other errors stay as they are.
    #[must_use]
    pub(super) fn with_hint(self, text: impl Into<String>) -> Self {
        match self {
            Self::Refused { message, span, .. } => {
                Self::Refused { message, span, hint: Some(text.into()) }
            }
            other => other,
        }
    }
}
