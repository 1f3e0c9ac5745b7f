//! The workers: how their agents are called, and what is heard of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_lock::{Mutex as AsyncMutex, MutexGuardArc, Semaphore, SemaphoreGuardArc};

use crate::agent::{Agents, HostDirectory};
use crate::lifecycle::HostId;

use super::{Heard, Limits};

/// What is needed for the deckies of worker hosts.
#[derive(Debug)]
pub(crate) struct Swarm {
    pub(crate) agents: Arc<dyn Agents>,
    pub(crate) hosts: Arc<dyn HostDirectory>,
    pub(crate) heard: Arc<Heard>,
    pub(crate) limits: Limits,
    dispatches: Arc<Semaphore>,
    gates: Mutex<BTreeMap<HostId, Arc<AsyncMutex<()>>>>,
}

/// The right to call one host, held for the length of a call.
#[derive(Debug)]
pub(crate) struct HostTurn {
    _host: MutexGuardArc<()>,
    _permit: SemaphoreGuardArc,
}

impl Swarm {
    pub(crate) fn new(agents: Arc<dyn Agents>, hosts: Arc<dyn HostDirectory>, limits: Limits) -> Self {
        let dispatches = Arc::new(Semaphore::new(limits.dispatches.max(1)));
        Self { agents, hosts, heard: Arc::default(), limits, dispatches, gates: Mutex::default() }
    }

    /// Waits until nobody else calls this host, and few enough others.
    pub(crate) async fn turn(&self, host: &HostId) -> HostTurn {
        let gate = self.gate(host);
        let _host = gate.lock_arc().await;
        HostTurn { _host, _permit: self.dispatches.acquire_arc().await }
    }

    fn gate(&self, host: &HostId) -> Arc<AsyncMutex<()>> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        Arc::clone(gates.entry(host.clone()).or_default())
    }
}
