//! Images as files that other tools read: OCI layouts, in a tar or in a directory, and what
//! `docker load` needs beside them. Over the store; no network.
//!
//! A [`Bundle`] says what goes in: the images by their names, and every blob that they need. Both
//! dialects are one format: an OCI image layout (OCI image-spec, image-layout.md), to which docker's
//! adds a `manifest.json` that names the same blobs (moby, `image/tarexport`), as containerd writes
//! it. Entries have root as their owner and one time for all, so that equal images give equal
//! archives. What unpacks layers is in other rooms.

mod bundle;
mod directory;
mod error;
mod tar;

pub use bundle::{Bundle, DockerImage, Named};
pub use directory::write_directory;
pub use error::{Error, Result};
pub use tar::write_tar;
