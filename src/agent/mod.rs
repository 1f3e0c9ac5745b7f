//! Agents: the workers' ends, as the master calls them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::fleet::FleetConfig;
use crate::lifecycle::{DeckyName, HostId, LifecycleId, ServiceName};

pub(crate) mod address;
mod hosts_file;
#[cfg(feature = "https")]
pub mod https;
mod pin;

pub use hosts_file::{HostsFile, HostsFileError};
pub use pin::{Fingerprint, ParseFingerprintError, Pin, Pins};

/// Calls the agents of worker hosts.
///
/// A call is short: the agent answers as soon as it has taken the work, and
/// the worker's heartbeats say how it ended. Only a teardown is answered when
/// it is done. The wire is in the documentation of each method.
#[async_trait]
pub trait Agents: fmt::Debug + Send + Sync + 'static {
    /// `POST /deploy {config, dry_run, no_cache, lifecycle_ids}` -> 202.
    ///
    /// # Errors
    /// [`AgentError`] tells a definite refusal from a call whose fate is
    /// unknown.
    async fn deploy(&self, host: &Host, call: &DeployCall) -> Result<(), AgentError>;

    /// `POST /mutate {decky_id, services, dry_run, lifecycle_ids}` -> 202.
    ///
    /// # Errors
    /// As [`Agents::deploy`].
    async fn mutate(&self, host: &Host, call: &MutateCall) -> Result<(), AgentError>;

    /// `POST /teardown {decky_id, lifecycle_ids}` -> 200 once the decky is
    /// down; without a `decky_id`, once all are.
    ///
    /// # Errors
    /// As [`Agents::deploy`].
    async fn teardown(&self, host: &Host, call: &TeardownCall) -> Result<(), AgentError>;
}

/// A shard of a fleet for one worker.
#[derive(Debug, Clone, PartialEq)]
pub struct DeployCall {
    /// The fleet, cut down to the worker's deckies. Nothing is ever added
    /// inside: the Python agent refuses unknown fields there.
    pub config: Arc<FleetConfig>,
    /// Which rows track which deckies. The Python agent ignores this.
    pub lifecycle_ids: BTreeMap<DeckyName, LifecycleId>,
}

/// New services for one decky of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MutateCall {
    /// Which decky.
    pub decky: DeckyName,
    /// Its services from now on.
    pub services: Vec<ServiceName>,
    /// The row that tracks it.
    pub lifecycle_id: LifecycleId,
}

/// One decky of a worker to take down, or all that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeardownCall {
    /// Which decky; none for all.
    pub decky: Option<DeckyName>,
    /// Which rows track which deckies.
    pub lifecycle_ids: BTreeMap<DeckyName, LifecycleId>,
}

/// Why a call to an agent did not give the answer hoped for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The worker never got the call.
    #[error("agent not reached, the worker has not got the call: {reason}")]
    Unreachable {
        /// What failed, without secrets.
        reason: String,
    },
    /// Somebody answered at the address, and no TLS connection came about;
    /// the worker has not got the call.
    #[error("no TLS connection with the agent, the worker has not got the call: {reason}")]
    Tls {
        /// What failed, without secrets.
        reason: String,
    },
    /// The agent's certificate is of our CA and is not the pinned one; not
    /// one byte of the call was sent.
    #[error(
        "the agent showed the certificate {seen}, which is not the pinned one; if the host has a new one, give the host that pin"
    )]
    WrongPin {
        /// What it showed.
        seen: Fingerprint,
    },
    /// The agent understood the call and said no.
    #[error("agent refused: {reason}")]
    Refused {
        /// The agent's own words.
        reason: String,
    },
    /// The agent took the call, and failed at it.
    #[error("the agent took the call and failed: {reason}")]
    Failed {
        /// The agent's own words.
        reason: String,
    },
    /// The call was sent and its answer is missing: the worker may have it.
    #[error("no answer after the call was sent, the worker may have got it: {reason}")]
    Unconfirmed {
        /// What failed, without secrets.
        reason: String,
    },
}

/// A worker host: where its agent listens, and who it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its id, `host_uuid` on the wire.
    pub id: HostId,
    /// `host:port` of its agent.
    pub address: String,
    /// Which certificates it may show.
    pub pin: Pin,
}

/// Knows the worker hosts.
///
/// [`StaticHosts`] has them in memory, [`HostsFile`] in a file.
#[async_trait]
pub trait HostDirectory: fmt::Debug + Send + Sync + 'static {
    /// The host with this id, if there is one.
    ///
    /// # Errors
    /// Why the directory can't be read, in words for the row's message.
    async fn find(&self, id: &HostId) -> Result<Option<Host>, DirectoryError>;
}

/// The directory of hosts can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the host directory can't be read: {reason}")]
pub struct DirectoryError {
    /// What failed.
    pub reason: String,
}

/// A directory with no hosts, and agents that reach nobody: what a master
/// without a swarm has.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSwarm;

#[async_trait]
impl HostDirectory for NoSwarm {
    async fn find(&self, _id: &HostId) -> Result<Option<Host>, DirectoryError> {
        Ok(None)
    }
}

#[async_trait]
impl Agents for NoSwarm {
    async fn deploy(&self, host: &Host, _call: &DeployCall) -> Result<(), AgentError> {
        Err(nobody(host))
    }

    async fn mutate(&self, host: &Host, _call: &MutateCall) -> Result<(), AgentError> {
        Err(nobody(host))
    }

    async fn teardown(&self, host: &Host, _call: &TeardownCall) -> Result<(), AgentError> {
        Err(nobody(host))
    }
}

fn nobody(host: &Host) -> AgentError {
    AgentError::Unreachable { reason: format!("this master has no agents to call host {}", host.id) }
}

/// Hosts kept in memory.
///
/// ```
/// use decnet_lifecycle::{HostId, agent::{Host, HostDirectory, Pin, StaticHosts}};
///
/// let id = HostId::parse("worker-1")?;
/// let hosts = StaticHosts::new([Host { id: id.clone(), address: "192.0.2.7:8765".into(), pin: Pin::CaOnly }]);
/// let found = futures_lite::future::block_on(hosts.find(&id)).unwrap();
/// assert_eq!(found.unwrap().address, "192.0.2.7:8765");
/// # Ok::<(), decnet_lifecycle::lifecycle::NameError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct StaticHosts {
    hosts: BTreeMap<HostId, Host>,
}

impl StaticHosts {
    /// A directory of these hosts; the last of two with one id counts.
    pub fn new(hosts: impl IntoIterator<Item = Host>) -> Self {
        Self { hosts: hosts.into_iter().map(|host| (host.id.clone(), host)).collect() }
    }
}

#[async_trait]
impl HostDirectory for StaticHosts {
    async fn find(&self, id: &HostId) -> Result<Option<Host>, DirectoryError> {
        Ok(self.hosts.get(id).cloned())
    }
}
