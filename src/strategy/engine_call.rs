//! One engine call for many rows.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_lite::FutureExt;

use crate::engine::{Report, Task, Work};
use crate::fleet::FleetConfig;
use crate::journal::CommitError;
use crate::lifecycle::{
    DeckyName, Failure, FailureKind, Lifecycle, LifecycleId, Pending, Running, Timestamp,
};
use crate::placement::{Aim, fleet_of};
use crate::store::PlacementQuery;

use super::{Context, Rows, Stage, ending, panic_text};

/// Which of the engine's three.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    Deploy,
    Mutate,
    Teardown,
}

/// Rows that are durably running; the engine may be called for them.
pub(super) struct Started {
    rows: BTreeMap<DeckyName, Lifecycle<Running>>,
}

impl Started {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn deckies(&self) -> impl Iterator<Item = &DeckyName> {
        self.rows.keys()
    }

    pub(super) fn ids(&self) -> BTreeMap<DeckyName, LifecycleId> {
        self.rows.iter().map(|(decky, row)| (decky.clone(), row.id())).collect()
    }

    pub(super) fn into_rows(self) -> impl Iterator<Item = (DeckyName, Lifecycle<Running>)> {
        self.rows.into_iter()
    }
}

/// Takes all rows to running in one commit. What somebody else has ended is
/// left out; what the store could not take fails.
pub(super) async fn start(
    context: &Context,
    rows: Rows,
    deadline: impl Fn(Timestamp) -> Timestamp,
) -> Started {
    let at = context.deadline_base();
    let deckies: Vec<DeckyName> = rows.keys().cloned().collect();
    let steps = rows.into_values().map(|row| row.start(at, deadline(at))).collect();
    let answers = context.journal.commit_all(steps).await;
    let mut started = BTreeMap::new();
    let mut refused: Vec<Lifecycle<Pending>> = Vec::new();
    let mut unknown = Vec::new();
    let mut why = Failure::new(FailureKind::Store, "the store did not take the step to running");
    for (decky, answer) in deckies.into_iter().zip(answers) {
        match answer {
            Ok(row) => {
                started.insert(decky, row);
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
    }
    ending::fail_pending(context, refused, &why).await;
    ending::fail_open(context, &unknown, &why).await;
    Started { rows: started }
}

/// Waits for the engine, takes the rows to running in one commit, calls the
/// engine once, and ends each row by the report in one commit.
pub(super) async fn run(context: &Context, call: Call, rows: Rows) {
    if rows.is_empty() {
        return;
    }
    context.active.enter(rows.values().map(Lifecycle::id), Stage::EngineQueue);
    let _turn = context.engine_gate.lock().await;
    let started = start(context, rows, |at| at.plus(context.deadlines.run)).await;
    if started.is_empty() {
        return;
    }
    context.active.enter(started.rows.values().map(Lifecycle::id), Stage::Engine);
    let mut report = match fleet(context, call, &started).await {
        Ok(fleet) => call_engine(context, call, &Arc::new(fleet), &started).await,
        Err(failure) => all_failed(&started, &failure),
    };
    for (decky, row) in &started.rows {
        if let Err(failure) = report.outcome(decky)
            && failure.kind() != FailureKind::Cancelled
            && context.active.token(row.id()).is_cancelled()
        {
            report.failed(decky.clone(), Failure::new(FailureKind::Cancelled, failure.message()));
        }
    }
    let ends = started.into_rows().map(|(decky, row)| {
        let outcome = report.outcome(&decky);
        (row, outcome)
    });
    ending::close(context, ends.collect()).await;
}

/// The fleet that is at home here, as it shall be once this call's rows have
/// succeeded: read now that the engine is this call's alone, since another call
/// may have changed it since the request. A teardown's fleet still has what is
/// to go.
async fn fleet(context: &Context, call: Call, started: &Started) -> Result<FleetConfig, Failure> {
    let home = context.home();
    let placements = context.placements(&PlacementQuery::At(home.clone())).await?;
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
    if !matches!(call, Call::Teardown) && !started.deckies().all(|decky| aimed.contains(decky)) {
        let text = "nothing says any more what it was to bring about; ask again";
        return Err(Failure::new(FailureKind::Store, text));
    }
    // Those of this call come first: theirs is the network, should it change.
    Ok(fleet_of(own.into_iter().chain(others).map(|placed| &**placed)).unwrap_or_else(FleetConfig::nothing))
}

fn all_failed(started: &Started, failure: &Failure) -> Report {
    let mut report = Report::new();
    for decky in started.deckies() {
        report.failed(decky.clone(), failure.clone());
    }
    report
}

/// Calls the engine; whatever happens is a report. The call is dropped at the
/// rows' deadline, or when all were cancelled and the engine doesn't stop.
async fn call_engine(context: &Context, call: Call, fleet: &Arc<FleetConfig>, started: &Started) -> Report {
    let task = |row: &Lifecycle<Running>| Task { id: row.id(), cancel: context.active.token(row.id()) };
    let work = Work {
        fleet: Arc::clone(fleet),
        deckies: started.rows.iter().map(|(decky, row)| (decky.clone(), task(row))).collect(),
        clock: Arc::clone(&context.clock),
        progress: Arc::clone(&context.progress),
    };
    let engine = async {
        let called = async {
            match call {
                Call::Deploy => context.engine.deploy(&work).await,
                Call::Mutate => context.engine.mutate(&work).await,
                Call::Teardown => context.engine.teardown(&work).await,
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
        context.clock.sleep(context.deadlines.run).await;
        let seconds = context.deadlines.run.as_secs();
        Err(Failure::new(FailureKind::Deadline, &format!("the engine did not end within {seconds} s")))
    };
    let too_stubborn = async {
        for task in work.deckies.values() {
            task.cancel.cancelled().await;
        }
        context.clock.sleep(context.deadlines.cancel).await;
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
