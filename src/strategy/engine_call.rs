//! One engine call for many rows of the master's own deckies.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_lite::FutureExt;

use crate::engine::{Report, Task, Work};
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
            let mut outcome = report.outcome(&decky);
            if let Err(failure) = &outcome
                && failure.kind() != FailureKind::Cancelled
                && self.is_cancelled(&row)
            {
                outcome = Err(Failure::new(FailureKind::Cancelled, failure.message()));
            }
            (row, outcome)
        });
        self.close(ends.collect()).await
    }

    async fn call_engine(&self, call: Call, started: &Started) -> Report {
        if started.is_empty() {
            return Report::new();
        }
        match fleet(&self.master, call, started).await {
            Ok(fleet) => call_engine(&self.master, call, &Arc::new(fleet), started).await,
            Err(failure) => all_failed(started, &failure),
        }
    }
}

/// The fleet that is at home here, as it shall be once this call's rows have
/// succeeded: read now that the engine is this call's alone, since another call
/// may have changed it since the request. A teardown's fleet still has what is
/// to go.
async fn fleet(master: &Master, call: Call, started: &Started) -> Result<FleetConfig, Failure> {
    let home = master.home();
    let placements = master.placements(&PlacementQuery::At(home.clone())).await?;
    let mut own = Vec::new();
    let mut others = Vec::new();
    for placement in &placements {
        let tried = started.rows.get(&placement.decky).and_then(|row| placement.tried.get(&row.id()));
        let placed = match tried.map(|tried| &tried.aim) {
            Some(Aim::Up(placed)) => Some(placed),
            Some(Aim::Gone) | None => placement.now(),
        };
        let Some(placed) = placed.filter(|placed| placed.home == home) else { continue };
        if tried.is_some() { own.push(placed) } else { others.push(placed) }
    }
    let aimed: BTreeSet<&DeckyName> = own.iter().map(|placed| &placed.config.name).collect();
    if !matches!(call, Call::Teardown) && !started.rows.keys().all(|decky| aimed.contains(decky)) {
        let text = "nothing says any more what it was to bring about; ask again";
        return Err(Failure::new(FailureKind::Store, text));
    }
    // Those of this call come first: theirs is the network, should it change.
    Ok(fleet_of(own.into_iter().chain(others).map(|placed| &**placed)).unwrap_or_else(FleetConfig::nothing))
}

fn all_failed(started: &Started, failure: &Failure) -> Report {
    let mut report = Report::new();
    for decky in started.rows.keys() {
        report.failed(decky.clone(), failure.clone());
    }
    report
}

/// Calls the engine; whatever happens is a report. The call is dropped at the
/// rows' deadline, or when all were cancelled and the engine doesn't stop.
async fn call_engine(master: &Master, call: Call, fleet: &Arc<FleetConfig>, started: &Started) -> Report {
    let task = |row: &Lifecycle<Running>| Task { id: row.id(), cancel: master.active.token(row.id()) };
    let work = Work {
        fleet: Arc::clone(fleet),
        deckies: started.rows.iter().map(|(decky, row)| (decky.clone(), task(row))).collect(),
        clock: Arc::clone(&master.time.clock),
        progress: Arc::clone(&master.local.progress),
    };
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
    match engine.or(too_late).or(too_stubborn).await {
        Ok(report) => report,
        Err(failure) => all_failed(started, &failure),
    }
}
