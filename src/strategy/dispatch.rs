//! One agent call for the rows of one host.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_lite::{FutureExt, StreamExt};
use futures_util::stream::FuturesUnordered;

use crate::agent::{AgentError, DeployCall, Host, MutateCall, TeardownCall};
use crate::fleet::FleetConfig;
use crate::lifecycle::{Failure, FailureKind, HostId, Lifecycle, LifecycleId};

use super::engine_call::{Started, start};
use super::{Context, Rows, Stage, ending, panic_text};

/// What the agent is told.
pub(super) enum Message {
    /// The host's deckies; the rows are filled in once they run.
    Deploy(Arc<FleetConfig>),
    Mutate(MutateCall),
    Teardown(TeardownCall),
}

/// What a good answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// The worker has the work; its deltas end the rows.
    WorkerEndsIt,
    /// The work is done.
    IsEvidence,
}

/// Drives all calls at once; each is polled only when it was woken.
pub(super) async fn all<F: Future<Output = ()>>(calls: impl Iterator<Item = F>) {
    let mut left: FuturesUnordered<F> = calls.collect();
    while left.next().await.is_some() {}
}

/// Takes the rows to running, calls the agent, and hands the rows over,
/// succeeds or fails them by its answer.
pub(super) async fn to_host(
    context: &Context,
    host: HostId,
    rows: Rows,
    message: Message,
    answered: Answered,
) {
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
    match call(context, &host, &message, &started).await {
        Ok(Called::Answered) => {
            context.heard.note(&host, context.clock.monotonic());
            taken(context, &host, &message, started, answered).await;
        }
        Ok(Called::Unsaid) => taken(context, &host, &message, started, Answered::WorkerEndsIt).await,
        Err(failure) => {
            log::warn!(target: "decnet_lifecycle::strategy", host:% = host, error:% = failure; "dispatch failed");
            if failure.kind() == FailureKind::Dispatch {
                keep_shard(context, &host, &message, &started).await;
            }
            let ends = started.into_rows().map(|(_, row)| (row, Err(failure.clone())));
            ending::close(context, ends.collect()).await;
        }
    }
}

/// What became of a call that did not fail.
enum Called {
    /// The agent gave the answer hoped for.
    Answered,
    /// It gave none yet, and its worker will say in its beats how it ended, or
    /// that it doesn't know of it.
    Unsaid,
}

/// The worker's fleet is this one from now on, as far as anybody knows,
/// whatever comes up of it.
async fn keep_shard(context: &Context, host: &HostId, message: &Message, started: &Started) {
    let Message::Deploy(fleet) = message else { return };
    let deckies: Vec<_> = started.deckies().cloned().collect();
    if let Err(failure) = context.keep_deployed(fleet, &deckies).await {
        log::error!(target: "decnet_lifecycle::strategy", host:% = host, error:% = failure; "a dispatched shard was not kept");
    }
}

async fn taken(context: &Context, host: &HostId, message: &Message, started: Started, answered: Answered) {
    match answered {
        Answered::WorkerEndsIt => {
            let services = match message {
                Message::Mutate(call) => Some(&*call.services),
                Message::Deploy(_) | Message::Teardown(_) => None,
            };
            keep_shard(context, host, message, &started).await;
            let mut ids = Vec::new();
            for (_, row) in started.into_rows() {
                context.heard.hand_over(host, row.id(), services);
                ids.push(row.id());
                row.hand_over();
            }
            forget_ended(context, host, &ids).await;
        }
        Answered::IsEvidence => {
            let deckies: Vec<_> = started.deckies().cloned().collect();
            let kept = context.keep_torn_down(&deckies).await;
            let ends = started.into_rows().map(|(_, row)| (row, kept.clone()));
            ending::close(context, ends.collect()).await;
        }
    }
}

/// What happened to rows while their call was under way: some may have ended,
/// and some were asked to stop before the worker had them.
async fn forget_ended(context: &Context, host: &HostId, ids: &[LifecycleId]) {
    // A store that can't be read now has both said at the next start.
    for row in context.journal.store().read(ids).await.unwrap_or_default() {
        if !row.is_open() {
            context.heard.ended(host, row.id);
        } else if row.cancel_requested_at.is_some() {
            context.heard.ask_to_stop(host, row.id);
        }
    }
}

/// Finds the host and calls its agent. A call that may have arrived is sent
/// once more, with the same ids, to an agent that takes each id once. To one
/// that doesn't look at ids it would be a second operation, and that one's
/// word could be taken for a later row's. A teardown is answered when it is
/// done, which may be long after: there a worker that names rows is waited
/// for, as for its other work.
async fn call(
    context: &Context,
    id: &HostId,
    message: &Message,
    started: &Started,
) -> Result<Called, Failure> {
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
    let first = once(context, &host, message, started).await;
    let last = match first {
        Err(Fault::Agent(unconfirmed @ AgentError::Unconfirmed { .. }))
            if context.heard.has_named_rows(id) =>
        {
            if matches!(message, Message::Teardown(_)) {
                return Ok(Called::Unsaid);
            }
            // What became of the second call says nothing of the first.
            once(context, &host, message, started).await.map_err(|_| Fault::Agent(unconfirmed))
        }
        other => other,
    };
    match last {
        Ok(()) => Ok(Called::Answered),
        Err(Fault::Panic(text)) => Err(Failure::new(FailureKind::Panic, &text)),
        Err(Fault::Agent(AgentError::Refused { reason })) => {
            Err(Failure::new(FailureKind::Rejected, &format!("host {id}: agent refused: {reason}")))
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

async fn once(context: &Context, host: &Host, message: &Message, started: &Started) -> Result<(), Fault> {
    let agents = &context.agents;
    let called = async {
        match message {
            Message::Deploy(config) => {
                // A row that was cancelled before it ran is not the worker's.
                let call = DeployCall { config: Arc::clone(config), lifecycle_ids: started.ids() };
                agents.deploy(host, &call).await
            }
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
