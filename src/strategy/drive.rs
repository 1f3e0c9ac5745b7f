//! Drives the rows of one request: what goes first, and what is left at last.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_lite::FutureExt;

use crate::lifecycle::{Failure, FailureKind, Lifecycle, LifecycleId, Operation, Pending};
use crate::master::{self, Guard, Master, panic_text};

use super::{Context, Place, Rows, Strategies, way_clear};

/// What the rows of one accepted request are for.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    /// What their placements say.
    Do,
    /// The same, after a restart: of what was to be done before, some may have
    /// been begun by the earlier start, and not be done yet.
    Again,
    /// Nothing can be done: the rows fail.
    #[cfg(feature = "worker")]
    Fail(Failure),
}

/// The rows of one request, to be driven.
#[derive(Debug)]
pub(crate) struct Drive {
    pub(crate) master: Arc<Master>,
    pub(crate) strategies: Arc<Strategies>,
    pub(crate) job: Job,
    pub(crate) rows: Vec<Lifecycle<Pending>>,
    pub(crate) guard: Guard,
}

impl Drive {
    /// Drives the rows to their end, or to where a worker ends them. Never
    /// panics outwards.
    pub(crate) async fn run(self) {
        let Self { master, strategies, job, rows, guard } = self;
        let cx = Context::new(Arc::clone(&master), rows.iter().map(Lifecycle::id));
        let ids: Vec<LifecycleId> = rows.iter().map(Lifecycle::id).collect();
        let work = async {
            match job {
                Job::Do => in_order(&cx, &strategies, rows, false).await,
                Job::Again => in_order(&cx, &strategies, rows, true).await,
                #[cfg(feature = "worker")]
                Job::Fail(failure) => {
                    cx.settled(rows.iter().map(Lifecycle::id));
                    master::fail_pending(&master, rows, &failure).await;
                }
            }
        };
        if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
            let failure = Failure::new(FailureKind::Panic, &panic_text(&*panic));
            let failure = failure.hiding(&master.discretion.secrets());
            log::error!(target: "decnet_lifecycle::strategy", error:% = failure; "a strategy panicked");
            master::fail_open(&master, &ids, &failure).await;
        }
        let left = cx.left();
        if !left.is_empty() {
            let failure = Failure::new(FailureKind::Abandoned, "its strategy returned and left it open");
            master::fail_open(&master, &left, &failure).await;
        }
        guard.finish();
    }

    /// Lets the rows go to a caller that drives them itself.
    pub(crate) fn into_rows(self) -> Rows<Pending> {
        self.guard.finish();
        self.rows.into_iter().map(|row| (row.decky().clone(), row)).collect()
    }
}

/// Teardowns go first: an address or a host's place is free only once they are
/// done.
async fn in_order(cx: &Context, strategies: &Strategies, rows: Vec<Lifecycle<Pending>>, again: bool) {
    let (gone, up): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| row.operation() == Operation::Teardown);
    let needs_room = (again || !gone.is_empty()) && !up.is_empty();
    let run = async |operation, place, rows: Rows<Pending>| {
        if !rows.is_empty() {
            strategies.get(operation, place).run(cx, rows).await;
        }
    };
    let (here, there) = by_place(gone);
    let teardown = Operation::Teardown;
    futures_lite::future::zip(run(teardown, Place::Local, here), run(teardown, Place::Swarm, there)).await;
    let up = if needs_room { way_clear::only(cx, up).await } else { up };
    let (mutates, deploys): (Vec<_>, Vec<_>) =
        up.into_iter().partition(|row| row.operation() == Operation::Mutate);
    let (deploy_here, deploy_there) = by_place(deploys);
    let (mutate_here, mutate_there) = by_place(mutates);
    let here = async {
        run(Operation::Deploy, Place::Local, deploy_here).await;
        run(Operation::Mutate, Place::Local, mutate_here).await;
    };
    let there = async {
        run(Operation::Deploy, Place::Swarm, deploy_there).await;
        run(Operation::Mutate, Place::Swarm, mutate_there).await;
    };
    futures_lite::future::zip(here, there).await;
}

/// The master's own, and those of workers.
fn by_place(rows: Vec<Lifecycle<Pending>>) -> (Rows<Pending>, Rows<Pending>) {
    rows.into_iter().map(|row| (row.decky().clone(), row)).partition(|(_, row)| row.host().is_none())
}
