//! What can go wrong between a tree and its tar.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Errors of reading, writing, applying and making layers.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The tar's bytes could not be read: transport, decompression or verification.
    #[error("failed to read the tar")]
    ReadTar(#[source] io::Error),
    /// The tar could not be written.
    #[error("failed to write the tar")]
    WriteTar(#[source] io::Error),
    /// There is nothing where a tar should be.
    #[error("the tar is empty: it has not even an end")]
    NoTar,
    /// The tar stops inside a header or inside content.
    #[error("the tar is truncated: it ends at byte {offset}, inside {what}")]
    Truncated {
        /// Where it ends.
        offset: u64,
        /// What is incomplete: `a header`, or `the content of an entry`.
        what: &'static str,
    },
    /// A header breaks the format.
    #[error("invalid tar header at byte {offset}: {reason}")]
    Header {
        /// Where the header starts.
        offset: u64,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// An entry has a type that is not part of layers.
    #[error("tar entry `{path}` has the unsupported type `{typeflag}`")]
    EntryType {
        /// The entry's name.
        path: PathBuf,
        /// The type, as in the header.
        typeflag: char,
    },
    /// Something is larger than what is accepted from outside.
    #[error("the layer exceeds a limit: {what} is more than {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// The greatest accepted value.
        limit: u64,
    },
    /// A name or link target that is absolute or climbs out of the root.
    #[error("refused tar entry `{path}`: {reason}")]
    UnsafePath {
        /// The name as it stands in the tar.
        path: PathBuf,
        /// Why it is refused.
        reason: &'static str,
    },
    /// An entry lies below something that is not a directory.
    #[error("cannot place `{path}`: `{parent}` is not a directory")]
    ParentNotDirectory {
        /// The entry.
        path: PathBuf,
        /// The parent that is in the way.
        parent: PathBuf,
    },
    /// A hard link to a file that this layer does not hold.
    #[error("hard link `{path}` names `{target}`, which is not in the same layer")]
    HardLinkOutside {
        /// The link.
        path: PathBuf,
        /// What it names.
        target: PathBuf,
    },
    /// Symbolic links that lead to one another without end.
    #[error("too many symbolic links while resolving `{0}`")]
    LinkLoop(PathBuf),
    /// A file had less content than its entry says.
    #[error("content of `{path}` ended after {actual} of {expected} bytes")]
    ShortContent {
        /// The entry.
        path: PathBuf,
        /// The promised size.
        expected: u64,
        /// How much there was.
        actual: u64,
    },
    /// An entry that cannot be stored in a tar layer.
    #[error("cannot store `{path}` in a layer: {reason}")]
    Unstorable {
        /// The entry.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// A system call on a path of the tree failed.
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
    /// An owner could not be set, usually because the id is not mapped.
    #[error("failed to give `{path}` to {uid}:{gid}")]
    Owner {
        /// The path, below the tree's root.
        path: PathBuf,
        /// The owner to set.
        uid: u32,
        /// The group to set.
        gid: u32,
        /// The system's answer: `EINVAL` for an id that is not mapped.
        #[source]
        source: io::Error,
    },
    /// A parent directory that the layer does not list is something else in the layers below.
    #[error("the layer needs the directory `{path}` without listing it, but below it is a {kind}")]
    ImpliedParent {
        /// The path.
        path: PathBuf,
        /// What the layers below hold there.
        kind: &'static str,
    },
    /// A path index file is damaged.
    #[error("invalid path index `{path}`: {reason}")]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A path index file was written by a newer rpub.
    #[error("path index `{path}` has version {version}, which this rpub does not know")]
    IndexVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A path index file could not be read or written.
    #[error("failed to {action} a path index")]
    IndexFile {
        /// What was attempted.
        action: &'static str,
        /// The system's answer, which names the file.
        #[source]
        source: io::Error,
    },
}
