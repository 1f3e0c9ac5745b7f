//! One agent call for the rows of one host.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_lite::{FutureExt, StreamExt};
use futures_util::stream::FuturesUnordered;

use crate::agent::{AgentError, DeployCall, Host, MutateCall, TeardownCall};
use crate::lifecycle::{DeckyName, Failure, FailureKind, HostId, Lifecycle};
use crate::placement::{Aim, Home, Placement, fleet_of};
use crate::store::PlacementQuery;

use super::engine_call::{Started, start};
use super::{Context, Rows, Stage, ending, panic_text};

/// What the agent is asked for the rows of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// The host's deckies, of which the rows are some or all.
    Deploy,
    /// The one row's new services.
    Mutate,
    /// The one row's decky.
    Teardown,
    /// All that the host has; the rows are of all of it.
    TeardownAll,
}

/// What the agent is told.
enum Message {
    Deploy(DeployCall),
    Mutate(MutateCall),
    Teardown(TeardownCall),
}

/// Drives all calls at once; each is polled only when it was woken.
pub(super) async fn all<F: Future<Output = ()>>(calls: impl Iterator<Item = F>) {
    let mut left: FuturesUnordered<F> = calls.collect();
    while left.next().await.is_some() {}
}

/// Takes the rows to running, calls the agent, and hands the rows over,
/// succeeds or fails them by its answer.
pub(super) async fn to_host(context: &Context, host: HostId, rows: Rows, task: Task) {
    let ids = || rows.values().map(Lifecycle::id);
    context.active.enter(ids(), Stage::DispatchQueue);
    let host_gate = context.host_gate(&host);
    let _host_turn = host_gate.lock().await;
    let _turn = context.dispatch_gate.acquire().await;
    context.active.enter(ids(), Stage::Dispatch);
    let started = start(context, rows, |at| at.plus(context.deadlines.remote_run())).await;
    if started.is_empty() {
        return;
    }
    let called = match message(context, &host, task, &started).await {
        Ok(message) => call(context, &host, &message).await,
        Err(failure) => Err(failure),
    };
    match called {
        Ok(Called::Answered) => {
            context.heard.note(&host, context.clock.monotonic());
            match task {
                Task::Deploy | Task::Mutate => hand_over(context, &host, started),
                Task::Teardown | Task::TeardownAll => {
                    ending::close(context, started.into_rows().map(|(_, row)| (row, Ok(()))).collect()).await;
                }
            }
        }
        Ok(Called::Unsaid) => hand_over(context, &host, started),
        Err(failure) => {
            let failure = failure.hiding(&context.discretion.secrets());
            log::warn!(target: "decnet_lifecycle::strategy", host:% = host, error:% = failure; "dispatch failed");
            let ends = started.into_rows().map(|(_, row)| (row, Err(failure.clone())));
            ending::close(context, ends.collect()).await;
        }
    }
}

/// The rows are the worker's to end.
fn hand_over(context: &Context, host: &HostId, started: Started) {
    // Its silence counts from now on, also if it was given up meanwhile.
    context.heard.expect(host, context.clock.monotonic());
    for (_, row) in started.into_rows() {
        context.heard.hand_over(host, row.id());
        row.hand_over();
    }
}

/// What to tell the agent, from the placements as they are now that it is this
/// call's turn at the host. DECNET's agent replaces all that it runs by what a
/// deploy sends it, so a shard holds all of the host's deckies, those without a
/// row of this call as well.
async fn message(
    context: &Context,
    host: &HostId,
    task: Task,
    started: &Started,
) -> Result<Message, Failure> {
    let ids = started.ids();
    let lost =
        || Failure::new(FailureKind::Store, "nothing says any more what it was to bring about; ask again");
    Ok(match task {
        Task::Deploy => {
            let home = Home::Host(host.clone());
            let placements = context.placements(&PlacementQuery::At(home.clone())).await?;
            let told = placements.iter().filter_map(Placement::as_told).filter(|placed| placed.home == home);
            let mut told: Vec<_> = told.collect();
            // Those of this call come first: theirs is the network, should it
            // change.
            let own: BTreeSet<&DeckyName> = started.deckies().collect();
            told.sort_by_key(|placed| !own.contains(&placed.config.name));
            let here: BTreeSet<&DeckyName> = told.iter().map(|placed| &placed.config.name).collect();
            if !started.deckies().all(|decky| here.contains(decky)) {
                return Err(lost());
            }
            let config = fleet_of(told.iter().map(|placed| &***placed)).ok_or_else(lost)?;
            Message::Deploy(DeployCall { config: Arc::new(config), lifecycle_ids: ids })
        }
        Task::Mutate => {
            let (decky, lifecycle_id) = ids.into_iter().next().ok_or_else(lost)?;
            let placements = context.placements(&PlacementQuery::Of(vec![decky.clone()])).await?;
            let tried = placements.first().and_then(|placement| placement.tried.get(&lifecycle_id));
            let Some(Aim::Up(placed)) = tried.map(|tried| &tried.aim) else { return Err(lost()) };
            Message::Mutate(MutateCall { decky, services: placed.config.services.clone(), lifecycle_id })
        }
        Task::Teardown => {
            Message::Teardown(TeardownCall { decky: ids.keys().next().cloned(), lifecycle_ids: ids })
        }
        Task::TeardownAll => Message::Teardown(TeardownCall { decky: None, lifecycle_ids: ids }),
    })
}

/// What became of a call that did not fail.
enum Called {
    /// The agent gave the answer hoped for.
    Answered,
    /// It gave none yet, and its worker will say in its beats how it ended, or
    /// that it doesn't know of it.
    Unsaid,
}

/// Finds the host and calls its agent. A call that may have arrived is sent
/// once more, with the same ids, to an agent that takes each id once. To one
/// that doesn't look at ids it would be a second operation, and that one's
/// word could be taken for a later row's. A teardown is answered when it is
/// done, which may be long after: there a worker that names rows is waited
/// for, as for its other work.
async fn call(context: &Context, id: &HostId, message: &Message) -> Result<Called, Failure> {
    let unreachable = |text: &str| Failure::new(FailureKind::Unreachable, text);
    let host = match context.hosts.find(id).await {
        Ok(Some(host)) => host,
        Ok(None) => {
            return Err(unreachable(&format!(
                "host {id} is not in the host directory; add it, or move the decky"
            )));
        }
        Err(error) => return Err(unreachable(&error.to_string())),
    };
    let first = once(context, &host, message).await;
    let last = match first {
        Err(Fault::Agent(unconfirmed @ AgentError::Unconfirmed { .. }))
            if context.heard.has_named_rows(id) =>
        {
            if matches!(message, Message::Teardown(_)) {
                return Ok(Called::Unsaid);
            }
            // What became of the second call says nothing of the first.
            once(context, &host, message).await.map_err(|_| Fault::Agent(unconfirmed))
        }
        other => other,
    };
    match last {
        Ok(()) => Ok(Called::Answered),
        Err(Fault::Panic(text)) => Err(Failure::new(FailureKind::Panic, &text)),
        Err(Fault::Agent(AgentError::Refused { reason })) => {
            Err(Failure::new(FailureKind::Rejected, &format!("host {id}: agent refused: {reason}")))
        }
        Err(Fault::Agent(AgentError::Failed { reason })) => {
            Err(Failure::new(FailureKind::Reported, &format!("host {id}: {reason}")))
        }
        Err(Fault::Agent(error @ AgentError::Unconfirmed { .. })) => {
            Err(Failure::new(FailureKind::Dispatch, &format!("host {id}: {error}")))
        }
        Err(Fault::Agent(error)) => Err(unreachable(&format!("host {id}: {error}"))),
    }
}

enum Fault {
    Agent(AgentError),
    Panic(String),
}

async fn once(context: &Context, host: &Host, message: &Message) -> Result<(), Fault> {
    let agents = &context.agents;
    let called = async {
        match message {
            Message::Deploy(call) => agents.deploy(host, call).await,
            Message::Mutate(call) => agents.mutate(host, call).await,
            Message::Teardown(call) => agents.teardown(host, call).await,
        }
    };
    let caught = async {
        match AssertUnwindSafe(called).catch_unwind().await {
            Ok(answer) => answer.map_err(Fault::Agent),
            Err(panic) => Err(Fault::Panic(format!("the agent client {}", panic_text(&*panic)))),
        }
    };
    let too_late = async {
        context.clock.sleep(context.deadlines.dispatch).await;
        let reason = format!("no answer within {} s", context.deadlines.dispatch.as_secs());
        Err(Fault::Agent(AgentError::Unconfirmed { reason }))
    };
    caught.or(too_late).await
}
