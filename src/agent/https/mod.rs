//! Workers' agents over HTTPS: who calls and who is called show certificates
//! of one CA, and the agent's is the pinned one.
//!
//! One connection does all of it: the handshake, the check of the agent's
//! certificate against the CA **and** against the host's [`Pin`](crate::agent::Pin), and only
//! then the request. No proxy is asked, no redirect followed, and time and
//! size of everything are bounded by [`CallLimits`].
//!
//! ```no_run
//! use std::sync::Arc;
//! use decnet_lifecycle::agent::https::{HttpsAgents, Identity};
//! use decnet_lifecycle::{Runner, agent::HostsFile, store::MemoryStore};
//! # use decnet_lifecycle::testkit::FakeEngine as MyEngine;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let identity = Identity::load("pki/master".as_ref())?; // ca.crt, worker.crt, worker.key
//! let hosts = HostsFile::new("hosts.json");
//! let runner = Runner::builder(Arc::new(MemoryStore::new()), Arc::new(MyEngine::new()))
//!     .swarm(Arc::new(HttpsAgents::new(identity)), Arc::new(hosts))
//!     .build()?;
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    AgentError, Agents, DeployCall, Fingerprint, Host, HostsFile, HostsFileError, MutateCall, Pins,
    StaticHosts, TeardownCall,
};

mod call;
mod connector;
mod identity;
mod tls;
mod wire;

pub use call::is_about_time;
pub(crate) use call::{CallError, HttpsClient, Peer};
pub use identity::{Identity, IdentityError};
#[cfg(any(feature = "testkit", feature = "worker"))]
pub(crate) use wire::reason;

/// How long a call may take, and how much may come back.
///
/// ```
/// use decnet_lifecycle::agent::https::CallLimits;
/// use std::time::Duration;
///
/// let mut limits = CallLimits::default();
/// assert_eq!(limits.connect, Duration::from_secs(5));
/// limits.total = Duration::from_secs(30);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallLimits {
    /// From the first packet to the end of the handshake: 5 seconds.
    pub connect: Duration,
    /// From the request's last byte to the end of the answer's header: 50
    /// seconds. An agent answers a teardown when it is done.
    pub response: Duration,
    /// The whole call: 60 seconds.
    pub total: Duration,
    /// The most bytes of an answer's header: 16 KiB.
    pub header_bytes: usize,
    /// The most bytes of an answer's body: 64 KiB.
    pub body_bytes: usize,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            response: Duration::from_secs(50),
            total: Duration::from_secs(60),
            header_bytes: 16 << 10,
            body_bytes: 64 << 10,
        }
    }
}

/// Which versions of TLS are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersions {
    /// TLS 1.3 alone.
    #[default]
    Only13,
    /// TLS 1.2 too, for a peer that can't do better.
    Also12,
}

/// Calls agents over HTTPS; see the [module](self).
///
/// Each call has a connection of its own, on a thread of the `blocking` pool.
/// A future that is dropped closes the connection, which ends the call;
/// whether the agent had got it by then is not known.
#[derive(Debug, Clone)]
pub struct HttpsAgents {
    client: HttpsClient,
}

impl HttpsAgents {
    /// Calls agents as this identity.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self { client: HttpsClient::new(identity) }
    }

    /// Bounds on calls. Without: [`CallLimits::default`].
    #[must_use]
    pub const fn limits(mut self, limits: CallLimits) -> Self {
        self.client.limits = limits;
        self
    }

    /// Versions of TLS. Without: 1.3 alone.
    #[must_use]
    pub const fn tls(mut self, versions: TlsVersions) -> Self {
        self.client.versions = versions;
        self
    }

    async fn post(&self, host: &Host, path: &'static str, body: String, good: u16) -> Result<(), AgentError> {
        let peer = Peer { address: host.address.clone(), pins: host.pin.into() };
        let reply = self.client.post(peer, path, body, move |status| status != good).await?;
        match reply.status {
            status if status == good => Ok(()),
            // It did something, and not what was asked for.
            200..=299 => Err(AgentError::Unconfirmed {
                reason: format!("the agent answered {} where {good} was expected", reply.status),
            }),
            // Whoever says so does not know what became of it.
            502 | 504 => Err(AgentError::Unconfirmed { reason: wire::reason(reply.status, &reply.body) }),
            // 503 is said before anything is taken.
            status @ (500 | 505..=599) => {
                Err(AgentError::Failed { reason: wire::reason(status, &reply.body) })
            }
            status => Err(AgentError::Refused { reason: wire::reason(status, &reply.body) }),
        }
    }
}

#[async_trait]
impl Agents for HttpsAgents {
    async fn deploy(&self, host: &Host, call: &DeployCall) -> Result<(), AgentError> {
        self.post(host, "/deploy", wire::deploy(call), 202).await
    }

    async fn mutate(&self, host: &Host, call: &MutateCall) -> Result<(), AgentError> {
        self.post(host, "/mutate", wire::mutate(call), 202).await
    }

    async fn teardown(&self, host: &Host, call: &TeardownCall) -> Result<(), AgentError> {
        self.post(host, "/teardown", wire::teardown(call), 200).await
    }
}

impl Host {
    /// Whether a certificate that a client has shown, and that is of our CA,
    /// is this host's: for a master that takes beats.
    #[must_use]
    pub fn is_shown_by(&self, certificate: &[u8]) -> bool {
        tls::is_shown_by(&self.address, &self.pin.into(), certificate)
    }
}

impl Pins {
    /// Whether a certificate that a client has shown, and that is of our CA, is
    /// that of the peer at this `host:port`: for a worker that is called.
    #[must_use]
    pub fn are_shown_by(&self, address: &str, certificate: &[u8]) -> bool {
        tls::is_shown_by(address, self, certificate)
    }
}

impl HostsFile {
    /// The host that shows this certificate, which is of our CA, if one does:
    /// for a master that wants to know who it is before it reads a word.
    ///
    /// # Errors
    /// [`HostsFileError`] if the file can't be read, and was never read before.
    pub fn shown_by(&self, certificate: &[u8]) -> Result<Option<Host>, HostsFileError> {
        Ok(first_shown_by(self.load()?.values(), certificate).cloned())
    }
}

impl StaticHosts {
    /// The host that shows this certificate, as [`HostsFile::shown_by`].
    #[must_use]
    pub fn shown_by(&self, certificate: &[u8]) -> Option<&Host> {
        first_shown_by(self.hosts.values(), certificate)
    }
}

fn first_shown_by<'a>(hosts: impl Iterator<Item = &'a Host>, certificate: &[u8]) -> Option<&'a Host> {
    let print = Fingerprint::of(certificate);
    let mut admit = hosts.filter(|host| host.pin.admits(print));
    admit.find(|host| host.is_shown_by(certificate))
}

impl From<CallError> for AgentError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unreachable(reason) => Self::Unreachable { reason },
            CallError::Tls(reason) => Self::Tls { reason },
            CallError::WrongPin(seen) => Self::WrongPin { seen },
            CallError::Unconfirmed(reason) => Self::Unconfirmed { reason },
        }
    }
}

/// The provider of all cryptography here; named, so that a process with
/// another default is not asked for it.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
