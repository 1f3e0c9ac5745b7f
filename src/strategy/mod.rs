//! The four strategies: how the work behind accepted rows is done.
//!
//! | | the master's own deckies | a worker's deckies |
//! |---|---|---|
//! | deploy | [`local_deploy`]: one engine call for all | [`swarm_deploy`]: a shard for each host |
//! | mutate | [`local_mutate`] | [`swarm_mutate`] |
//!
//! Teardown goes the same two ways. A strategy never fails outwards: whatever
//! goes wrong ends as a `Failed` row.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_lite::FutureExt;

use crate::fleet::FleetConfig;
use crate::lifecycle::{DeckyName, Failure, FailureKind, Lifecycle, LifecycleId, Pending, ServiceName};

mod active;
mod clock_steps;
mod context;
mod deployed;
mod dispatch;
mod ending;
mod engine_call;
mod heard;
mod local_deploy;
mod local_mutate;
mod swarm_deploy;
mod swarm_mutate;
mod teardown;

pub(crate) use active::{Active, Guard, Stage};
pub(crate) use context::{Context, Parts};
pub use context::{Deadlines, Limits};
pub(crate) use ending::fail_open;
pub(crate) use heard::Heard;

/// What the rows of one accepted request are for.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    Deploy,
    Mutate {
        services: Vec<ServiceName>,
    },
    Teardown,
    /// Nothing can be done: the rows fail.
    #[cfg(feature = "worker")]
    Fail(Failure),
}

/// Pending rows by decky.
pub(crate) type Rows = BTreeMap<DeckyName, Lifecycle<Pending>>;

/// Drives the rows of one request to their end, or to where a worker ends
/// them. Never panics outwards.
pub(crate) async fn run(context: Arc<Context>, job: Job, fleet: Arc<FleetConfig>, rows: Rows, guard: Guard) {
    let ids: Vec<LifecycleId> = rows.values().map(Lifecycle::id).collect();
    let (local, remote): (Rows, Rows) = rows.into_iter().partition(|(_, row)| row.host().is_none());
    let both = async {
        let (here, there) = (&context, &fleet);
        match &job {
            Job::Deploy => {
                let local = local_deploy::run(here, there, local);
                let remote = swarm_deploy::run(here, there, remote);
                futures_lite::future::zip(local, remote).await;
            }
            Job::Mutate { services } => {
                let local = local_mutate::run(here, there, services, local);
                let remote = swarm_mutate::run(here, services, remote);
                futures_lite::future::zip(local, remote).await;
            }
            #[cfg(feature = "worker")]
            Job::Fail(failure) => {
                let rows = local.into_values().chain(remote.into_values()).collect();
                ending::fail_pending(here, rows, failure).await;
            }
            Job::Teardown => {
                let local = teardown::local(here, there, local);
                let remote = teardown::remote(here, remote);
                futures_lite::future::zip(local, remote).await;
            }
        }
    };
    if let Err(panic) = AssertUnwindSafe(both).catch_unwind().await {
        let failure = Failure::new(FailureKind::Panic, &panic_text(&*panic));
        log::error!(target: "decnet_lifecycle::strategy", error:% = failure; "a strategy panicked");
        fail_open(&context, &ids, &failure).await;
    }
    guard.finish();
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
