//! What is known of worker hosts from their beats.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::beat::{Kept, KnownRows, WorkerStatus};
use crate::fleet::DeckyRuntime;
use crate::lifecycle::{DeckyName, HostId, LifecycleId, Operation, Record, ServiceName, Status, Timestamp};

use super::unnamed::{End, Sight, Silent, Steady, Watched, Weight, Words};

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
    names: Names,
    /// What its last beat says of its deckies.
    status: WorkerStatus,
    /// Why its last beat was not taken.
    refused: Option<String>,
    handed: BTreeMap<LifecycleId, Handed>,
    /// How many calls it was handed rows by.
    calls: u64,
    words: Words,
}

/// Whether a worker names rows in its beats, and so takes each row once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Names {
    #[default]
    NotHeard,
    Rows,
    NoRows,
}

/// A running row of a worker's decky.
#[derive(Debug)]
struct Handed {
    decky: DeckyName,
    /// Whether the worker has taken it, and so should know it.
    taken: bool,
    /// Since when its beats have not named the row.
    missing_since: Option<Duration>,
    asked_to_stop: bool,
    /// For a worker that names no rows.
    watched: Watched,
}

/// A word of an operation's end that names no row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) decky: &'a DeckyName,
    pub(crate) operation: Operation,
    pub(crate) claim: Timestamp,
    pub(crate) is_good: bool,
}

impl Heard {
    /// The host gave a sign of life.
    pub(crate) fn note(&self, host: &HostId, at: Duration) {
        let mut hosts = self.lock();
        let worker = hosts.entry(host.clone()).or_default();
        worker.last = Some(at);
        worker.was_heard = true;
        worker.refused = None;
        worker.is_owed_a_word = false;
    }

    /// A beat of the host was not taken.
    pub(crate) fn was_refused(&self, host: &HostId, why: String) {
        self.lock().entry(host.clone()).or_default().refused = Some(why);
    }

    /// Why the host's last beat was not taken, if it wasn't.
    pub(crate) fn refused(&self, host: &HostId) -> Option<String> {
        self.lock().get(host)?.refused.clone()
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
        self.lock().entry(host.clone()).or_default().names = Names::Rows;
    }

    /// The host beats as one that names no rows; another program may have
    /// taken its place.
    pub(crate) fn names_no_rows(&self, host: &HostId) {
        self.lock().entry(host.clone()).or_default().names = Names::NoRows;
    }

    /// Whether the host is known to name rows.
    pub(crate) fn has_named_rows(&self, host: &HostId) -> bool {
        self.lock().get(host).is_some_and(|worker| worker.names == Names::Rows)
    }

    /// Whether the host is known to name none.
    pub(crate) fn has_named_none(&self, host: &HostId) -> bool {
        self.lock().get(host).is_some_and(|worker| worker.names == Names::NoRows)
    }

    /// Whether the host has taken the row, and is known to name none, and so
    /// can't be asked to stop it.
    pub(crate) fn cant_be_asked(&self, host: &HostId, id: LifecycleId) -> bool {
        let hosts = self.lock();
        let worker = hosts.get(host).filter(|worker| worker.names == Names::NoRows);
        worker.and_then(|worker| worker.handed.get(&id)).is_some_and(|row| row.taken)
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
            worker.status = WorkerStatus::default();
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
                let Worker { handed, words, .. } = hosts.entry(host.clone()).or_default();
                let handed = handed.entry(row.id).or_insert_with(|| Handed {
                    decky: row.decky.clone(),
                    taken: false,
                    missing_since: None,
                    asked_to_stop: false,
                    watched: Watched::begun_after(words),
                });
                handed.asked_to_stop |= row.cancel_requested_at.is_some();
            }
            Status::Succeeded | Status::Failed => {
                if let Some(worker) = hosts.get_mut(host)
                    && let Some(handed) = worker.handed.remove(&row.id)
                {
                    worker.words.ended(row.id, handed.watched);
                }
            }
        }
    }

    /// The worker has taken these rows, by one call; those that have ended by
    /// now are not the worker's any more.
    pub(crate) fn hand_over(&self, host: &HostId, ids: impl Iterator<Item = LifecycleId>) {
        let mut hosts = self.lock();
        let Some(worker) = hosts.get_mut(host) else { return };
        worker.calls += 1;
        for id in ids {
            if let Some(handed) = worker.handed.get_mut(&id) {
                handed.taken = true;
                handed.watched.call = Some(worker.calls);
            }
        }
    }

    /// The worker has taken the row, by a call of an earlier start.
    pub(crate) fn has_taken(&self, host: &HostId, id: LifecycleId) {
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

    /// What the worker says it knows and what really runs. Gives what it said
    /// before, and the rows that it was handed and has not named for the grace,
    /// over several beats.
    pub(crate) fn says(
        &self,
        host: &HostId,
        known: &KnownRows,
        status: WorkerStatus,
        at: Duration,
        grace: Duration,
    ) -> (WorkerStatus, Vec<LifecycleId>) {
        let mut hosts = self.lock();
        let worker = hosts.entry(host.clone()).or_default();
        let before = std::mem::replace(&mut worker.status, status);
        if known.are_named() {
            worker.names = Names::Rows;
        }
        let KnownRows::These(known) = known else { return (before, Vec::new()) };
        let mut lost = Vec::new();
        for (id, row) in worker.handed.iter_mut().filter(|(_, row)| row.taken) {
            if known.contains(id) {
                row.missing_since = None;
            } else if at.saturating_sub(*row.missing_since.get_or_insert(at)) >= grace {
                lost.push(*id);
            }
        }
        (before, lost)
    }

    /// What every host last said really runs there.
    pub(crate) fn runtimes(&self) -> BTreeMap<HostId, BTreeMap<DeckyName, DeckyRuntime>> {
        self.lock().iter().map(|(host, worker)| (host.clone(), worker.status.runtime.clone())).collect()
    }

    /// What the host last said really runs of a decky.
    pub(crate) fn runtime(&self, host: &HostId, decky: &DeckyName) -> Option<DeckyRuntime> {
        self.lock().get(host)?.status.runtime.get(decky).cloned()
    }

    /// Whether the host's last beat left the row out of those it knows.
    pub(crate) fn is_missing(&self, host: &HostId, id: LifecycleId) -> bool {
        let hosts = self.lock();
        let row = hosts.get(host).and_then(|worker| worker.handed.get(&id));
        row.is_some_and(|row| row.missing_since.is_some())
    }

    /// What the host last said that it keeps of a decky.
    pub(crate) fn kept(&self, host: &HostId, decky: &DeckyName) -> Option<Kept> {
        self.lock().get(host)?.status.deckies.get(decky).cloned()
    }

    /// The rows that the worker has taken, and their deckies.
    pub(crate) fn taken(&self, host: &HostId) -> Vec<(LifecycleId, DeckyName)> {
        let hosts = self.lock();
        let handed =
            hosts.get(host).into_iter().flat_map(|worker| &worker.handed).filter(|(_, row)| row.taken);
        handed.map(|(id, row)| (*id, row.decky.clone())).collect()
    }

    /// A beat shows this of a taken row's decky; what ends the row by it.
    pub(crate) fn look(
        &self,
        host: &HostId,
        id: LifecycleId,
        sights: (Sight, Sight),
        wants: &[ServiceName],
        at: Duration,
        steady: Steady,
    ) -> Option<End> {
        let mut hosts = self.lock();
        let row = hosts.get_mut(host)?.handed.get_mut(&id)?;
        let end = row.watched.look(sights, wants, at, steady);
        if row.asked_to_stop { Some(End::Cancelled) } else { end }
    }

    /// A word that ended no row: it is kept, and beside the row that it may be
    /// about, why it was not taken.
    pub(crate) fn keep_word(
        &self,
        host: &HostId,
        said: Said<'_>,
        doubt: Option<(LifecycleId, String)>,
        at: Duration,
        patience: Duration,
    ) {
        let mut hosts = self.lock();
        let worker = hosts.entry(host.clone()).or_default();
        worker.words.keep(said.decky, said.operation, (said.claim, said.is_good), at, patience);
        if let Some((id, why)) = doubt
            && let Some(row) = worker.handed.get_mut(&id)
        {
            row.watched.doubt = Some(why);
        }
    }

    /// Keeps beside a row why a word was not taken for its own.
    pub(crate) fn keep_doubt(&self, host: &HostId, id: LifecycleId, why: String) {
        if let Some(row) = self.lock().get_mut(host).and_then(|worker| worker.handed.get_mut(&id)) {
            row.watched.doubt = Some(why);
        }
    }

    /// What a word comes to for a running row; see [`Words::weigh`].
    pub(crate) fn weigh(&self, host: &HostId, id: LifecycleId, said: Said<'_>, silent: Silent<'_>) -> Weight {
        let hosts = self.lock();
        let Some(worker) = hosts.get(host) else { return Weight::Doubtful };
        let Some(row) = worker.handed.get(&id) else { return Weight::Doubtful };
        let word = (said.claim, said.is_good);
        // One of before a restart was begun before any word that is remembered.
        let begun = |id: &LifecycleId| {
            let open = || worker.handed.get(id).map(|row| row.watched.begun);
            worker.words.begun(*id).or_else(open).unwrap_or(0)
        };
        let began = silent.rows.iter().map(begun).max().unwrap_or(0);
        worker.words.weigh(said.decky, said.operation, &row.watched, word, (silent, began))
    }

    /// Whether no word of this ended row can be on its way any more.
    pub(crate) fn is_over(&self, host: &HostId, id: LifecycleId) -> bool {
        self.lock().get(host).is_some_and(|worker| worker.words.is_over(id))
    }

    /// Whether this ended row is known to have wanted other services.
    pub(crate) fn wanted_other_than(&self, host: &HostId, id: LifecycleId, services: &[ServiceName]) -> bool {
        self.lock().get(host).is_some_and(|worker| worker.words.wanted_other_than(id, services))
    }

    /// By which call the worker was sent the row.
    pub(crate) fn call_of(&self, host: &HostId, id: LifecycleId) -> Option<u64> {
        self.lock().get(host)?.handed.get(&id)?.watched.call
    }

    /// A word has ended this row, and so its call is over: the other rows of the
    /// call have ended as well.
    pub(crate) fn call_is_over(
        &self,
        host: &HostId,
        (id, call): (LifecycleId, Option<u64>),
        failed: Option<&str>,
        at: Duration,
    ) {
        let mut hosts = self.lock();
        let Some(worker) = hosts.get_mut(host) else { return };
        worker.words.over(id);
        let same = worker.handed.values_mut().filter(|row| call.is_some() && row.watched.call == call);
        same.for_each(|row| row.watched.set_over(at, failed));
    }

    /// What was not taken for a row's word, and for how long its decky is seen
    /// as asked.
    pub(crate) fn doubt(
        &self,
        host: &HostId,
        id: LifecycleId,
        now: Duration,
    ) -> (Option<String>, Option<Duration>) {
        let hosts = self.lock();
        let row = hosts.get(host).and_then(|worker| worker.handed.get(&id));
        row.map_or((None, None), |row| (row.watched.doubt.clone(), row.watched.seen_for(now)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<HostId, Worker>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
