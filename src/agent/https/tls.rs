//! The handshake: the CA, the pin, and which versions are spoken.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};

use crate::agent::address::Address;
use crate::agent::{Fingerprint, Pins};

use super::{Identity, TlsVersions, provider};

/// In the [`rustls::Error`] of a handshake that the pin ended.
#[derive(Debug, thiserror::Error)]
#[error("the certificate {0} is not the pinned one")]
pub(super) struct WrongPin(pub(super) Fingerprint);

const ONLY_13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
const ALSO_12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

pub(super) fn client_config(
    identity: &Identity,
    pins: Pins,
    versions: TlsVersions,
) -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let verifier = Pinned { roots: Arc::clone(&identity.roots), provider: Arc::clone(&provider), pins };
    let versions = match versions {
        TlsVersions::Only13 => ONLY_13,
        TlsVersions::Also12 => ALSO_12,
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity.key))));
    // A resumed session would not show a certificate again.
    config.resumption = Resumption::disabled();
    Ok(config)
}

pub(super) fn server_config(identity: &Identity) -> Result<ServerConfig, rustls::Error> {
    let provider = provider();
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&identity.roots), Arc::clone(&provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(ALSO_12)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity.key))));
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

pub(super) fn is_shown_by(address: &str, pins: &Pins, certificate: &[u8]) -> bool {
    let certificate = CertificateDer::from(certificate);
    admit(pins, &certificate, || {
        let address = Address::parse(address).ok()?;
        ServerName::try_from(address.host.to_owned()).ok()
    })
    .is_ok()
}

/// The CA's word is checked first, then the pin; where there is none but the
/// CA, the name that the certificate is made out to.
#[derive(Debug)]
struct Pinned {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    pins: Pins,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        admit(&self.pins, end_entity, || Some(server_name.to_owned()))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn admit(
    pins: &Pins,
    certificate: &CertificateDer<'_>,
    name: impl FnOnce() -> Option<ServerName<'static>>,
) -> Result<(), rustls::Error> {
    let seen = Fingerprint::of(certificate);
    if !pins.admit(seen) {
        return Err(CertificateError::Other(OtherError(Arc::new(WrongPin(seen)))).into());
    }
    if !pins.are_by_name() {
        return Ok(());
    }
    let name = name().ok_or(CertificateError::NotValidForName)?;
    verify_server_name(&ParsedCertificate::try_from(certificate)?, &name)
}
