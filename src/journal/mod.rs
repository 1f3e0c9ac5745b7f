//! Commits steps, and tells the bus after the commit and only then.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use event_listener::{Event as Signal, EventListener};

use crate::bus::{Bus, DriftEvent, Event};
use crate::decide::{Annotate, Batch, Change, Outcome, Refusal, Step};
use crate::discretion::Discretion;
use crate::lifecycle::{
    AnyLifecycle, Closed, DeckyName, Failure, Intent, Lifecycle, LifecycleId, Record, Running, State,
    Timestamp, Transition,
};
use crate::store::{Store, StoreError};
use crate::waiting::{Waiter, Waiting};

mod error;
mod insert;

pub use error::CommitError;
pub(crate) use insert::{InsertError, Inserted};

/// The only way from an intended step to a durable one.
///
/// Cheap to clone; all clones share one store and one bus.
#[derive(Debug, Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

/// Hears of every row that a journal has changed, right after the commit and
/// before anybody else: the one place where it is known that a row closed, was
/// started, or was asked to stop. Must return at once.
pub(crate) trait Observer: fmt::Debug + Send + Sync {
    fn changed(&self, row: &Record);
}

struct Shared {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    observer: Option<Arc<dyn Observer>>,
    /// Sees to it that no secret stands in what is kept.
    discretion: Option<Arc<Discretion>>,
    committed: Signal,
    waiting: Waiting,
    steps: AtomicU64,
    commits: AtomicU64,
    conflicts: AtomicU64,
    store_errors: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("store", &self.store).field("bus", &self.bus).finish_non_exhaustive()
    }
}

/// Numbers since the journal was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct JournalCounts {
    pub(crate) steps: u64,
    pub(crate) commits: u64,
    pub(crate) conflicts: u64,
    pub(crate) store_errors: u64,
    pub(crate) events_dropped: u64,
}

impl Journal {
    /// A journal over a store and a bus.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, bus: Arc<dyn Bus>) -> Self {
        Self::observed(store, bus, None, None)
    }

    pub(crate) fn observed(
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        observer: Option<Arc<dyn Observer>>,
        discretion: Option<Arc<Discretion>>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                bus,
                observer,
                discretion,
                committed: Signal::new(),
                waiting: Waiting::default(),
                steps: AtomicU64::new(0),
                commits: AtomicU64::new(0),
                conflicts: AtomicU64::new(0),
                store_errors: AtomicU64::new(0),
            }),
        }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.shared.store
    }

    /// Something else has committed to the store: whoever waits looks again.
    pub(crate) fn others_committed(&self) {
        self.shared.committed.notify(usize::MAX);
    }

    /// Wakes after the next commit made through this journal.
    pub(crate) fn committed(&self) -> EventListener {
        self.shared.committed.listen()
    }

    /// Wakes when one of these rows ends by a commit made through this journal.
    pub(crate) fn waiter(&self, ids: &[LifecycleId]) -> Waiter<'_> {
        self.shared.waiting.on(ids)
    }

    pub(crate) fn counts(&self) -> JournalCounts {
        JournalCounts {
            steps: self.shared.steps.load(Ordering::Relaxed),
            commits: self.shared.commits.load(Ordering::Relaxed),
            conflicts: self.shared.conflicts.load(Ordering::Relaxed),
            store_errors: self.shared.store_errors.load(Ordering::Relaxed),
            events_dropped: self.shared.bus.dropped(),
        }
    }

    /// Makes one step durable.
    ///
    /// If the future is dropped after the store has taken the step, the step
    /// still lands, without an event.
    ///
    /// # Errors
    /// [`CommitError`] gives back what can still be held.
    pub async fn commit<F: State, T: State>(
        &self,
        transition: Transition<F, T>,
    ) -> Result<Lifecycle<T>, CommitError<F>> {
        let id = transition.next().id;
        self.commit_all(vec![transition]).await.pop().unwrap_or(Err(CommitError::Missing { id }))
    }

    /// Makes many steps durable in one commit; each row stands for itself.
    /// The answers are in the order of the steps. Dropping the future is as
    /// for [`Journal::commit`].
    pub async fn commit_all<F: State, T: State>(
        &self,
        transitions: Vec<Transition<F, T>>,
    ) -> Vec<Result<Lifecycle<T>, CommitError<F>>> {
        let intents = transitions.into_iter().map(Transition::into_intent).collect();
        let typed = |record| Lifecycle::from_record(record).map_err(conflict);
        let answers = self.commit_intents(intents).await;
        answers.into_iter().map(|answer| answer.and_then(typed)).collect()
    }

    /// Ends many running rows in one commit, each by its own result.
    pub async fn close_all(
        &self,
        rows: Vec<(Lifecycle<Running>, Result<(), Failure>)>,
        at: Timestamp,
    ) -> Vec<Result<Closed, CommitError<Running>>> {
        let ends = rows.into_iter().map(|(row, result)| match result {
            Ok(()) => row.succeed(at).into_intent(),
            Err(failure) => row.fail(failure, at).into_intent(),
        });
        self.commit_intents(ends.collect())
            .await
            .into_iter()
            .map(|answer| {
                answer.and_then(|record| match AnyLifecycle::from_record(record) {
                    AnyLifecycle::Succeeded(row) => Ok(Closed::Succeeded(row)),
                    AnyLifecycle::Failed(row) => Ok(Closed::Failed(row)),
                    AnyLifecycle::Pending(row) => Err(conflict(Box::new(row.into_record()))),
                    AnyLifecycle::Running(row) => Err(conflict(Box::new(row.into_record()))),
                })
            })
            .collect()
    }

    /// The row with this id, typed by its status.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be read.
    pub async fn load(&self, id: LifecycleId) -> Result<Option<AnyLifecycle>, StoreError> {
        Ok(self.shared.store.read(&[id]).await?.pop().map(AnyLifecycle::from_record))
    }

    /// Changes placements without a row.
    pub(crate) async fn place(&self, batch: Batch) -> Result<Vec<Outcome>, StoreError> {
        self.apply(batch).await
    }

    /// Notes on an open row that somebody asked for it to stop; gives the row
    /// as it is afterwards, whatever its status.
    pub(crate) async fn request_cancel(
        &self,
        id: LifecycleId,
        at: Timestamp,
    ) -> Result<Option<Record>, StoreError> {
        let note = Change::Annotate(Annotate { id, cancel_requested_at: at });
        Ok(match self.apply(Batch::per_row(vec![note])).await?.pop() {
            Some(Outcome::Applied { record, .. }) => Some(*record),
            Some(Outcome::Refused(Refusal::Conflict(record))) => Some(*record),
            _ => None,
        })
    }

    /// Commits steps, each row for itself, as many at once as a batch may hold.
    ///
    /// A note that somebody asked a row to stop raises the row's revision and
    /// leaves its status. A step that was decided before the note is refused
    /// as a conflict, though it is as right as before: it is put on the row as
    /// that is now ("rebased") and committed again. This ends: a row takes one
    /// note in its life, and after any other conflict the step is given up.
    pub(crate) async fn commit_intents<F: State>(
        &self,
        intents: Vec<Intent<F>>,
    ) -> Vec<Result<Record, CommitError<F>>> {
        let mut answers = Vec::new();
        answers.resize_with(intents.len(), || None);
        let mut waiting: Vec<(usize, Intent<F>)> = intents.into_iter().enumerate().collect();
        while !waiting.is_empty() {
            let later = waiting.split_off(waiting.len().min(Batch::MAX_CHANGES));
            let changes = waiting.iter().map(|(_, intent)| step_of(intent)).collect();
            let mut outcomes = self.apply(Batch::per_row(changes)).await.map(Vec::into_iter);
            let mut again = Vec::new();
            for (place, intent) in waiting {
                let settled = match &mut outcomes {
                    Ok(outcomes) => settle(intent, outcomes.next()),
                    Err(error) => Settled::Answer(Err(not_done(intent, error))),
                };
                match settled {
                    Settled::Rebased(intent) => again.push((place, intent)),
                    Settled::Answer(answer) => put(&mut answers, place, answer),
                }
            }
            again.extend(later);
            waiting = again;
        }
        answers.into_iter().flatten().collect()
    }

    /// One commit, and then its events.
    async fn apply(&self, batch: Batch) -> Result<Vec<Outcome>, StoreError> {
        let changes = batch.changes.len();
        let notes: Vec<bool> =
            batch.changes.iter().map(|change| matches!(change, Change::Annotate(_))).collect();
        let batch = match &self.shared.discretion {
            Some(discretion) => discretion.of_batch(batch, self.store()).await,
            None => Ok(batch),
        };
        let committed = match batch {
            Ok(batch) => self.shared.store.commit(batch).await,
            Err(error) => Err(error),
        };
        let result = committed.and_then(|outcomes| {
            // A known key is answered by the rows that it made.
            let repeated = outcomes.iter().any(|outcome| {
                matches!(outcome, Outcome::Repeated(_) | Outcome::Refused(Refusal::KeyTaken(_)))
            });
            if repeated || outcomes.len() == changes {
                return Ok(outcomes);
            }
            let what = format!("it answered {changes} changes with {} outcomes", outcomes.len());
            Err(StoreError::Corrupt { what })
        });
        match &result {
            Ok(outcomes) => self.tell(outcomes, &notes),
            Err(error) => {
                self.shared.store_errors.fetch_add(1, Ordering::Relaxed);
                log::error!(target: "decnet_lifecycle::journal", error:% = error; "a commit failed");
            }
        }
        result
    }

    fn tell(&self, outcomes: &[Outcome], notes: &[bool]) {
        let mut steps = 0;
        for (place, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Outcome::Applied { record, superseded } => {
                    for row in superseded.iter().chain([&**record]) {
                        steps += 1;
                        if let Some(observer) = &self.shared.observer {
                            observer.changed(row);
                        }
                        if !row.is_open() {
                            self.shared.waiting.ended(row.id);
                        }
                    }
                    superseded.iter().for_each(|row| self.publish(row));
                    // A note changes no status: it is in the feed, not on the
                    // bus.
                    if !notes.get(place).is_some_and(|note| *note) {
                        self.publish(record);
                    }
                }
                Outcome::Refused(Refusal::Conflict(_)) => {
                    self.shared.conflicts.fetch_add(1, Ordering::Relaxed);
                }
                Outcome::Refused(_) | Outcome::Repeated(_) | Outcome::Placed(_) => {}
            }
        }
        if steps > 0 {
            self.shared.steps.fetch_add(steps, Ordering::Relaxed);
            self.shared.commits.fetch_add(1, Ordering::Relaxed);
            self.shared.committed.notify(usize::MAX);
        }
    }

    fn publish(&self, record: &Record) {
        // Its end is what everybody wants to hear of.
        let level = if record.is_open() { log::Level::Debug } else { log::Level::Info };
        log::log!(
            target: "decnet_lifecycle::journal",
            level,
            lifecycle_id:% = record.id,
            decky:% = record.decky,
            host:% = record.host.as_ref().map_or("-", |host| host.as_str()),
            operation:% = record.operation,
            status:% = record.status(),
            error:% = record.failure().map(ToString::to_string).unwrap_or_default();
            "committed"
        );
        let event = Event::of(record);
        self.hand_on(&record.decky, |bus| bus.publish(&event));
    }

    /// Tells the bus of a decky that doesn't run as it is placed, or does again.
    pub(crate) fn publish_drift(&self, event: &DriftEvent) {
        self.hand_on(&event.decky, |bus| bus.publish_drift(event));
    }

    fn hand_on(&self, decky: &DeckyName, publish: impl FnOnce(&dyn Bus)) {
        let published = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| publish(&*self.shared.bus)));
        if published.is_err() {
            log::error!(target: "decnet_lifecycle::journal", decky:% = decky; "the bus panicked");
        }
    }
}

enum Settled<F: State> {
    Rebased(Intent<F>),
    Answer(Result<Record, CommitError<F>>),
}

fn settle<F: State>(intent: Intent<F>, outcome: Option<Outcome>) -> Settled<F> {
    let id = intent.id();
    let answer = match outcome {
        Some(Outcome::Applied { record, .. }) => {
            intent.forget();
            Ok(*record)
        }
        Some(Outcome::Refused(Refusal::Conflict(current))) => match intent.rebased(*current) {
            Ok(intent) => return Settled::Rebased(intent),
            Err(current) => Err(conflict(current)),
        },
        Some(Outcome::Refused(_) | Outcome::Repeated(_) | Outcome::Placed(_)) | None => {
            intent.forget();
            Err(CommitError::Missing { id })
        }
    };
    Settled::Answer(answer)
}

fn not_done<F: State>(intent: Intent<F>, error: &StoreError) -> CommitError<F> {
    let error = error.clone();
    if error.is_unchanged() {
        return CommitError::NotCommitted { lifecycle: intent.give_back(), error };
    }
    let id = intent.id();
    intent.forget();
    CommitError::Unknown { id, error }
}

const fn conflict<S: State>(current: Box<Record>) -> CommitError<S> {
    CommitError::Conflict { current }
}

fn put<T>(places: &mut [Option<T>], place: usize, value: T) {
    if let Some(slot) = places.get_mut(place) {
        *slot = Some(value);
    }
}

fn step_of<F: State>(intent: &Intent<F>) -> Change {
    let (expected, next, leaves) = intent.as_step();
    Change::Step(Box::new(Step { expected, next: next.clone(), leaves }))
}
