//! Simulated workers: they take dispatches, run them, and say how they ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::beat::{Delta, Reported, WorkerStatus};
use crate::clock::Clock;
use crate::lifecycle::{DeckyName, HostId, LifecycleId, Operation, Timestamp};
use crate::testkit::VirtualClock;

use super::dice::Dice;
use super::executor::Executor;
use super::shown::Shown;

/// Whose worker it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ours: takes each id once, echoes ids, loses nothing in a crash.
    Ours,
    /// The original's: no ids in its deltas, says each once, and forgets in a
    /// crash what it was at. See [`Network::original`](super::network::Network).
    Original,
}

/// The longest that an operation takes: longer than a master waits for it.
const LONGEST: Duration = Duration::from_secs(40 * 60);
/// On a worker that names no rows: not longer than a master remembers that it
/// gave up, for what comes later can't be told from what comes next.
pub(super) const LONGEST_UNNAMED: Duration = Duration::from_secs(25 * 60);

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) host: HostId,
    pub(super) kind: Kind,
    pub(super) group: usize,
    up: AtomicBool,
    /// Its clock is off by so many seconds.
    skew: i64,
    kept: Mutex<Kept>,
    shown: Mutex<Shown>,
}

/// What a worker keeps on its disk.
#[derive(Debug, Default)]
struct Kept {
    taken: BTreeMap<LifecycleId, (DeckyName, Operation)>,
    outbox: BTreeMap<u64, Delta>,
    next: u64,
    /// What has ended, and whether it really succeeded.
    ended: BTreeMap<LifecycleId, bool>,
    /// Of which row each claim really is, and when its call had come.
    claims: BTreeMap<(DeckyName, Timestamp), (LifecycleId, Duration)>,
}

impl Worker {
    pub(super) fn new(host: HostId, kind: Kind, group: usize, skew: i64) -> Self {
        Self {
            host,
            kind,
            group,
            up: AtomicBool::new(true),
            skew,
            kept: Mutex::default(),
            shown: Mutex::default(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Whether this row's operation really succeeded here.
    pub(super) fn did(&self, id: LifecycleId) -> bool {
        self.kept().ended.get(&id) == Some(&true)
    }

    /// Whether this row's operation has ended here.
    fn has_ended(&self, id: LifecycleId) -> bool {
        self.kept().ended.contains_key(&id)
    }

    /// Whether a claim really is of a call that came before the row's.
    pub(super) fn is_stale(&self, decky: &DeckyName, claim: Timestamp, id: LifecycleId) -> bool {
        let came = self.shown().came_at(id);
        let said = self.kept().claims.get(&(decky.clone(), claim)).copied();
        said.is_some_and(|(of, at)| of != id && came.is_none_or(|came| at < came))
    }

    /// Whether the row's call, or a later one of its decky, has had its say.
    pub(super) fn has_spoken(&self, decky: &DeckyName, id: LifecycleId) -> bool {
        let came = self.shown().came_at(id);
        let later = |((of, _), (_, at)): (&(DeckyName, Timestamp), &(LifecycleId, Duration))| {
            of == decky && came.is_some_and(|came| *at >= came)
        };
        self.has_ended(id) || self.kept().claims.iter().any(later)
    }

    /// The rows that it knows.
    pub(super) fn known(&self) -> BTreeSet<LifecycleId> {
        self.kept().taken.keys().copied().collect()
    }

    /// What it shows of its deckies, and has shown.
    pub(super) fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> WorkerStatus {
        self.shown().status()
    }

    /// What waits to be said, oldest first.
    pub(super) fn waiting(&self) -> Vec<(u64, Delta)> {
        self.kept().outbox.iter().map(|(number, delta)| (*number, delta.clone())).collect()
    }

    pub(super) fn settle(&self, numbers: &[u64]) {
        self.kept().outbox.retain(|number, _| !numbers.contains(number));
    }

    /// Takes an operation of ours, each id once.
    pub(super) fn take(
        self: &Arc<Self>,
        world: (&Executor, &Dice, &Arc<VirtualClock>),
        id: LifecycleId,
        decky: DeckyName,
        operation: Operation,
    ) {
        if self.kept().taken.insert(id, (decky.clone(), operation)).is_some() {
            return;
        }
        let (executor, dice, clock) = world;
        let (takes, good) = (dice.up_to(LONGEST), dice.percent(75));
        let (worker, clock) = (Arc::clone(self), Arc::clone(clock));
        executor.spawn(self.group, async move {
            clock.sleep(takes).await;
            let report = if good { Reported::Succeeded } else { Reported::Failed("exit 1".to_owned()) };
            let delta = worker.ended(id, decky, operation, report, clock.now(), Duration::ZERO);
            worker.outbox(delta);
        });
    }

    /// An operation has ended: what is to be said of it.
    pub(super) fn ended(
        &self,
        id: LifecycleId,
        decky: DeckyName,
        operation: Operation,
        report: Reported,
        at: Timestamp,
        came: Duration,
    ) -> Delta {
        let mut kept = self.kept();
        let good = report == Reported::Succeeded;
        kept.ended.entry(id).and_modify(|before| *before |= good).or_insert(good);
        kept.next += 1;
        // No two claims are equal.
        let micros = self.skew * 1_000_000 + i64::try_from(kept.next % 1_000).unwrap_or(0);
        let claim = Timestamp::from_micros(at.as_micros().saturating_add(micros));
        kept.claims.insert((decky.clone(), claim), (id, came));
        let lifecycle_id = (self.kind == Kind::Ours).then_some(id);
        Delta { lifecycle_id, decky, operation, report, completed_at: Some(claim) }
    }

    fn outbox(&self, delta: Delta) {
        let mut kept = self.kept();
        kept.next += 1;
        let number = kept.next;
        kept.outbox.insert(number, delta);
    }

    pub(super) fn crash(&self, executor: &Executor) {
        self.up.store(false, Ordering::Relaxed);
        executor.kill(self.group);
    }

    /// Comes back; what ran on one of ours when it crashed counts as failed,
    /// and is said so. The original's says nothing more of it.
    pub(super) fn restart(&self, at: Timestamp) {
        self.up.store(true, Ordering::Relaxed);
        if self.kind == Kind::Original {
            return;
        }
        let mut running = self.kept().taken.clone();
        running.retain(|id, _| !self.has_ended(*id));
        for (id, (decky, operation)) in running {
            let report = Reported::Failed("the worker restarted".to_owned());
            let delta = self.ended(id, decky, operation, report, at, Duration::ZERO);
            self.outbox(delta);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
