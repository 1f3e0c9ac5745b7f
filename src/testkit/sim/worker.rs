//! Simulated workers: they take dispatches, run them, and say how they ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::beat::{Delta, Reported};
use crate::clock::Clock;
use crate::lifecycle::{DeckyName, HostId, LifecycleId, Operation, Timestamp};
use crate::testkit::VirtualClock;

use super::dice::Dice;
use super::executor::Executor;

/// Whose worker it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ours: takes each id once, echoes ids, loses nothing in a crash.
    Ours,
    /// The original's: no ids in its deltas, forgets everything in a crash.
    Original,
}

/// The longest that an operation takes: longer than a master waits for it.
const LONGEST: Duration = Duration::from_secs(40 * 60);
/// On a worker that names no rows: not longer than a master remembers that it
/// gave up, for what comes later can't be told from what comes next.
const LONGEST_UNNAMED: Duration = Duration::from_secs(25 * 60);

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) host: HostId,
    pub(super) kind: Kind,
    pub(super) group: usize,
    up: AtomicBool,
    /// Its clock is off by so many seconds.
    skew: i64,
    kept: Mutex<Kept>,
}

/// What a worker keeps on its disk.
#[derive(Debug, Default)]
struct Kept {
    taken: BTreeMap<LifecycleId, (DeckyName, Operation)>,
    outbox: BTreeMap<u64, Delta>,
    next: u64,
    /// What has ended, and whether it really succeeded.
    ended: BTreeMap<LifecycleId, bool>,
}

impl Worker {
    pub(super) fn new(host: HostId, kind: Kind, group: usize, skew: i64) -> Self {
        Self { host, kind, group, up: AtomicBool::new(true), skew, kept: Mutex::default() }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Whether this row's operation really succeeded here.
    pub(super) fn did(&self, id: LifecycleId) -> bool {
        self.kept().ended.get(&id) == Some(&true)
    }

    /// What waits to be said, oldest first.
    pub(super) fn waiting(&self) -> Vec<(u64, Delta)> {
        self.kept().outbox.iter().map(|(number, delta)| (*number, delta.clone())).collect()
    }

    pub(super) fn settle(&self, numbers: &[u64]) {
        self.kept().outbox.retain(|number, _| !numbers.contains(number));
    }

    /// Takes an operation; ours takes each id once.
    pub(super) fn take(
        self: &Arc<Self>,
        world: (&Executor, &Dice, &Arc<VirtualClock>),
        id: LifecycleId,
        decky: DeckyName,
        operation: Operation,
    ) {
        let known = self.kept().taken.insert(id, (decky.clone(), operation)).is_some();
        if known && self.kind == Kind::Ours {
            return;
        }
        let (executor, dice, clock) = world;
        let longest = if self.kind == Kind::Ours { LONGEST } else { LONGEST_UNNAMED };
        let (takes, good) = (dice.up_to(longest), dice.percent(75));
        let (worker, clock) = (Arc::clone(self), Arc::clone(clock));
        executor.spawn(self.group, async move {
            clock.sleep(takes).await;
            let report = if good { Reported::Succeeded } else { Reported::Failed("exit 1".to_owned()) };
            worker.ended(id, decky, operation, report, clock.now());
        });
    }

    fn ended(
        &self,
        id: LifecycleId,
        decky: DeckyName,
        operation: Operation,
        report: Reported,
        at: Timestamp,
    ) {
        let mut kept = self.kept();
        let good = report == Reported::Succeeded;
        kept.ended.entry(id).and_modify(|before| *before |= good).or_insert(good);
        let claim = Timestamp::from_micros(at.as_micros().saturating_add(self.skew * 1_000_000));
        let lifecycle_id = (self.kind == Kind::Ours).then_some(id);
        let delta = Delta { lifecycle_id, decky, operation, report, completed_at: Some(claim) };
        let number = kept.next;
        kept.next += 1;
        kept.outbox.insert(number, delta);
    }

    pub(super) fn crash(&self, executor: &Executor) {
        self.up.store(false, Ordering::Relaxed);
        executor.kill(self.group);
    }

    /// Comes back; what ran when it crashed counts as failed, and is said so.
    pub(super) fn restart(&self, at: Timestamp) {
        self.up.store(true, Ordering::Relaxed);
        match self.kind {
            Kind::Original => {
                let mut kept = self.kept();
                kept.outbox.clear();
                kept.taken.clear();
            }
            Kind::Ours => {
                let mut running = self.kept().taken.clone();
                running.retain(|id, _| !self.kept().ended.contains_key(id));
                for (id, (decky, operation)) in running {
                    let report = Reported::Failed("the worker restarted".to_owned());
                    self.ended(id, decky, operation, report, at);
                }
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
