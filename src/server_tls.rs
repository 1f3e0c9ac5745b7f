//! How connections to servers of others are encrypted: the certificate is
//! checked against a file of CAs, and the name that it is made out to.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// The most bytes of a file of certificates.
const FILE: u64 = 1 << 20;

/// TLS 1.2 and 1.3 with whom these CAs vouch for; or what is wrong with the
/// file.
pub(crate) fn client_config(roots: &Path) -> Result<Arc<ClientConfig>, String> {
    let size = std::fs::metadata(roots).map_err(|error| error.to_string())?.len();
    if size > FILE {
        return Err(format!("it has {size} bytes, a CA's certificates take less than {FILE}"));
    }
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(roots).map_err(|error| error.to_string())? {
        let certificate = certificate.map_err(|error| error.to_string())?;
        store.add(certificate).map_err(|error| error.to_string())?;
    }
    if store.is_empty() {
        return Err("it holds no certificate in PEM".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
