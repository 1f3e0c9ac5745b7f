//! One engine call for many rows of the master's own deckies.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_lite::FutureExt;

use crate::engine::{Progress, Report, Task, Work};
use crate::fleet::FleetConfig;
use crate::lifecycle::{
    DeckyName, Failure, FailureKind, Lifecycle, LifecycleId, Operation, Pending, Running,
};
use crate::master::{Master, Stage, Turn, panic_text};
use crate::placement::{Aim, fleet_of};
use crate::store::PlacementQuery;

use super::{Context, Ended, Rows};

/// Rows of the master's own deckies that are durably running: the engine may be
/// called for them. Other calls that would be in the way wait until they have
/// ended, so end them before you start more.
#[derive(Debug)]
#[must_use = "call the engine for them, and end them by its report"]
pub struct Started {
    rows: Rows<Running>,
    _turn: Turn,
}

/// What the engine said of started rows, and of no others: what
/// [`Context::end`] ends them by.
#[derive(Debug)]
#[must_use = "end the rows by it"]
pub struct Evidence {
    rows: BTreeSet<LifecycleId>,
    report: Report,
}

impl Evidence {
    /// What was said, decky by decky.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// How this row has ended by it. Of a row that it is not of, nothing was
    /// said.
    fn of(&self, row: &Lifecycle<Running>) -> Result<(), Failure> {
        match self.rows.contains(&row.id()) {
            true => self.report.outcome(row.decky()),
            false => {
                Err(Failure::new(FailureKind::Abandoned, "what its strategy ended it by is of other rows"))
            }
        }
    }
}

impl Started {
    /// Whether there is none: somebody else has ended them all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows.
    #[must_use]
    pub const fn rows(&self) -> &Rows<Running> {
        &self.rows
    }
}

impl Context {
    /// Waits for its turn with the engine, and takes the rows to running in one
    /// commit. What somebody else has ended meanwhile is left out; what the
    /// store could not take fails.
    pub async fn start(&self, rows: Rows<Pending>) -> Started {
        self.master.active.enter(rows.values().map(Lifecycle::id), Stage::EngineQueue);
        let turn = self.master.local.turn(rows.keys()).await;
        let run = self.master.time.deadlines.run;
        let rows = self.to_running(rows, |at| at.plus(run)).await;
        self.master.active.enter(rows.values().map(Lifecycle::id), Stage::Engine);
        Started { rows, _turn: turn }
    }

    /// Has the engine bring the rows' deckies up: one call for all. Whatever
    /// goes wrong, a panic and a deadline too, is in what it gives. Rows that
    /// were accepted for something else than a deploy are not begun, and fail.
    pub async fn deploy(&self, started: &Started) -> Evidence {
        self.call_engine(Operation::Deploy, started).await
    }

    /// Has the engine give the rows' deckies their new services; see
    /// [`deploy`](Self::deploy).
    pub async fn mutate(&self, started: &Started) -> Evidence {
        self.call_engine(Operation::Mutate, started).await
    }

    /// Has the engine take the rows' deckies down; see
    /// [`deploy`](Self::deploy).
    pub async fn teardown(&self, started: &Started) -> Evidence {
        self.call_engine(Operation::Teardown, started).await
    }

    /// Ends each row by what the engine said of it, all in one commit. A decky
    /// that its report does not name has failed.
    pub async fn end(&self, started: Started, evidence: Evidence) -> Ended {
        let Started { rows, _turn } = started;
        let ends = rows.into_values().map(|row| {
            let outcome = self.outcome(&row, evidence.of(&row));
            (row, outcome)
        });
        self.close(ends.collect()).await
    }

    /// As [`deploy`](Self::deploy) and [`end`](Self::end), but that each row
    /// ends as soon as the engine has told of its decky ([`Work::report`]): a
    /// fast one doesn't wait for a slow one, and if the master dies meanwhile,
    /// only what was not known has failed.
    pub async fn deploy_as_reported(&self, started: Started) -> Ended {
        self.as_reported(Operation::Deploy, started).await
    }

    /// As [`deploy_as_reported`](Self::deploy_as_reported), for a teardown.
    pub async fn teardown_as_reported(&self, started: Started) -> Ended {
        self.as_reported(Operation::Teardown, started).await
    }

    /// What ends a row, given what its engine says: who asked for it to stop
    /// is told that it did.
    fn outcome(&self, row: &Lifecycle<Running>, said: Result<(), Failure>) -> Result<(), Failure> {
        said.map_err(|failure| match failure.kind() {
            FailureKind::Cancelled => failure,
            _ if self.is_cancelled(row) => Failure::new(FailureKind::Cancelled, failure.message()),
            _ => failure,
        })
    }

    async fn call_engine(&self, call: Operation, started: &Started) -> Evidence {
        let progress = Arc::clone(&self.master.local.progress);
        let tasks = self.tasks(&started.rows);
        let rows = tasks.values().map(|task| task.id).collect();
        let report = match fits(call, &started.rows) {
            Ok(()) => self.called(call, tasks, progress).await,
            Err(failure) => all_failed(started.rows.keys(), &failure),
        };
        Evidence { rows, report }
    }

    async fn as_reported(&self, call: Operation, started: Started) -> Ended {
        if started.is_empty() || fits(call, &started.rows).is_err() {
            let evidence = self.call_engine(call, &started).await;
            return self.end(started, evidence).await;
        }
        let Started { rows, _turn } = started;
        let (tell, told) = async_channel::unbounded();
        let progress = Arc::new(Tap { inner: Arc::clone(&self.master.local.progress), tell });
        let tasks = self.tasks(&rows);
        let ids = tasks.values().map(|task| task.id).collect();
        let left = Mutex::new(rows);
        let calling = async {
            let report = self.called(call, tasks, progress).await;
            // Also if the engine keeps who is told for longer than its call.
            told.close();
            report
        };
        let ending = async {
            let mut ended = Ended::default();
            while let Ok(first) = told.recv().await {
                // All that has gathered ends in one commit.
                let more = std::iter::from_fn(|| told.try_recv().ok());
                let ends: Vec<_> = std::iter::once(first)
                    .chain(more)
                    .filter_map(|(decky, said)| {
                        let row = lock(&left).remove(&decky)?;
                        let outcome = self.outcome(&row, said);
                        Some((row, outcome))
                    })
                    .collect();
                ended.extend(self.close(ends).await);
            }
            ended
        };
        let (report, mut ended) = futures_lite::future::zip(calling, ending).await;
        let rest = std::mem::take(&mut *lock(&left));
        ended.extend(self.end(Started { rows: rest, _turn }, Evidence { rows: ids, report }).await);
        ended
    }

    /// Calls the engine for these, if there are any; whatever happens is a
    /// report.
    async fn called(
        &self,
        call: Operation,
        tasks: BTreeMap<DeckyName, Task>,
        progress: Arc<dyn Progress>,
    ) -> Report {
        if tasks.is_empty() {
            return Report::new();
        }
        let names: Vec<DeckyName> = tasks.keys().cloned().collect();
        let called = match fleet(&self.master, call, &tasks).await {
            Ok(fleet) => perform(&self.master, call, fleet, tasks, progress).await,
            Err(failure) => Err(failure),
        };
        called.unwrap_or_else(|failure| all_failed(names.iter(), &failure))
    }

    fn tasks(&self, rows: &Rows<Running>) -> BTreeMap<DeckyName, Task> {
        let task =
            |row: &Lifecycle<Running>| Task { id: row.id(), cancel: self.master.active.token(row.id()) };
        rows.iter().map(|(decky, row)| (decky.clone(), task(row))).collect()
    }
}

/// Progress, and beside it who ends rows as the engine tells of their deckies.
#[derive(Debug)]
struct Tap {
    inner: Arc<dyn Progress>,
    tell: async_channel::Sender<(DeckyName, Result<(), Failure>)>,
}

impl Progress for Tap {
    fn note(&self, decky: &DeckyName, text: &str) {
        self.inner.note(decky, text);
    }

    fn ended(&self, decky: &DeckyName, outcome: &Result<(), Failure>) {
        self.inner.ended(decky, outcome);
        let _ = self.tell.try_send((decky.clone(), outcome.clone()));
    }
}

fn lock(rows: &Mutex<Rows<Running>>) -> MutexGuard<'_, Rows<Running>> {
    rows.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether rows were accepted for this: only then does it say anything of them.
pub(super) fn fits(call: Operation, rows: &Rows<Running>) -> Result<(), Failure> {
    match rows.values().find(|row| row.operation() != call) {
        None => Ok(()),
        Some(row) => {
            let text =
                format!("{}'s strategy would {call} where a {} was asked for", row.decky(), row.operation());
            Err(Failure::new(FailureKind::Engine, &text))
        }
    }
}

/// The fleet that is at home here, as it shall be once this call's rows have
/// succeeded: read now that the engine is this call's alone, since another call
/// may have changed it since the request. A teardown's fleet still has what is
/// to go.
async fn fleet(
    master: &Master,
    call: Operation,
    tasks: &BTreeMap<DeckyName, Task>,
) -> Result<FleetConfig, Failure> {
    let home = master.home();
    let placements = master.placements(&PlacementQuery::At(home.clone())).await?;
    let mut own = Vec::new();
    let mut others = Vec::new();
    for placement in &placements {
        let tried = tasks.get(&placement.decky).and_then(|task| placement.tried.get(&task.id));
        let placed = match tried.map(|tried| &tried.aim) {
            Some(Aim::Up(placed)) => Some(placed),
            Some(Aim::Gone) | None => placement.now(),
        };
        let Some(placed) = placed.filter(|placed| placed.home == home) else { continue };
        if tried.is_some() { own.push(placed) } else { others.push(placed) }
    }
    let aimed: BTreeSet<&DeckyName> = own.iter().map(|placed| &placed.config.name).collect();
    if !matches!(call, Operation::Teardown) && !tasks.keys().all(|decky| aimed.contains(decky)) {
        let text = "nothing says any more what it was to bring about; ask again";
        return Err(Failure::new(FailureKind::Store, text));
    }
    // Those of this call come first: theirs is the network, should it change.
    Ok(fleet_of(own.into_iter().chain(others).map(|placed| &**placed)).unwrap_or_else(FleetConfig::nothing))
}

fn all_failed<'d>(deckies: impl Iterator<Item = &'d DeckyName>, failure: &Failure) -> Report {
    let mut report = Report::new();
    deckies.for_each(|decky| report.failed(decky.clone(), failure.clone()));
    report
}

/// Calls the engine; a panic is a failure like any. The call is dropped at the
/// rows' deadline, or when all were cancelled and the engine doesn't stop.
async fn perform(
    master: &Master,
    call: Operation,
    fleet: FleetConfig,
    deckies: BTreeMap<DeckyName, Task>,
    progress: Arc<dyn Progress>,
) -> Result<Report, Failure> {
    let work = Work { fleet: Arc::new(fleet), deckies, clock: Arc::clone(&master.time.clock), progress };
    let engine = async {
        let called = async {
            match call {
                Operation::Deploy => master.local.engine.deploy(&work).await,
                Operation::Mutate => master.local.engine.mutate(&work).await,
                Operation::Teardown => master.local.engine.teardown(&work).await,
            }
        };
        match AssertUnwindSafe(called).catch_unwind().await {
            Ok(result) => result,
            Err(panic) => {
                Err(Failure::new(FailureKind::Panic, &format!("the engine {}", panic_text(&*panic))))
            }
        }
    };
    let too_late = async {
        master.time.clock.sleep(master.time.deadlines.run).await;
        let seconds = master.time.deadlines.run.as_secs();
        Err(Failure::new(FailureKind::Deadline, &format!("the engine did not end within {seconds} s")))
    };
    let too_stubborn = async {
        for task in work.deckies.values() {
            task.cancel.cancelled().await;
        }
        master.time.clock.sleep(master.time.deadlines.cancel).await;
        Err(Failure::new(
            FailureKind::Cancelled,
            "cancelled; the engine did not stop in time and was dropped",
        ))
    };
    engine.or(too_late).or(too_stubborn).await
}
