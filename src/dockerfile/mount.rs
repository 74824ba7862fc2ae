//! `RUN --mount` (Dockerfile reference, "RUN --mount").

use crate::dockerfile::source::Span;

/// One `--mount` flag as written; values may hold variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The fields in order.
    pub fields: Vec<MountField>,
    /// The whole flag.
    pub span: Span,
}

/// One comma-separated field of a `--mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountField {
    /// The key in lower case.
    pub key: String,
    /// The value, not expanded; none for a bare key.
    pub value: Option<String>,
}
