//! One agent call for the rows of one host.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_lite::{FutureExt, StreamExt};
use futures_util::stream::FuturesUnordered;

use crate::agent::{AgentError, DeployCall, Host, MutateCall, TeardownCall};
use crate::lifecycle::{
    DeckyName, Failure, FailureKind, HostId, Lifecycle, LifecycleId, Operation, Pending, Running,
};
use crate::master::{HostTurn, Master, Stage, panic_text};
use crate::placement::{Aim, Home, Placement, fleet_of};
use crate::store::PlacementQuery;

use super::{Context, Ended, Rows, engine_call};

/// What an agent is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// Bring up the host's deckies, of which the rows are some or all.
    Deploy,
    /// Give the decky of the one row its new services.
    Mutate,
    /// Take the decky of the one row down.
    Teardown,
    /// Take down all that the host has; the rows are of all of it.
    TeardownAll,
}

/// What the agent is told.
enum Message {
    Deploy(DeployCall),
    Mutate(MutateCall),
    Teardown(TeardownCall),
}

/// Rows of one host that are durably running: its agent may be called for them.
/// Other calls to the host wait until they are settled.
#[derive(Debug)]
#[must_use = "dispatch them, and settle them by the answer"]
pub struct StartedOn {
    host: HostId,
    rows: Rows<Running>,
    _turn: HostTurn,
}

/// What became of a dispatch: what [`Context::settle`] does with the rows.
#[derive(Debug)]
#[must_use = "settle the rows by it"]
pub struct Dispatched {
    rows: BTreeSet<LifecycleId>,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    /// The worker has taken the work, or may have: its heartbeat ends the rows.
    Taken,
    /// The agent did it, and said so.
    Done,
    Failed(Failure),
}

impl StartedOn {
    /// Whether there is none: somebody else has ended them all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &HostId {
        &self.host
    }

    /// The rows.
    #[must_use]
    pub const fn rows(&self) -> &Rows<Running> {
        &self.rows
    }

    fn ids(&self) -> BTreeMap<DeckyName, LifecycleId> {
        self.rows.iter().map(|(decky, row)| (decky.clone(), row.id())).collect()
    }
}

impl Dispatched {
    /// Why the work did not reach the worker, or was refused; none if it did.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        match &self.answer {
            Answer::Failed(failure) => Some(failure),
            Answer::Taken | Answer::Done => None,
        }
    }
}

/// Drives all calls at once; each is polled only when it was woken.
pub(super) async fn all<F: Future<Output = ()>>(calls: impl Iterator<Item = F>) {
    let mut left: FuturesUnordered<F> = calls.collect();
    while left.next().await.is_some() {}
}

impl Context {
    /// Waits for its turn at the host, and takes the rows to running in one
    /// commit. What somebody else has ended meanwhile is left out; what the
    /// store could not take fails.
    pub async fn start_on(&self, host: HostId, rows: Rows<Pending>) -> StartedOn {
        self.master.active.enter(rows.values().map(Lifecycle::id), Stage::DispatchQueue);
        let turn = self.master.swarm.turn(&host).await;
        self.master.active.enter(rows.values().map(Lifecycle::id), Stage::Dispatch);
        let patience = self.master.time.deadlines.remote_run();
        let rows = self.to_running(rows, |at| at.plus(patience)).await;
        StartedOn { host, rows, _turn: turn }
    }

    /// Calls the host's agent for these rows: one call. Whatever goes wrong, a
    /// panic and a deadline too, is in the answer. Rows that the call does not
    /// fit are not begun, and fail.
    pub async fn dispatch(&self, started: &StartedOn, call: Call) -> Dispatched {
        let (master, host) = (&*self.master, &started.host);
        let rows: BTreeSet<LifecycleId> = started.rows.values().map(Lifecycle::id).collect();
        if rows.is_empty() {
            return Dispatched { rows, answer: Answer::Done };
        }
        let called = match message(master, call, started).await {
            Ok(message) => self::call(master, host, &message).await,
            Err(failure) => Err(failure),
        };
        let answer = match called {
            Ok(Called::Answered) => {
                master.swarm.heard.note(host, master.time.clock.monotonic());
                match call {
                    Call::Deploy | Call::Mutate => Answer::Taken,
                    Call::Teardown | Call::TeardownAll => Answer::Done,
                }
            }
            Ok(Called::Unsaid) => Answer::Taken,
            Err(failure) => {
                let failure = failure.hiding(&master.discretion.secrets());
                log::warn!(target: "decnet_lifecycle::strategy", host:% = host, error:% = failure; "dispatch failed");
                Answer::Failed(failure)
            }
        };
        Dispatched { rows, answer }
    }

    /// Hands the rows to the worker, succeeds or fails them, by what became of
    /// their dispatch. Rows that the worker has taken are ended by its
    /// heartbeat, and are in nothing that this gives.
    pub async fn settle(&self, started: StartedOn, dispatched: Dispatched) -> Ended {
        let StartedOn { host, rows, _turn } = started;
        let answer = match rows.values().all(|row| dispatched.rows.contains(&row.id())) {
            true => dispatched.answer,
            false => {
                let text = "what its strategy settled it by is of other rows";
                Answer::Failed(Failure::new(FailureKind::Abandoned, text))
            }
        };
        let result = match answer {
            Answer::Taken => {
                self.settled(rows.values().map(Lifecycle::id));
                if !rows.is_empty() {
                    // Its silence counts from now on, also if it was given up
                    // meanwhile.
                    self.master.swarm.heard.expect(&host, self.master.time.clock.monotonic());
                }
                self.master.swarm.heard.hand_over(&host, rows.values().map(Lifecycle::id));
                for row in rows.into_values() {
                    row.hand_over();
                }
                return Ended::default();
            }
            Answer::Done => Ok(()),
            Answer::Failed(failure) => Err(failure),
        };
        self.close(rows.into_values().map(|row| (row, result.clone())).collect()).await
    }

    /// Start, dispatch, settle.
    pub(super) async fn to_host(&self, host: HostId, rows: Rows<Pending>, call: Call) {
        let started = self.start_on(host, rows).await;
        let dispatched = self.dispatch(&started, call).await;
        self.settle(started, dispatched).await;
    }
}

/// Whether the call says anything of these rows: what they were accepted for,
/// and of each of them.
fn fits(call: Call, started: &StartedOn) -> Result<(), Failure> {
    let operation = match call {
        Call::Deploy => Operation::Deploy,
        Call::Mutate => Operation::Mutate,
        Call::Teardown | Call::TeardownAll => Operation::Teardown,
    };
    engine_call::fits(operation, &started.rows)?;
    match call {
        Call::Mutate | Call::Teardown if started.rows.len() > 1 => {
            let text =
                format!("one call can {operation} one decky, and its strategy has {}", started.rows.len());
            Err(Failure::new(FailureKind::Engine, &text))
        }
        _ => Ok(()),
    }
}

/// What to tell the agent, from the placements as they are now that it is this
/// call's turn at the host. DECNET's agent replaces all that it runs by what a
/// deploy sends it, so a shard holds all of the host's deckies, those without a
/// row of this call as well.
async fn message(master: &Master, call: Call, started: &StartedOn) -> Result<Message, Failure> {
    fits(call, started)?;
    let ids = started.ids();
    let lost =
        || Failure::new(FailureKind::Store, "nothing says any more what it was to bring about; ask again");
    Ok(match call {
        Call::Deploy => {
            let home = Home::Host(started.host.clone());
            let placements = master.placements(&PlacementQuery::At(home.clone())).await?;
            let told = placements.iter().filter_map(Placement::as_told).filter(|placed| placed.home == home);
            let mut told: Vec<_> = told.collect();
            // Those of this call come first: theirs is the network, should it
            // change.
            let own: BTreeSet<&DeckyName> = started.rows.keys().collect();
            told.sort_by_key(|placed| !own.contains(&placed.config.name));
            let here: BTreeSet<&DeckyName> = told.iter().map(|placed| &placed.config.name).collect();
            if !started.rows.keys().all(|decky| here.contains(decky)) {
                return Err(lost());
            }
            let config = fleet_of(told.iter().map(|placed| &***placed)).ok_or_else(lost)?;
            Message::Deploy(DeployCall { config: Arc::new(config), lifecycle_ids: ids })
        }
        Call::Mutate => {
            let (decky, lifecycle_id) = ids.into_iter().next().ok_or_else(lost)?;
            let placements = master.placements(&PlacementQuery::Of(vec![decky.clone()])).await?;
            let tried = placements.first().and_then(|placement| placement.tried.get(&lifecycle_id));
            let Some(Aim::Up(placed)) = tried.map(|tried| &tried.aim) else { return Err(lost()) };
            Message::Mutate(MutateCall { decky, services: placed.config.services.clone(), lifecycle_id })
        }
        Call::Teardown => {
            Message::Teardown(TeardownCall { decky: ids.keys().next().cloned(), lifecycle_ids: ids })
        }
        Call::TeardownAll => {
            let there = master.placements(&PlacementQuery::At(Home::Host(started.host.clone()))).await?;
            // What is only to come up there waits for this call to be over.
            let is_there = |placement: &&Placement| {
                placement.now().is_some() || placement.tried.values().any(|tried| tried.begun)
            };
            let mut others = there.iter().filter(is_there);
            if let Some(other) = others.find(|placement| !ids.contains_key(&placement.decky)) {
                let text = format!("{} is there too, and was not asked to go", other.decky);
                return Err(Failure::new(FailureKind::Engine, &text));
            }
            Message::Teardown(TeardownCall { decky: None, lifecycle_ids: ids })
        }
    })
}

/// What became of a call that did not fail.
enum Called {
    /// The agent gave the answer hoped for.
    Answered,
    /// It gave none. Its worker names rows, so its beats will say how the work
    /// ended, or leave the row out, which then fails as lost.
    Unsaid,
}

/// Finds the host and calls its agent.
///
/// A call without an answer may have arrived. To a worker that names rows it is
/// sent once more, with the same ids: a worker that has them already does
/// nothing, and answers as the first time. To any other it would be a second
/// operation, whose delta might later be taken for another row's; there the
/// rows fail. A teardown is answered only when it is done, which may be long
/// after the call has been given up: it isn't sent again, and the beats of a
/// worker that names rows say how it ended.
async fn call(master: &Master, id: &HostId, message: &Message) -> Result<Called, Failure> {
    let unreachable = |text: &str| Failure::new(FailureKind::Unreachable, text);
    let host = match master.swarm.hosts.find(id).await {
        Ok(Some(host)) => host,
        Ok(None) => {
            return Err(unreachable(&format!(
                "host {id} is not in the host directory; add it, or move the decky"
            )));
        }
        Err(error) => return Err(unreachable(&error.to_string())),
    };
    let first = once(master, &host, message).await;
    let last = match first {
        Err(Fault::Agent(unconfirmed @ AgentError::Unconfirmed { .. }))
            if master.swarm.heard.has_named_rows(id) =>
        {
            if matches!(message, Message::Teardown(_)) {
                return Ok(Called::Unsaid);
            }
            // What became of the second call says nothing of the first.
            once(master, &host, message).await.map_err(|_| Fault::Agent(unconfirmed))
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

async fn once(master: &Master, host: &Host, message: &Message) -> Result<(), Fault> {
    let agents = &master.swarm.agents;
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
        master.time.clock.sleep(master.time.deadlines.dispatch).await;
        let reason = format!("no answer within {} s", master.time.deadlines.dispatch.as_secs());
        Err(Fault::Agent(AgentError::Unconfirmed { reason }))
    };
    caught.or(too_late).await
}
