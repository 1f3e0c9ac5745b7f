//! What is known of worker hosts from their beats.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::beat::KnownRows;
use crate::fleet::DeckyRuntime;
use crate::lifecycle::{DeckyName, HostId, LifecycleId, Record, Status};

/// What is known of worker hosts from their beats, and which rows they have.
///
/// Kept in memory only: after a restart nobody has been heard yet, so each host
/// that has rows is given the whole of [`Deadlines::silence`] anew before they
/// count as lost.
///
/// [`Deadlines::silence`]: crate::runner::Deadlines::silence
#[derive(Debug, Default)]
pub(crate) struct Heard {
    hosts: Mutex<BTreeMap<HostId, Worker>>,
}

#[derive(Debug, Default)]
struct Worker {
    /// When it was last heard, in monotonic time.
    last: Option<Duration>,
    /// Whether it was heard at all; else `last` is when this master began to
    /// wait for it.
    was_heard: bool,
    /// Whether this master was paused, and has not heard it since.
    is_owed_a_word: bool,
    /// Whether it names rows in its beats, and so takes each row once.
    names_rows: bool,
    runtime: BTreeMap<DeckyName, DeckyRuntime>,
    handed: BTreeMap<LifecycleId, Handed>,
}

/// A running row of a worker's decky.
#[derive(Debug, Default)]
struct Handed {
    /// Whether the worker has taken it, and so should know it.
    taken: bool,
    /// Since when its beats have not named the row.
    missing_since: Option<Duration>,
    asked_to_stop: bool,
}

impl Heard {
    /// The host gave a sign of life.
    pub(crate) fn note(&self, host: &HostId, at: Duration) {
        let mut hosts = self.lock();
        let worker = hosts.entry(host.clone()).or_default();
        worker.last = Some(at);
        worker.was_heard = true;
        worker.is_owed_a_word = false;
    }

    /// From now on the host has the whole of [`Deadlines::silence`] to be heard
    /// in, unless that time runs already.
    ///
    /// [`Deadlines::silence`]: crate::runner::Deadlines::silence
    pub(crate) fn expect(&self, host: &HostId, at: Duration) {
        self.lock().entry(host.clone()).or_default().last.get_or_insert(at);
    }

    /// When it was last heard; none if never since this start.
    pub(crate) fn last(&self, host: &HostId) -> Option<Duration> {
        self.lock().get(host).filter(|worker| worker.was_heard)?.last
    }

    /// Every host has the whole of [`Deadlines::silence`] anew, and the whole
    /// time to name its rows: this master was paused, and could not have heard
    /// anybody.
    ///
    /// [`Deadlines::silence`]: crate::runner::Deadlines::silence
    pub(crate) fn fresh_grace(&self, at: Duration) {
        for worker in self.lock().values_mut() {
            if let Some(last) = &mut worker.last {
                *last = at;
                worker.is_owed_a_word = true;
            }
            for missing in worker.handed.values_mut().filter_map(|row| row.missing_since.as_mut()) {
                *missing = at;
            }
        }
    }

    /// Whether the host may have said something that a paused master has not
    /// heard yet; its silence ends that.
    pub(crate) fn is_owed_a_word(&self, host: &HostId) -> bool {
        self.lock().get(host).is_some_and(|worker| worker.is_owed_a_word && worker.last.is_some())
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

    /// The host has been silent since before this time, and its rows were
    /// ended; unless it was heard meanwhile. Rows whose dispatch is under way
    /// are still to be handed over.
    pub(crate) fn forget(&self, host: &HostId, before: Duration) {
        if let Some(worker) = self.lock().get_mut(host).filter(|worker| worker.last < Some(before)) {
            worker.last = None;
            worker.runtime.clear();
        }
    }

    /// A row has changed: one that runs on a host is there to be ended, one
    /// that has ended is forgotten.
    pub(crate) fn changed(&self, row: &Record) {
        let Some(host) = &row.host else { return };
        let mut hosts = self.lock();
        match row.status() {
            Status::Pending => {}
            Status::Running => {
                let handed = hosts.entry(host.clone()).or_default().handed.entry(row.id).or_default();
                handed.asked_to_stop |= row.cancel_requested_at.is_some();
            }
            Status::Succeeded | Status::Failed => {
                if let Some(worker) = hosts.get_mut(host) {
                    worker.handed.remove(&row.id);
                }
            }
        }
    }

    /// The worker has taken the row; one that has ended by now is not the
    /// worker's any more.
    pub(crate) fn hand_over(&self, host: &HostId, id: LifecycleId) {
        if let Some(handed) = self.lock().get_mut(host).and_then(|worker| worker.handed.get_mut(&id)) {
            handed.taken = true;
        }
    }

    /// The rows that the worker is to stop.
    pub(crate) fn to_stop(&self, host: &HostId) -> Vec<LifecycleId> {
        let hosts = self.lock();
        let handed = hosts.get(host).into_iter().flat_map(|worker| &worker.handed);
        handed.filter(|(_, row)| row.taken && row.asked_to_stop).map(|(id, _)| *id).collect()
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
        for (id, row) in worker.handed.iter_mut().filter(|(_, row)| row.taken) {
            if known.contains(id) {
                row.missing_since = None;
            } else if at.saturating_sub(*row.missing_since.get_or_insert(at)) >= grace {
                lost.push(*id);
            }
        }
        lost
    }

    /// What every host last said really runs there.
    pub(crate) fn runtimes(&self) -> BTreeMap<HostId, BTreeMap<DeckyName, DeckyRuntime>> {
        self.lock().iter().map(|(host, worker)| (host.clone(), worker.runtime.clone())).collect()
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
