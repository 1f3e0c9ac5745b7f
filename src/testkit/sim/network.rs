//! A network between the master and its workers that loses, delays, doubles
//! and reorders.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_lite::FutureExt;

use crate::agent::{AgentError, Agents, DeployCall, Host, MutateCall, TeardownCall};
use crate::beat::{Beat, Delta, KnownRows, Reported, Verdict, WorkerStatus};
use crate::clock::Clock;
use crate::lifecycle::{DeckyName, HostId, LifecycleId, Operation, ServiceName};
use crate::runner::Runner;
use crate::testkit::{FaultyStore, StoreFault, VirtualClock, Witness};

use super::Planted;
use super::dice::Dice;
use super::executor::Executor;
use super::worker::{Kind, Worker};

/// The group of the master's tasks.
pub(super) const MASTER: usize = 0;
/// The group of what is on its way.
pub(super) const ON_ITS_WAY: usize = 1;
/// The first worker's group.
pub(super) const WORKERS: usize = 2;

/// How often a worker beats.
pub(super) const BEAT: Duration = Duration::from_secs(30);

pub(super) struct Network {
    pub(super) executor: Executor,
    pub(super) dice: Dice,
    pub(super) clock: Arc<VirtualClock>,
    pub(super) workers: BTreeMap<HostId, Arc<Worker>>,
    pub(super) witness: Arc<Witness>,
    /// The master, while it is up and has recovered.
    pub(super) master: Mutex<Option<Runner>>,
    /// Ids to lie about in forged deltas.
    pub(super) ids: Mutex<Vec<(LifecycleId, DeckyName, Option<HostId>)>>,
    /// What should not have happened.
    pub(super) wrong: Mutex<Vec<String>>,
    pub(super) fair: AtomicBool,
    /// The store as the master has it.
    pub(super) faulty: Mutex<Option<Arc<FaultyStore>>>,
    pub(super) blind_commits: AtomicU64,
    /// How many in a hundred words of the original's worker get lost; also in
    /// fair weather.
    pub(super) lost_words: u64,
    pub(super) planted: Option<Planted>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl Network {
    /// Whether something goes wrong now; never once the weather is fair.
    pub(super) fn mishap(&self, percent: u64) -> bool {
        !self.fair.load(Ordering::Relaxed) && self.dice.percent(percent)
    }

    async fn travel(&self) {
        let longest = if self.mishap(10) { 100_000 } else { 500 };
        self.clock.sleep(self.dice.up_to(Duration::from_millis(longest))).await;
    }

    /// After so many good ones a commit is unknown, and then the store can't
    /// be read.
    pub(super) fn blind(&self, good: usize) {
        let faulty = self.faulty.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(faulty) = faulty.filter(|faulty| !faulty.is_faulty()) else { return };
        let (landed, reads) = (self.dice.percent(50), 1 + self.dice.index(3));
        let blind = StoreFault::UnknownThenBlind { landed, reads };
        faulty.fail_commits(std::iter::repeat_n(StoreFault::None, good).chain([blind]));
        self.blind_commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn complain(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// The master, while it is up and has recovered.
    pub(super) fn master(&self) -> Option<Runner> {
        self.master.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_master(&self, master: Option<Runner>) {
        *self.master.lock().unwrap_or_else(PoisonError::into_inner) = master;
    }

    fn world(&self) -> (&Executor, &Dice, &Arc<VirtualClock>) {
        (&self.executor, &self.dice, &self.clock)
    }

    /// One call to a worker's agent, there and back.
    async fn call(self: &Arc<Self>, host: &Host, call: Call) -> Result<(), AgentError> {
        let worker = self.workers.get(&host.id).cloned();
        let worker = worker.ok_or_else(|| AgentError::Unreachable { reason: "no such worker".to_owned() })?;
        self.travel().await;
        if self.mishap(8) {
            return Err(AgentError::Unreachable { reason: "connection refused".to_owned() });
        }
        if self.mishap(8) {
            return std::future::pending().await;
        }
        if !worker.is_up() {
            return Err(AgentError::Unreachable { reason: "the worker is down".to_owned() });
        }
        if self.mishap(5) {
            return Err(AgentError::Refused { reason: "disk full".to_owned() });
        }
        match worker.kind {
            Kind::Original => self.original(&worker, call),
            Kind::Ours => {
                self.ours(&worker, &call);
                if self.mishap(8) {
                    // The same request once more, later.
                    let net = Arc::clone(self);
                    self.executor.spawn(ON_ITS_WAY, async move {
                        net.travel().await;
                        if worker.is_up() {
                            net.ours(&worker, &call);
                        }
                    });
                }
            }
        }
        self.travel().await;
        if self.mishap(10) {
            return Err(AgentError::Unconfirmed { reason: "connection reset".to_owned() });
        }
        Ok(())
    }

    fn ours(&self, worker: &Arc<Worker>, call: &Call) {
        for (decky, id) in &call.rows {
            worker.take(self.world(), *id, decky.clone(), call.operation);
        }
    }

    /// A worker's life: a beat now and then, until it is dropped.
    pub(super) async fn beats(self: Arc<Self>, worker: Arc<Worker>) {
        loop {
            self.clock.sleep(BEAT).await;
            let waiting = worker.waiting();
            let deltas: Vec<Delta> = waiting.iter().map(|(_, delta)| delta.clone()).collect();
            let Some(verdicts) = self.post(&worker, deltas).await else { continue };
            let settled: Vec<u64> = waiting.iter().zip(&verdicts).map(|((number, _), _)| *number).collect();
            worker.settle(&settled);
        }
    }

    /// A beat with these deltas, and what it is answered in time.
    pub(super) async fn post(self: &Arc<Self>, worker: &Worker, deltas: Vec<Delta>) -> Option<Vec<Verdict>> {
        let too_late = async {
            self.clock.sleep(Duration::from_secs(20)).await;
            None
        };
        self.beat(worker, deltas).or(too_late).await
    }

    async fn beat(self: &Arc<Self>, worker: &Worker, deltas: Vec<Delta>) -> Option<Vec<Verdict>> {
        let host = &worker.host;
        let beat = Beat {
            host: host.clone(),
            agent_version: None,
            status: match self.planted {
                Some(Planted::BlindBeats) => WorkerStatus::default(),
                _ => worker.status(),
            },
            deltas: deltas.into_iter().map(Some).collect(),
            known_rows: match worker.kind {
                Kind::Ours => KnownRows::These(worker.known()),
                Kind::Original => KnownRows::NotSaid,
            },
        };
        self.travel().await;
        if self.mishap(10) {
            return None;
        }
        if self.mishap(8) {
            let (net, again) = (Arc::clone(self), beat.clone());
            self.executor.spawn(ON_ITS_WAY, async move {
                // No post is on its way for longer than a master takes it to be.
                net.clock.sleep(net.dice.up_to(Duration::from_secs(60))).await;
                let _ = net.deliver(again).await;
            });
        }
        if self.mishap(5) {
            self.forge(host);
        }
        let verdicts = self.deliver(beat).await;
        self.travel().await;
        if self.mishap(10) { None } else { verdicts }
    }

    /// Hands a beat to the master as it is now; a crash of it loses the beat.
    async fn deliver(self: &Arc<Self>, beat: Beat) -> Option<Vec<Verdict>> {
        let runner = self.master()?;
        let (reply, answer) = async_channel::bounded(1);
        let witness = Arc::clone(&self.witness);
        self.executor.spawn(MASTER, async move {
            let deltas: Vec<Delta> = beat.deltas.iter().flatten().cloned().collect();
            witness.heard(&beat.host, &deltas);
            witness.shown(&beat.host, &beat.status);
            let _ = reply.try_send(runner.take_beat(&beat.host, &beat).await);
        });
        Some(answer.recv().await.ok()?.ok()?.verdicts)
    }

    /// A beat of this host that claims success for another host's row.
    fn forge(self: &Arc<Self>, host: &HostId) {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((id, decky, owner)) = ids.get(self.dice.index(ids.len())).cloned() else { return };
        drop(ids);
        if owner.as_ref() == Some(host) {
            return;
        }
        let (net, host) = (Arc::clone(self), host.clone());
        self.executor.spawn(ON_ITS_WAY, async move {
            for operation in [Operation::Deploy, Operation::Mutate, Operation::Teardown] {
                let report = Reported::Succeeded;
                let delta = Delta {
                    lifecycle_id: Some(id),
                    decky: decky.clone(),
                    operation,
                    report,
                    completed_at: None,
                };
                let beat = Beat {
                    host: host.clone(),
                    agent_version: None,
                    status: net.workers.get(&host).map(|worker| worker.status()).unwrap_or_default(),
                    deltas: vec![Some(delta)],
                    known_rows: KnownRows::TooMany,
                };
                let verdicts = net.deliver(beat).await.unwrap_or_default();
                if verdicts.contains(&Verdict::Applied) {
                    net.complain(format!("a forged delta of host {host} for row {id} was applied"));
                }
            }
        });
    }
}

/// The agents of the simulated workers.
#[derive(Debug)]
pub(super) struct SimAgents(pub(super) Arc<Network>);

/// What an agent is asked, and which rows track it.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) operation: Operation,
    pub(super) rows: BTreeMap<DeckyName, LifecycleId>,
    /// What is to run: of a deploy, all that the worker has.
    pub(super) up: BTreeMap<DeckyName, Vec<ServiceName>>,
}

#[async_trait]
impl Agents for SimAgents {
    async fn deploy(&self, host: &Host, call: &DeployCall) -> Result<(), AgentError> {
        let deckies = call.config.deckies.iter();
        let up = deckies.map(|decky| (decky.name.clone(), decky.services.clone())).collect();
        let rows = call.lifecycle_ids.clone();
        self.0.call(host, Call { operation: Operation::Deploy, rows, up }).await
    }

    async fn mutate(&self, host: &Host, call: &MutateCall) -> Result<(), AgentError> {
        let rows = BTreeMap::from([(call.decky.clone(), call.lifecycle_id)]);
        let up = BTreeMap::from([(call.decky.clone(), call.services.clone())]);
        self.0.call(host, Call { operation: Operation::Mutate, rows, up }).await
    }

    async fn teardown(&self, host: &Host, call: &TeardownCall) -> Result<(), AgentError> {
        let rows = match self.0.workers.get(&host.id).map(|worker| worker.kind) {
            Some(Kind::Original) => call.lifecycle_ids.clone(),
            // The answer says that it is done.
            _ => BTreeMap::new(),
        };
        self.0.call(host, Call { operation: Operation::Teardown, rows, up: BTreeMap::new() }).await
    }
}
