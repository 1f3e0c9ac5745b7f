//! What a strategy works with.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::journal::CommitError;
use crate::lifecycle::{
    Closed, DeckyName, Failed, Failure, FailureKind, Lifecycle, LifecycleId, Pending, Running, State,
    Succeeded, Timestamp,
};
use crate::master::{self, Master};
use crate::placement::Placement;
use crate::store::{PlacementQuery, StoreError};

use super::Rows;

/// What a strategy works with: the only way on for the rows that it was given.
///
/// All commits go through one journal, so the bus, the feed and whoever waits
/// hear of them. A store that fails for a moment is asked again.
#[derive(Debug)]
pub struct Context {
    pub(super) master: Arc<Master>,
    /// The rows that nobody has ended or handed over yet.
    left: Mutex<BTreeSet<LifecycleId>>,
}

/// How started rows ended.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Ended {
    /// Rows that ended well, on evidence.
    pub succeeded: Rows<Succeeded>,
    /// Rows that ended badly.
    pub failed: Rows<Failed>,
    /// Deckies whose rows somebody else ended, or of which it is not known
    /// whether their end is durable.
    pub others: BTreeSet<DeckyName>,
}

impl Ended {
    /// Whether there were rows, and each of them ended well.
    #[must_use]
    pub fn all_succeeded(&self) -> bool {
        !self.succeeded.is_empty() && self.failed.is_empty() && self.others.is_empty()
    }

    pub(super) fn extend(&mut self, more: Self) {
        self.succeeded.extend(more.succeeded);
        self.failed.extend(more.failed);
        self.others.extend(more.others);
    }
}

impl Context {
    pub(super) fn new(master: Arc<Master>, rows: impl Iterator<Item = LifecycleId>) -> Self {
        Self { master, left: Mutex::new(rows.collect()) }
    }

    /// Fails rows that were not started, all in one commit.
    pub async fn fail(&self, rows: Rows<Pending>, failure: &Failure) {
        self.settled(rows.values().map(Lifecycle::id));
        master::fail_pending(&self.master, rows.into_values().collect(), failure).await;
    }

    /// Whether somebody asked for this decky's work to stop.
    #[must_use]
    pub fn is_cancelled<S: State>(&self, row: &Lifecycle<S>) -> bool {
        self.master.active.token(row.id()).is_cancelled()
    }

    /// What is placed, as it is now. A row that is to bring something up has it
    /// in its decky's [`Placement::tried`]. Cancel-safe.
    ///
    /// # Errors
    /// [`StoreError`] if the placements can't be read.
    pub async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, StoreError> {
        self.master.journal.store().placements(query).await
    }

    /// The time, by the runner's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.master.time.clock.now()
    }

    /// Waits, by the runner's clock. Cancel-safe.
    pub async fn sleep(&self, duration: Duration) {
        self.master.time.clock.sleep(duration).await;
    }

    /// Takes all rows to running in one commit. What somebody else has ended is
    /// left out; what the store could not take fails.
    pub(super) async fn to_running(
        &self,
        rows: Rows<Pending>,
        deadline: impl Fn(Timestamp) -> Timestamp,
    ) -> Rows<Running> {
        let master = &*self.master;
        let at = master.time.deadline_base();
        let deckies: Vec<(DeckyName, LifecycleId)> =
            rows.iter().map(|(decky, row)| (decky.clone(), row.id())).collect();
        let steps = rows.into_values().map(|row| row.start(at, deadline(at))).collect();
        let answers = master.journal.commit_all(steps).await;
        let mut started = Rows::new();
        let mut refused: Vec<Lifecycle<Pending>> = Vec::new();
        let mut unknown = Vec::new();
        let mut why = Failure::new(FailureKind::Store, "the store did not take the step to running");
        for ((decky, id), answer) in deckies.into_iter().zip(answers) {
            match answer {
                Ok(row) => {
                    started.insert(decky, row);
                    continue;
                }
                Err(CommitError::NotCommitted { lifecycle, error }) => {
                    why = Failure::new(FailureKind::Store, &format!("not started: {error}"));
                    refused.push(lifecycle);
                }
                Err(CommitError::Unknown { id, error }) => {
                    why = Failure::new(FailureKind::Store, &format!("not started: {error}"));
                    unknown.push(id);
                }
                Err(gone) => gone.say(),
            }
            self.settled([id].into_iter());
        }
        master::fail_pending(master, refused, &why).await;
        master::fail_open(master, &unknown, &why).await;
        started
    }

    /// Ends running rows, each by its own result, in one commit.
    pub(super) async fn close(&self, rows: Vec<(Lifecycle<Running>, Result<(), Failure>)>) -> Ended {
        let mut others: BTreeSet<DeckyName> = rows.iter().map(|(row, _)| row.decky().clone()).collect();
        self.settled(rows.iter().map(|(row, _)| row.id()));
        let mut ended = Ended::default();
        for closed in master::close(&self.master, rows).await {
            match closed {
                Closed::Succeeded(row) => {
                    others.remove(row.decky());
                    ended.succeeded.insert(row.decky().clone(), row);
                }
                Closed::Failed(row) => {
                    others.remove(row.decky());
                    ended.failed.insert(row.decky().clone(), row);
                }
            }
        }
        Ended { others, ..ended }
    }

    /// These rows are no longer this context's to end.
    pub(super) fn settled(&self, rows: impl Iterator<Item = LifecycleId>) {
        let mut left = self.lock();
        for id in rows {
            left.remove(&id);
        }
    }

    /// The rows that are left.
    pub(super) fn left(&self) -> Vec<LifecycleId> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<LifecycleId>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
