//! Tokens that the user has for a registry, to be sent as they are.

use std::io::{self, Read as _};
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::{Error, Place, Result, Secret};
use crate::image::RegistryName;

/// A token of more bytes would not fit into a request.
const MAX_TOKEN_BYTES: usize = 64 << 10;

/// A token for one registry. It is sent to no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryToken {
    /// The registry.
    pub registry: RegistryName,
    /// Where the token is.
    pub source: TokenSource,
}

/// Where a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// In this file, which is read anew each time: whoever renews the token writes it there.
    File(PathBuf),
    /// Here; this variable of the environment had it.
    Environment(String, Secret),
}

impl RegistryToken {
    pub(super) fn read(&self) -> Result<Secret> {
        let path = match &self.source {
            TokenSource::Environment(_, token) => return Ok(token.clone()),
            TokenSource::File(path) => path,
        };
        let failed = |source| Error::File { action: "read", path: path.clone(), source };
        let invalid = |what: &str| failed(io::Error::new(io::ErrorKind::InvalidData, what));
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_TOKEN_BYTES + 1));
        let file = fs_err::File::open(path).map_err(failed)?;
        file.take(MAX_TOKEN_BYTES as u64 + 1).read_to_end(&mut text).map_err(failed)?;
        let token = text.trim_ascii();
        if token.is_empty()
            || text.len() > MAX_TOKEN_BYTES
            || !token.iter().all(u8::is_ascii_graphic)
        {
            return Err(invalid("it does not hold a token and nothing else"));
        }
        Ok(Secret::new(String::from_utf8_lossy(token).into_owned()))
    }

    pub(super) fn place(&self) -> Place {
        match &self.source {
            TokenSource::File(path) => Place::File(path.clone(), None),
            TokenSource::Environment(name, _) => Place::Variable(name.clone()),
        }
    }
}
