use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::beat::KnownRows;
use crate::fleet::DeckyRuntime;
use crate::lifecycle::{DeckyName, HostId, LifecycleId, ServiceName};

/// What is known of worker hosts from their beats, and which rows they have.
/// Kept in memory only: after a restart each host gets a fresh grace.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    hosts: Mutex<BTreeMap<HostId, Worker>>,
}

#[derive(Debug, Default)]
struct Worker {
    /// When it was last heard, in monotonic time.
    last: Option<Duration>,
    /// Whether it names rows in its beats, and so takes each row once.
    names_rows: bool,
    runtime: BTreeMap<DeckyName, DeckyRuntime>,
    handed: BTreeMap<LifecycleId, Handed>,
}

/// A row that the worker is to end.
#[derive(Debug, Default)]
struct Handed {
    /// Since when its beats have not named the row.
    missing_since: Option<Duration>,
    asked_to_stop: bool,
    /// What a mutate gives the decky, to be kept once it succeeds.
    services: Option<Vec<ServiceName>>,
}

impl Heard {
    /// The host gave a sign of life.
    pub(crate) fn note(&self, host: &HostId, at: Duration) {
        self.lock().entry(host.clone()).or_default().last = Some(at);
    }

    /// The host's grace starts, unless it runs already.
    pub(crate) fn expect(&self, host: &HostId, at: Duration) {
        self.lock().entry(host.clone()).or_default().last.get_or_insert(at);
    }

    pub(crate) fn last(&self, host: &HostId) -> Option<Duration> {
        self.lock().get(host)?.last
    }

    /// The host named a row, or says which rows it knows.
    pub(crate) fn names_rows(&self, host: &HostId) {
        self.lock().entry(host.clone()).or_default().names_rows = true;
    }

    /// The host beats as one that names no rows; another program may have
    /// taken its place.
    pub(crate) fn names_no_rows(&self, host: &HostId) {
        if let Some(worker) = self.lock().get_mut(host) {
            worker.names_rows = false;
        }
    }

    /// Whether the host is known to name rows.
    pub(crate) fn has_named_rows(&self, host: &HostId) -> bool {
        self.lock().get(host).is_some_and(|worker| worker.names_rows)
    }

    /// The hosts that have been silent since before this time.
    pub(crate) fn silent_since(&self, before: Duration) -> Vec<HostId> {
        let hosts = self.lock();
        let silent = hosts.iter().filter(|(_, worker)| worker.last.is_some_and(|last| last < before));
        silent.map(|(host, _)| host.clone()).collect()
    }

    /// The host has been silent for so long that its rows were ended.
    pub(crate) fn forget(&self, host: &HostId) {
        if let Some(worker) = self.lock().get_mut(host) {
            worker.last = None;
            worker.runtime.clear();
            worker.handed.clear();
        }
    }

    /// The row is the worker's to end from now on.
    pub(crate) fn hand_over(&self, host: &HostId, id: LifecycleId, services: Option<&[ServiceName]>) {
        let mut hosts = self.lock();
        let handed = hosts.entry(host.clone()).or_default().handed.entry(id).or_default();
        handed.services = services.map(<[ServiceName]>::to_vec);
    }

    /// The row is to be stopped by its worker.
    pub(crate) fn ask_to_stop(&self, host: &HostId, id: LifecycleId) {
        self.lock().entry(host.clone()).or_default().handed.entry(id).or_default().asked_to_stop = true;
    }

    /// The rows that the worker is to stop.
    pub(crate) fn to_stop(&self, host: &HostId) -> Vec<LifecycleId> {
        let hosts = self.lock();
        let handed = hosts.get(host).into_iter().flat_map(|worker| &worker.handed);
        handed.filter(|(_, row)| row.asked_to_stop).map(|(id, _)| *id).collect()
    }

    /// The row has ended; gives the services that its mutate was about.
    pub(crate) fn ended(&self, host: &HostId, id: LifecycleId) -> Option<Vec<ServiceName>> {
        self.lock().get_mut(host)?.handed.remove(&id)?.services
    }

    /// The row has ended, whichever host it was handed to.
    pub(crate) fn ended_anywhere(&self, id: LifecycleId) {
        for worker in self.lock().values_mut() {
            worker.handed.remove(&id);
        }
    }

    /// What the worker says it knows and what really runs. Gives the rows that
    /// it was handed and has not named for the grace, over several beats.
    pub(crate) fn says(
        &self,
        host: &HostId,
        known: &KnownRows,
        runtime: &BTreeMap<DeckyName, DeckyRuntime>,
        at: Duration,
        grace: Duration,
    ) -> Vec<LifecycleId> {
        let mut hosts = self.lock();
        let worker = hosts.entry(host.clone()).or_default();
        worker.runtime.clone_from(runtime);
        worker.names_rows |= known.are_named();
        let KnownRows::These(known) = known else { return Vec::new() };
        let mut lost = Vec::new();
        for (id, row) in &mut worker.handed {
            if known.contains(id) {
                row.missing_since = None;
            } else if at.saturating_sub(*row.missing_since.get_or_insert(at)) >= grace {
                lost.push(*id);
            }
        }
        lost
    }

    /// What the host last said really runs of a decky.
    pub(crate) fn runtime(&self, host: &HostId, decky: &DeckyName) -> Option<DeckyRuntime> {
        self.lock().get(host)?.runtime.get(decky).cloned()
    }

    /// Whether the host's last beat left the row out of those it knows.
    pub(crate) fn is_missing(&self, host: &HostId, id: LifecycleId) -> bool {
        let hosts = self.lock();
        let row = hosts.get(host).and_then(|worker| worker.handed.get(&id));
        row.is_some_and(|row| row.missing_since.is_some())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<HostId, Worker>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
