//! TLS, with certificates that are read again when their files change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

/// Files for TLS, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities of clients; when given, a client must have a certificate of one.
    pub client_authorities: Option<PathBuf>,
}

/// Why files for TLS cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is no PEM.
    #[error("failed to read `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file has no certificate.
    #[error("there is no certificate in `{0}`")]
    Empty(PathBuf),
    /// Certificate and key, or authorities, do not fit.
    #[error("the certificate cannot be used with its key")]
    Unfit(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What connections are secured by.
pub(super) struct Tls {
    files: TlsFiles,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    /// When the files were changed last; `None` for one that is not there.
    changed: Vec<Option<SystemTime>>,
}

impl Tls {
    /// Reads the files. Blocks.
    pub(super) fn read(files: TlsFiles) -> Result<Self, TlsError> {
        let current = Mutex::new(Current::read(&files)?);
        Ok(Self { files, current })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.current().acceptor.clone()
    }

    /// Reads the files again when they have changed; what was read before stays when they are of no
    /// use. Blocks.
    pub(super) fn refresh(&self) -> Result<(), TlsError> {
        if self.files.changed() != self.current().changed {
            let fresh = Current::read(&self.files)?;
            *self.current() = fresh;
        }
        Ok(())
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TlsFiles {
    fn changed(&self) -> Vec<Option<SystemTime>> {
        let files = [Some(&self.certificate), Some(&self.key), self.client_authorities.as_ref()];
        let changed = |path: &PathBuf| fs_err::metadata(path).and_then(|file| file.modified()).ok();
        files.into_iter().flatten().map(changed).collect()
    }
}

impl Current {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        // Before the files: a change in between is seen next time.
        let changed = files.changed();
        let chain = certificates(&files.certificate)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let unfit = |error: rustls::Error| TlsError::Unfit(error.into());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unfit)?;
        let builder = match &files.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path)? {
                    roots.add(authority).map_err(unfit)?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = verifier.build().map_err(|error| TlsError::Unfit(error.into()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::from_pem_slice(&bytes(&files.key)?)
            .map_err(|error| unreadable(&files.key, error))?;
        let mut config = builder.with_single_cert(chain, key).map_err(unfit)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), changed })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(path, error))?;
    if found.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(found) }
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs_err::read(path).map_err(|error: io::Error| unreadable(path, error))
}

fn unreadable(path: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TlsError {
    TlsError::File { path: path.to_owned(), source: error.into() }
}

#[cfg(test)]
mod tests {
    use rcgen::generate_simple_self_signed;

    use super::*;

    #[test]
    fn new_certificates_are_taken_and_broken_ones_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let files = TlsFiles {
            certificate: directory.path().join("cert.pem"),
            key: directory.path().join("key.pem"),
            client_authorities: None,
        };
        let write = |age: u64| {
            let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            fs_err::write(&files.certificate, made.cert.pem()).unwrap();
            fs_err::write(&files.key, made.signing_key.serialize_pem()).unwrap();
            let file = fs_err::OpenOptions::new().write(true).open(&files.key).unwrap();
            let time = SystemTime::now() - std::time::Duration::from_secs(age);
            file.file().set_modified(time).unwrap();
        };
        assert!(matches!(Tls::read(files.clone()), Err(TlsError::File { .. })));
        write(100);
        let tls = Tls::read(files.clone()).unwrap();
        let first = Arc::clone(tls.acceptor().config());
        tls.refresh().unwrap();
        assert!(Arc::ptr_eq(&first, tls.acceptor().config()));
        write(50);
        tls.refresh().unwrap();
        let second = Arc::clone(tls.acceptor().config());
        assert!(!Arc::ptr_eq(&first, &second));
        fs_err::write(&files.certificate, "").unwrap();
        assert!(matches!(tls.refresh(), Err(TlsError::Empty(_))));
        assert!(Arc::ptr_eq(&second, tls.acceptor().config()));
        // The key of another certificate.
        let other = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs_err::write(&files.certificate, other.cert.pem()).unwrap();
        assert!(matches!(tls.refresh(), Err(TlsError::Unfit(_))));
    }
}
