//! What can be wrong with the text of an image data type.

use thiserror::Error;

/// Errors of parsing image data types from text or JSON.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A digest is not `algorithm:hex` of a known algorithm and the right length.
    #[error("invalid digest `{0}`: expected `sha256:` and 64 lower-case hexadecimal digits")]
    Digest(String),
    /// A reference breaks the grammar of the distribution project.
    #[error("invalid reference `{text}`: {reason}")]
    Reference {
        /// The text as given.
        text: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A platform is not `os/architecture[/variant]`.
    #[error("invalid platform `{0}`: expected `os/architecture[/variant]`, as in `linux/amd64`")]
    Platform(String),
    /// Manifest or config bytes are not what their media type promises.
    #[error("invalid {what}: {reason}")]
    Json {
        /// Which document: `manifest`, `index`, `config`.
        what: &'static str,
        /// The parser's message.
        reason: String,
    },
    /// A manifest has a media type that rpub does not read.
    #[error("unsupported manifest media type `{0}`")]
    MediaType(String),
    /// A manifest of one format names a config or layer of the other.
    #[error("the manifest of type `{manifest}` mixes Docker's and OCI's formats: `{part}`")]
    MixedMediaTypes {
        /// The manifest's media type.
        manifest: String,
        /// That of the part.
        part: String,
    },
    /// A layer of Docker's format is not compressed.
    #[error("an uncompressed layer, `{0}`, is invalid in Docker's manifest format")]
    UncompressedLayer(String),
    /// A Docker schema 1 manifest, which carries no usable digests.
    #[error("the manifest is in Docker's schema 1 format, which is no longer supported")]
    Schema1,
}
