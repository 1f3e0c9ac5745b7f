//! One engine call for many rows of the master's own deckies.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_lite::FutureExt;

use crate::engine::{Progress, Report, Task, Work};
use crate::fleet::FleetConfig;
use crate::lifecycle::{DeckyName, Failure, FailureKind, Lifecycle, Pending, Running};
use crate::master::{Master, Stage, Turn, panic_text};
use crate::placement::{Aim, fleet_of};
use crate::store::PlacementQuery;

use super::{Context, Ended, Rows};

/// Which of the engine's three.
#[derive(Debug, Clone, Copy)]
enum Call {
    Deploy,
    Mutate,
    Teardown,
}

/// Rows of the master's own deckies that are durably running: the engine may be
/// called for them. Other calls that would be in the way wait until they have
/// ended, so end them before you start more.
#[derive(Debug)]
#[must_use = "call the engine for them, and end them by its report"]
pub struct Started {
    rows: Rows<Running>,
    _turn: Turn,
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
    /// goes wrong, a panic and a deadline too, is in the report.
    pub async fn deploy(&self, started: &Started) -> Report {
        self.call_engine(Call::Deploy, started).await
    }

    /// Has the engine give the rows' deckies their new services; see
    /// [`deploy`](Self::deploy).
    pub async fn mutate(&self, started: &Started) -> Report {
        self.call_engine(Call::Mutate, started).await
    }

    /// Has the engine take the rows' deckies down; see
    /// [`deploy`](Self::deploy).
    pub async fn teardown(&self, started: &Started) -> Report {
        self.call_engine(Call::Teardown, started).await
    }

    /// Ends each row by the report, all in one commit. A decky that the report
    /// does not name has failed.
    pub async fn end(&self, started: Started, report: &Report) -> Ended {
        let Started { rows, _turn } = started;
        let ends = rows.into_iter().map(|(decky, row)| {
            let outcome = self.outcome(&row, report.outcome(&decky));
            (row, outcome)
        });
        self.close(ends.collect()).await
    }

    /// As [`deploy`](Self::deploy) and [`end`](Self::end), but that each row
    /// ends as soon as the engine has told of its decky ([`Work::report`]): a
    /// fast one doesn't wait for a slow one, and if the master dies meanwhile,
    /// only what was not known has failed.
    pub async fn deploy_as_reported(&self, started: Started) -> Ended {
        self.as_reported(Call::Deploy, started).await
    }

    /// As [`deploy_as_reported`](Self::deploy_as_reported), for a teardown.
    pub async fn teardown_as_reported(&self, started: Started) -> Ended {
        self.as_reported(Call::Teardown, started).await
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

    async fn call_engine(&self, call: Call, started: &Started) -> Report {
        if started.is_empty() {
            return Report::new();
        }
        let progress = Arc::clone(&self.master.local.progress);
        match self.called(call, &started.rows, progress).await {
            Ok(report) => report,
            Err(failure) => all_failed(started.rows.keys(), &failure),
        }
    }

    async fn as_reported(&self, call: Call, started: Started) -> Ended {
        let Started { rows, _turn } = started;
        if rows.is_empty() {
            return Ended::default();
        }
        let (tell, told) = async_channel::unbounded();
        let progress = Arc::new(Reported { inner: Arc::clone(&self.master.local.progress), tell });
        let left = Mutex::new(rows);
        let names: Vec<DeckyName> = lock(&left).keys().cloned().collect();
        let calling = async {
            let called = {
                let tasks = self.tasks(&lock(&left));
                let fleet = fleet(&self.master, call, &tasks).await;
                match fleet {
                    Ok(fleet) => perform(&self.master, call, fleet, tasks, progress).await,
                    Err(failure) => Err(failure),
                }
            };
            // Also if the engine keeps who is told for longer than its call.
            told.close();
            called.unwrap_or_else(|failure| all_failed(names.iter(), &failure))
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
        ended.extend(self.end(Started { rows: rest, _turn }, &report).await);
        ended
    }

    async fn called(
        &self,
        call: Call,
        rows: &Rows<Running>,
        progress: Arc<dyn Progress>,
    ) -> Result<Report, Failure> {
        let tasks = self.tasks(rows);
        let fleet = fleet(&self.master, call, &tasks).await?;
        perform(&self.master, call, fleet, tasks, progress).await
    }

    fn tasks(&self, rows: &Rows<Running>) -> BTreeMap<DeckyName, Task> {
        let task =
            |row: &Lifecycle<Running>| Task { id: row.id(), cancel: self.master.active.token(row.id()) };
        rows.iter().map(|(decky, row)| (decky.clone(), task(row))).collect()
    }
}

/// Progress, and beside it who ends rows as the engine tells of their deckies.
#[derive(Debug)]
struct Reported {
    inner: Arc<dyn Progress>,
    tell: async_channel::Sender<(DeckyName, Result<(), Failure>)>,
}

impl Progress for Reported {
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

/// The fleet that is at home here, as it shall be once this call's rows have
/// succeeded: read now that the engine is this call's alone, since another call
/// may have changed it since the request. A teardown's fleet still has what is
/// to go.
async fn fleet(
    master: &Master,
    call: Call,
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
    if !matches!(call, Call::Teardown) && !tasks.keys().all(|decky| aimed.contains(decky)) {
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
    call: Call,
    fleet: FleetConfig,
    deckies: BTreeMap<DeckyName, Task>,
    progress: Arc<dyn Progress>,
) -> Result<Report, Failure> {
    let work = Work { fleet: Arc::new(fleet), deckies, clock: Arc::clone(&master.time.clock), progress };
    let engine = async {
        let called = async {
            match call {
                Call::Deploy => master.local.engine.deploy(&work).await,
                Call::Mutate => master.local.engine.mutate(&work).await,
                Call::Teardown => master.local.engine.teardown(&work).await,
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
