//! A bundle of CA, certificate and key, read from its folder.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::agent::Fingerprint;

use super::provider;

/// The longest file of a bundle that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Who this process is to others, and whom it trusts: a certificate, its key,
/// and the CA of both sides.
///
/// As the original's bundles have it: `ca.crt`, `worker.crt` and `worker.key`
/// in one folder, for the master too. Cheap to clone; `Debug` shows no key.
#[derive(Clone)]
pub struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) roots: Arc<RootCertStore>,
    fingerprint: Fingerprint,
}

/// A bundle can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file can't be read.
    #[error("{}: {error}; name the folder that has a key.pem, a cert.pem and a ca.pem", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {what}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it; nothing of its content.
        what: String,
    },
    /// Others than its owner may read the key.
    #[error("{} may be read by others (mode {mode:o}); keys are their owner's alone: chmod 600", path.display())]
    KeyIsOpen {
        /// The key's file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

impl Identity {
    /// Reads a bundle. A key that others than its owner may read is refused.
    ///
    /// # Errors
    /// [`IdentityError`] names the file and says what is wrong with it.
    ///
    /// ```
    /// use decnet_lifecycle::agent::https::{Identity, IdentityError};
    ///
    /// let error = Identity::load("/nowhere".as_ref()).unwrap_err();
    /// assert!(matches!(error, IdentityError::File { .. }));
    /// ```
    pub fn load(bundle: &Path) -> Result<Self, IdentityError> {
        let [ca, certificate, key] = ["ca.crt", "worker.crt", "worker.key"].map(|name| bundle.join(name));
        let mut roots = RootCertStore::empty();
        for root in certificates(&ca)? {
            roots.add(root).map_err(|error| content(&ca, &error))?;
        }
        let chain = certificates(&certificate)?;
        let fingerprint = chain
            .first()
            .map(|own| Fingerprint::of(own))
            .ok_or_else(|| content(&certificate, &"no certificate in it"))?;
        owners_alone(&key)?;
        let pem = PrivateKeyDer::from_pem_slice(&read(&key)?)
            .map_err(|_| content(&key, &"it holds no private key in PEM"))?;
        let certified = CertifiedKey::from_der(chain, pem, &provider()).map_err(|error| {
            content(&key, &format!("it is not the key of {}: {error}", certificate.display()))
        })?;
        Ok(Self { key: Arc::new(certified), roots: Arc::new(roots), fingerprint })
    }

    /// The fingerprint of the own certificate: what others pin.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// A server's side of the same: clients must show a certificate of our
    /// CA; who of them it is, is for the caller to look at.
    ///
    /// # Errors
    /// [`rustls::Error`] if the CA can't be used to verify clients.
    pub fn server_config(&self) -> Result<rustls::ServerConfig, rustls::Error> {
        super::tls::server_config(self)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

fn content(path: &Path, what: &dyn fmt::Display) -> IdentityError {
    IdentityError::Content { path: path.to_owned(), what: what.to_string() }
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let file = |error| IdentityError::File { path: path.to_owned(), error };
    if fs::metadata(path).map_err(file)?.len() > MAX_BYTES {
        return Err(content(path, &"it is too long"));
    }
    fs::read(path).map_err(file)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| content(path, &format!("it is no PEM: {error}")))?;
    if all.is_empty() { Err(content(path, &"it holds no certificate in PEM")) } else { Ok(all) }
}

#[cfg(unix)]
fn owners_alone(path: &Path) -> Result<(), IdentityError> {
    use crate::private_file::{NotPrivate, Secrecy, check_private};
    check_private(path, Secrecy::Secret).map_err(|error| match error {
        NotPrivate::Io { path, error } => IdentityError::File { path, error },
        NotPrivate::Mode { path, mode } => IdentityError::KeyIsOpen { path, mode },
        other => content(path, &other.to_string().trim_start_matches(&path.display().to_string()).trim()),
    })
}

#[cfg(not(unix))]
fn owners_alone(_path: &Path) -> Result<(), IdentityError> {
    Ok(())
}
