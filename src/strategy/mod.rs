//! The strategies: how the work behind accepted rows is done.
//!
//! | | the master's own deckies | a worker's deckies |
//! |---|---|---|
//! | deploy | [`local_deploy`]: one engine call for all | [`swarm_deploy`]: a shard for each host |
//! | mutate | [`local_mutate`] | [`swarm_mutate`] |
//!
//! Teardown goes the same two ways, and first: an address or a host's place is
//! free only once it is done. What a row is to bring about stands on its
//! decky's placement; how the others of its home stand, on theirs. A strategy
//! never fails outwards: whatever goes wrong ends as a `Failed` row.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_lite::FutureExt;

use crate::lifecycle::{DeckyName, Failure, FailureKind, Lifecycle, LifecycleId, Operation, Pending};

mod active;
mod clock_steps;
mod context;
mod dispatch;
mod ending;
mod engine_call;
mod heard;
mod local_deploy;
mod local_mutate;
mod swarm_deploy;
mod swarm_mutate;
mod teardown;
mod way_clear;

pub(crate) use active::{Active, Guard, Stage};
pub(crate) use context::{Context, Parts};
pub use context::{Deadlines, Limits};
pub(crate) use ending::fail_open;
pub(crate) use heard::Heard;

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

/// Pending rows by decky.
pub(crate) type Rows = BTreeMap<DeckyName, Lifecycle<Pending>>;

/// Drives the rows of one request to their end, or to where a worker ends
/// them. Never panics outwards.
pub(crate) async fn run(context: Arc<Context>, job: Job, rows: Vec<Lifecycle<Pending>>, guard: Guard) {
    let ids: Vec<LifecycleId> = rows.iter().map(Lifecycle::id).collect();
    let work = async {
        match job {
            Job::Do => drive(&context, rows, false).await,
            Job::Again => drive(&context, rows, true).await,
            #[cfg(feature = "worker")]
            Job::Fail(failure) => ending::fail_pending(&context, rows, &failure).await,
        }
    };
    if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
        let failure = Failure::new(FailureKind::Panic, &panic_text(&*panic));
        let failure = failure.hiding(&context.discretion.secrets());
        log::error!(target: "decnet_lifecycle::strategy", error:% = failure; "a strategy panicked");
        fail_open(&context, &ids, &failure).await;
    }
    guard.finish();
}

async fn drive(context: &Context, rows: Vec<Lifecycle<Pending>>, again: bool) {
    let (gone, up): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| row.operation() == Operation::Teardown);
    let needs_room = (again || !gone.is_empty()) && !up.is_empty();
    let (here, there) = by_home(gone);
    futures_lite::future::zip(teardown::local(context, here), teardown::remote(context, there)).await;
    let up = if needs_room { way_clear::only(context, up).await } else { up };
    let (mutates, deploys): (Vec<_>, Vec<_>) =
        up.into_iter().partition(|row| row.operation() == Operation::Mutate);
    let (deploy_here, deploy_there) = by_home(deploys);
    let (mutate_here, mutate_there) = by_home(mutates);
    let here = async {
        local_deploy::run(context, deploy_here).await;
        local_mutate::run(context, mutate_here).await;
    };
    let there = async {
        swarm_deploy::run(context, deploy_there).await;
        swarm_mutate::run(context, mutate_there).await;
    };
    futures_lite::future::zip(here, there).await;
}

/// The master's own, and those of workers.
fn by_home(rows: Vec<Lifecycle<Pending>>) -> (Rows, Rows) {
    rows.into_iter().map(|row| (row.decky().clone(), row)).partition(|(_, row)| row.host().is_none())
}

/// What a panic said, as far as it said it in text.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    format!("panicked: {said}")
}
