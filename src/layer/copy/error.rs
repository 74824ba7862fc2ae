//! What can go wrong with COPY and ADD.
//!
//! Apart from the room's own errors because most of these are the Dockerfile's author's, and the
//! builder answers them with the line and a hint.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Errors of selecting, hashing and writing the sources of COPY and ADD.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CopyError {
    /// A source without wildcards does not exist in the tree.
    #[error("`{pattern}` not found{}", if *excluded { ": excluded by the ignore file" } else { "" })]
    NotFound {
        /// The source as it was asked for.
        pattern: String,
        /// Whether it exists and the tree's filter leaves it out.
        excluded: bool,
    },
    /// A source's wildcard breaks the syntax of Go's `filepath.Match`.
    #[error("invalid pattern `{0}`: `[` without an end, or nothing after `\\`")]
    Pattern(String),
    /// A pattern of `--exclude` or `--parents` is malformed.
    #[error("invalid pattern `{pattern}`")]
    Exclude {
        /// The pattern.
        pattern: String,
        /// Why.
        #[source]
        source: crate::ignore::IgnoreError,
    },
    /// Several files were to be written to one path.
    #[error(
        "when using COPY or ADD with more than one source file, the destination must be a \
         directory and end with a /: `{0}`"
    )]
    DestinationNotDirectory(String),
    /// The destination, or something on the way to it, is not a directory.
    #[error("cannot copy to non-directory: `/{0}`")]
    NotDirectory(PathBuf),
    /// A directory stands where a file was to be written.
    #[error("cannot replace directory `/{0}` with a file")]
    IsDirectory(PathBuf),
    /// Symbolic links of the tree lead to one another.
    #[error("too many symbolic links in `{0}`")]
    LinkLoop(PathBuf),
    /// A file of the tree became another while it was copied.
    #[error("`{0}` changed while it was being copied")]
    Changed(PathBuf),
    /// A tar that ADD extracts names something outside the destination.
    #[error("refused `{entry}` in `{archive}`: it is outside the destination")]
    Outside {
        /// The archive's path in the tree.
        archive: PathBuf,
        /// The entry's name.
        entry: PathBuf,
    },
    /// A tar that ADD extracts cannot be read.
    #[error("failed to extract `{archive}`")]
    Archive {
        /// The archive's path in the tree.
        archive: PathBuf,
        /// The reader's error.
        #[source]
        source: io::Error,
    },
    /// A system call on a file of the tree failed.
    #[error("failed to {action} `{path}`")]
    File {
        /// What was attempted.
        action: &'static str,
        /// The path, below the tree's root.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The stat cache could not be written.
    #[error("failed to save the stat cache `{path}`")]
    SaveStatCache {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The layer could not be written, or its destination not be resolved.
    #[error(transparent)]
    Layer(#[from] crate::layer::Error),
}
