//! `--secret`: from a file or the environment to the steps that ask for it.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretSlice};
use zeroize::Zeroizing;

use crate::build::Secrets;
use crate::credentials::Secret;
use crate::operations::{Error, Kind};

/// The largest secret, as in BuildKit.
const MAX_SECRET_BYTES: u64 = 500 << 10;

/// A secret that the user gives to the build.
#[derive(Debug, Clone)]
pub struct SecretSource {
    /// What the Dockerfile calls it.
    pub id: String,
    /// Where it is.
    pub origin: SecretOrigin,
}

/// Where a secret is.
#[derive(Debug, Clone)]
pub enum SecretOrigin {
    /// In this file.
    File(PathBuf),
    /// Here: it was in the environment.
    Value(Arc<SecretSlice<u8>>),
}

/// Reads the secrets' files. Blocks.
pub(super) fn read(sources: &[SecretSource]) -> Result<Secrets, Error> {
    let mut secrets = Secrets::default();
    for SecretSource { id, origin } in sources {
        let value = match origin {
            SecretOrigin::File(path) => read_file(id, path)?,
            SecretOrigin::Value(value) => Zeroizing::new(value.expose_secret().to_vec()),
        };
        if value.len() as u64 > MAX_SECRET_BYTES {
            let message = format!("secret {id} too big. max size 500KB");
            return Err(Error::new(Kind::User, message)
                .hint("put large files into a context of their own: `--build-context`"));
        }
        secrets.insert(id.clone(), &value);
    }
    Ok(secrets)
}

/// Reads a file whole, up to a byte more than a secret may have.
fn read_file(id: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |error: std::io::Error| {
        let message = format!("failed to read the secret `{id}` from `{}`", path.display());
        let failed = Error::new(Kind::User, message);
        let is_missing = error.kind() == std::io::ErrorKind::NotFound;
        let failed = failed.because(error);
        if is_missing {
            failed.hint(format!("name its file with `--secret id={id},src=<file>`, or its variable with `env=<name>`"))
        } else {
            failed
        }
    };
    let file = fs_err::File::open(path).map_err(failed)?;
    // Room for all of it at once: a growing vector leaves what it held behind.
    let room = usize::try_from(MAX_SECRET_BYTES).unwrap_or(usize::MAX).saturating_add(64);
    let mut value = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut value).map_err(failed)?;
    Ok(value)
}

/// The build's secrets for `ADD` of URLs and repositories.
pub(super) struct Given(pub(super) Secrets);

impl crate::remote::Secrets for Given {
    fn secret(&self, id: &str) -> Result<Option<Secret>, Box<dyn std::error::Error + Send + Sync>> {
        let Some(value) = self.0.expose(id) else { return Ok(None) };
        let text = std::str::from_utf8(value)
            .map_err(|_| format!("the secret `{id}` is not valid UTF-8"))?;
        Ok(Some(Secret::new(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(path: &Path) -> SecretSource {
        SecretSource { id: "x".to_owned(), origin: SecretOrigin::File(path.to_owned()) }
    }

    #[test]
    fn secrets_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let limit = usize::try_from(MAX_SECRET_BYTES).unwrap();
        fs_err::write(&path, vec![b'x'; limit]).unwrap();
        let secrets = read(&[from_file(&path)]).unwrap();
        assert_eq!(secrets.expose("x").map(<[u8]>::len), Some(limit));
        fs_err::write(&path, vec![b'x'; limit + 1]).unwrap();
        let error = read(&[from_file(&path)]).unwrap_err();
        assert_eq!(error.to_string(), "secret x too big. max size 500KB");
        assert!(read(&[from_file(Path::new("/absent"))]).is_err());
    }

    #[test]
    fn secrets_do_not_print() {
        let value = Arc::new(SecretSlice::from(b"hunter2".to_vec()));
        let source = SecretSource { id: "x".to_owned(), origin: SecretOrigin::Value(value) };
        let secrets = read(std::slice::from_ref(&source)).unwrap();
        assert_eq!(secrets.expose("x"), Some(&b"hunter2"[..]));
        let printed = format!("{source:?} {secrets:?}");
        assert!(!printed.contains("hunter2") && !printed.contains("104"), "{printed}");
    }
}
