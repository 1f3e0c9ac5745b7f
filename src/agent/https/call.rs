//! One POST over HTTPS, and what an error at each stage of it says about whether it arrived.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError};
use ureq::Timeout;

use crate::agent::address::Address;
use crate::agent::{Fingerprint, Pins};

use super::connector::{self, Reached, Stage};
use super::tls::{self, WrongPin};
use super::{CallLimits, Identity, TlsVersions};

/// Posts JSON to peers that are who they must be.
#[derive(Debug, Clone)]
pub(crate) struct HttpsClient {
    identity: Identity,
    pub(crate) limits: CallLimits,
    pub(crate) versions: TlsVersions,
}

/// Whom a call is for.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// `host:port`.
    pub(crate) address: String,
    pub(crate) pins: Pins,
}

/// An answer; its body as far as it was wanted, could be read, and is within
/// bounds.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// No answer came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The peer never got the call.
    Unreachable(String),
    /// Nor did it, for there was no agreement on TLS.
    Tls(String),
    /// Nor did it, for it showed this certificate.
    WrongPin(Fingerprint),
    /// The peer may have got the call.
    Unconfirmed(String),
}

impl HttpsClient {
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity, limits: CallLimits::default(), versions: TlsVersions::default() }
    }

    /// One `POST` over a connection of its own. The body of an answer is read
    /// where `wants_body` says so of its status. Dropping the future closes
    /// the connection.
    pub(crate) async fn post(
        &self,
        peer: Peer,
        path: &'static str,
        body: String,
        wants_body: impl FnOnce(u16) -> bool + Send + 'static,
    ) -> Result<Reply, CallError> {
        let reached = Reached::new();
        let agent = self.agent(&peer, reached.clone())?;
        // Ends the call when this future is dropped; when the call is over,
        // there is nothing left for it to end.
        let _stop = Stop(agent.clone());
        let url = format!("https://{}{path}", peer.address);
        let limits = self.limits;
        blocking::unblock(move || exchange(&agent, &url, &body, limits, wants_body, &reached)).await
    }

    fn agent(&self, peer: &Peer, reached: Reached) -> Result<ureq::Agent, CallError> {
        let unfit = |reason: &dyn std::fmt::Display| CallError::Unreachable(reason.to_string());
        let host = Address::parse(&peer.address).map_err(|error| unfit(&error))?.host;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| unfit(&error))?;
        let tls = tls::client_config(&self.identity, peer.pins.clone(), self.versions);
        let tls = tls.map_err(|error| CallError::Tls(error.to_string()))?;
        let config = ureq::Agent::config_builder()
            .https_only(true)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_idle_connections(0)
            .user_agent(concat!("decnet-lifecycle/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(self.limits.connect))
            .timeout_connect(Some(self.limits.connect))
            .timeout_recv_response(Some(self.limits.response))
            .timeout_global(Some(self.limits.total))
            .max_response_header_size(self.limits.header_bytes)
            .input_buffer_size(self.limits.header_bytes.max(16 << 10))
            .build();
        Ok(connector::agent(config, Arc::new(tls), name, reached))
    }
}

struct Stop(ureq::Agent);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.clone().shutdown();
    }
}

fn exchange(
    agent: &ureq::Agent,
    url: &str,
    body: &str,
    limits: CallLimits,
    wants_body: impl FnOnce(u16) -> bool,
    reached: &Reached,
) -> Result<Reply, CallError> {
    let sent = agent.post(url).header("content-type", "application/json").send(body);
    let mut response = sent.map_err(|error| failed(error, limits, reached.stage()))?;
    let status = response.status().as_u16();
    let mut read = Vec::new();
    if wants_body(status) {
        let limit = limits.body_bytes as u64;
        let mut reader = response.body_mut().as_reader();
        // What came before an error or the limit says something all the same.
        let _ = io::copy(&mut io::Read::take(&mut reader, limit), &mut read);
    }
    Ok(Reply { status, body: read })
}

fn failed(error: ureq::Error, limits: CallLimits, stage: Stage) -> CallError {
    if let Some(tls) = tls_error(&error) {
        if let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = tls
            && let Some(WrongPin(seen)) = other.0.downcast_ref()
        {
            return CallError::WrongPin(*seen);
        }
        // In TLS 1.3 a client hears that its certificate was refused when it
        // reads for the first time; the server has read nothing by then.
        if stage < Stage::Sent || (stage == Stage::Sent && refuses_us(tls)) {
            return CallError::Tls(told(tls));
        }
    }
    let reason = match &error {
        ureq::Error::Timeout(timeout) => late(*timeout, limits),
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the connection was closed".to_owned()
        }
        other => other.to_string(),
    };
    match stage {
        Stage::Connecting | Stage::Trusted => CallError::Unreachable(reason),
        Stage::Handshake => CallError::Tls(reason),
        Stage::Sent | Stage::Answered => CallError::Unconfirmed(reason),
    }
}

fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// What TLS says; where it is about time, that it may be a clock.
fn told(error: &rustls::Error) -> String {
    let clock = if is_about_time(error) {
        "; is the clock right, here and there, and has the certificate not run out?"
    } else {
        ""
    };
    format!("{error}{clock}")
}

/// Whether a certificate was refused for its dates: by us, or by the other
/// side. A clock that is wrong looks just so.
#[must_use]
pub fn is_about_time(error: &rustls::Error) -> bool {
    use CertificateError as Wrong;
    matches!(
        error,
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired)
            | rustls::Error::InvalidCertificate(
                Wrong::Expired
                    | Wrong::ExpiredContext { .. }
                    | Wrong::NotValidYet
                    | Wrong::NotValidYetContext { .. }
            )
    )
}

fn refuses_us(error: &rustls::Error) -> bool {
    use AlertDescription as Alert;
    matches!(
        error,
        rustls::Error::AlertReceived(
            Alert::AccessDenied
                | Alert::BadCertificate
                | Alert::CertificateExpired
                | Alert::CertificateRequired
                | Alert::CertificateRevoked
                | Alert::CertificateUnknown
                | Alert::DecryptError
                | Alert::HandshakeFailure
                | Alert::UnknownCA
                | Alert::UnsupportedCertificate
        )
    )
}

fn late(timeout: Timeout, limits: CallLimits) -> String {
    let (what, limit) = match timeout {
        Timeout::Resolve => ("the name was not resolved", limits.connect),
        Timeout::Connect => ("no connection", limits.connect),
        Timeout::RecvResponse => ("no answer", limits.response),
        _ => ("the call was not over", limits.total),
    };
    format!("{what} within {} s", limit.as_secs_f64())
}
