//! A master and a worker in one process, with a wire between that does as it
//! is told. What goes over it is the JSON that would.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use decnet_lifecycle::testkit::{FakeEngine, VirtualClock};
use decnet_lifecycle::worker::{
    BeatReply, DeployDispatch, Master, MasterError, MutateDispatch, TeardownDispatch, Worker,
};
use decnet_lifecycle::{
    agent::{AgentError, Agents, DeployCall, Host, MutateCall, Pin, StaticHosts, TeardownCall},
    beat::{Beat, BeatAnswer},
    placement::Standing,
    store::{MemoryStore, PlacementQuery, Store},
    *,
};
use futures_lite::future::block_on;
use serde_json::{Value, json};

/// What happens to a beat on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    LoseBeat,
    LoseAnswer,
    /// The original's master: 204 and no more.
    SayNothing,
    TooFewVerdicts,
}

/// The wire, both ways.
#[derive(Debug)]
pub struct Wire {
    executor: smol::Executor<'static>,
    worker: Mutex<Option<Worker>>,
    master: Mutex<Option<Runner>>,
    pub faults: Mutex<VecDeque<Fault>>,
    pub bodies: Mutex<Vec<Value>>,
}

pub struct Pair {
    pub wire: Arc<Wire>,
    pub clock: Arc<VirtualClock>,
    pub engine: Arc<FakeEngine>,
    pub master_store: Arc<dyn Store>,
    pub worker_store: Arc<dyn Store>,
    work: Vec<smol::Task<()>>,
}

impl Pair {
    pub fn new() -> Self {
        let mut pair = Self {
            wire: Arc::new(Wire {
                executor: smol::Executor::new(),
                worker: Mutex::default(),
                master: Mutex::default(),
                faults: Mutex::default(),
                bodies: Mutex::default(),
            }),
            clock: Arc::new(VirtualClock::new()),
            engine: Arc::new(FakeEngine::new()),
            master_store: Arc::new(MemoryStore::new()),
            worker_store: Arc::new(MemoryStore::new()),
            work: Vec::new(),
        };
        pair.start_master();
        pair.start_worker();
        pair
    }

    /// A new master over the old one's store; the old one is gone.
    pub fn start_master(&mut self) {
        let host = Host { id: host("w1"), address: "w1:8765".into(), pin: Pin::CaOnly };
        let runner = Runner::builder(Arc::clone(&self.master_store), Arc::new(FakeEngine::new()))
            .clock(self.clock.clone())
            .swarm(self.wire.clone(), Arc::new(StaticHosts::new([host])))
            .build()
            .unwrap();
        let (runner, recovered) = block_on(runner.recover()).unwrap();
        for accepted in recovered.accepted {
            self.wire.executor.spawn(accepted.run()).detach();
        }
        *self.wire.master.lock().unwrap() = Some(runner);
    }

    /// A new worker over the old one's store; the old one was killed.
    pub fn start_worker(&mut self) {
        self.stop_worker();
        let worker = Worker::builder(host("w1"), Arc::clone(&self.worker_store), self.engine.clone())
            .clock(self.clock.clone())
            .build()
            .unwrap();
        let (worker, recovered) = block_on(worker.recover()).unwrap();
        for accepted in recovered.accepted {
            self.work.push(self.wire.executor.spawn(accepted.run()));
        }
        *self.wire.worker.lock().unwrap() = Some(worker.clone());
        let wire = Arc::clone(&self.wire);
        self.work.push(self.wire.executor.spawn(async move { worker.beats(&*wire).await }));
    }

    /// Kills the worker: its futures are gone at whatever await they were.
    pub fn stop_worker(&mut self) {
        *self.wire.worker.lock().unwrap() = None;
        self.work.clear();
        WORK.with(|work| work.borrow_mut().clear());
    }

    pub fn master(&self) -> Runner {
        self.wire.master.lock().unwrap().clone().unwrap()
    }

    pub fn worker(&self) -> Worker {
        self.wire.worker.lock().unwrap().clone().unwrap()
    }

    /// Deploys to where the worker has the work.
    pub fn deploy(&self, deckies: usize) -> Vec<LifecycleId> {
        let accepted = block_on(self.master().accept_deploy(DeployRequest::new(fleet(deckies)))).unwrap();
        self.run(accepted)
    }

    pub fn mutate(&self, decky: &str, services: &[&str]) -> LifecycleId {
        let services = services.iter().map(|service| ServiceName::parse(service).unwrap()).collect();
        let request = MutateRequest::new(name(decky), services);
        self.run(block_on(self.master().accept_mutate(request)).unwrap())[0]
    }

    pub fn run(&self, accepted: Accepted) -> Vec<LifecycleId> {
        let ids = accepted.ids().values().copied().collect();
        block_on(self.wire.executor.run(accepted.run()));
        ids
    }

    /// Lets everything run that can without time passing.
    pub fn tick(&self) {
        while self.wire.executor.try_tick() {}
    }

    /// Lets seconds pass, one after the other.
    pub fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.tick();
            self.clock.advance(std::time::Duration::from_secs(1));
        }
        self.tick();
    }

    pub fn told(&self, ids: &[LifecycleId]) -> Vec<String> {
        let rows = block_on(self.master().get(ids)).unwrap();
        rows.iter()
            .map(|row| row.failure().map_or_else(|| row.status().to_string(), ToString::to_string))
            .collect()
    }

    /// The services that a decky of the master's is up with, on evidence.
    pub fn up_with(&self, decky: &str) -> Vec<String> {
        let query = PlacementQuery::Of(vec![name(decky)]);
        match block_on(self.master().placements(&query)).unwrap().pop().map(|placement| placement.standing) {
            Some(Standing::Up { placed, .. }) => {
                placed.config.services.iter().map(ToString::to_string).collect()
            }
            other => panic!("{decky} is not up: {other:?}"),
        }
    }

    pub fn last_beat(&self) -> Value {
        self.wire.bodies.lock().unwrap().last().unwrap().clone()
    }

    pub fn beats(&self) -> usize {
        self.wire.bodies.lock().unwrap().len()
    }
}

thread_local! {
    /// What the worker is at; dropped when it is killed.
    static WORK: std::cell::RefCell<Vec<smol::Task<()>>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl Wire {
    fn worker(&self) -> Result<Worker, AgentError> {
        let gone = || AgentError::Unreachable { reason: "connection refused".into() };
        self.worker.lock().unwrap().clone().ok_or_else(gone)
    }

    async fn taken(&self, accepted: Result<Accepted, AcceptError>) -> Result<(), AgentError> {
        let accepted = accepted.map_err(|error| AgentError::Refused { reason: error.to_string() })?;
        let task = self.executor.spawn(accepted.run());
        WORK.with(|work| work.borrow_mut().push(task));
        Ok(())
    }
}

#[async_trait]
impl Agents for Wire {
    async fn deploy(&self, _: &Host, call: &DeployCall) -> Result<(), AgentError> {
        let body = json!({"config": *call.config, "dry_run": false, "no_cache": false, "lifecycle_ids": call.lifecycle_ids});
        let dispatch = DeployDispatch::from_json(body.to_string().as_bytes()).unwrap();
        self.taken(self.worker()?.deploy(dispatch).await).await
    }

    async fn mutate(&self, _: &Host, call: &MutateCall) -> Result<(), AgentError> {
        let body = json!({"decky_id": call.decky, "services": call.services, "dry_run": false,
                          "lifecycle_ids": {call.decky.as_str(): call.lifecycle_id}});
        let dispatch = MutateDispatch::from_json(body.to_string().as_bytes()).unwrap();
        self.taken(self.worker()?.mutate(dispatch).await).await
    }

    async fn teardown(&self, _: &Host, call: &TeardownCall) -> Result<(), AgentError> {
        let body = json!({"decky_id": call.decky, "lifecycle_ids": call.lifecycle_ids});
        let dispatch = TeardownDispatch::from_json(body.to_string().as_bytes()).unwrap();
        self.taken(self.worker()?.teardown(dispatch).await).await
    }
}

#[async_trait]
impl Master for Wire {
    async fn heartbeat(&self, body: &str) -> Result<BeatReply, MasterError> {
        let beat = Beat::from_json(body.as_bytes()).unwrap();
        self.bodies.lock().unwrap().push(serde_json::from_str(body).unwrap());
        let fault = self.faults.lock().unwrap().pop_front();
        let lost = || Err(MasterError::Unreachable("reset".into()));
        let master = self.master.lock().unwrap().clone();
        let Some(master) = master.filter(|_| fault != Some(Fault::LoseBeat)) else { return lost() };
        let answer = master.take_beat(&host("w1"), &beat).await.unwrap();
        let mut answer = BeatAnswer::from_json(answer.to_json().as_bytes())?;
        match fault {
            Some(Fault::LoseAnswer) => lost(),
            Some(Fault::SayNothing) => Ok(BeatReply::Taken),
            Some(Fault::TooFewVerdicts) => {
                answer.verdicts.clear();
                Ok(BeatReply::Answered(answer))
            }
            _ => Ok(BeatReply::Answered(answer)),
        }
    }
}

pub fn host(id: &str) -> HostId {
    HostId::parse(id).unwrap()
}

pub fn name(decky: &str) -> DeckyName {
    DeckyName::parse(decky).unwrap()
}

/// A swarm fleet of so many deckies (`d0`, `d1`, ..) on `w1`.
pub fn fleet(deckies: usize) -> FleetConfig {
    let deckies: Vec<Value> = (0..deckies)
        .map(|n| {
            json!({"name": format!("d{n}"), "ip": format!("10.1.{}.{}", n / 250, n % 250 + 2), "services": ["ssh"],
                   "distro": "debian", "base_image": "debian:12", "hostname": "srv", "host_uuid": "w1"})
        })
        .collect();
    let fleet = json!({"mode": "swarm", "interface": "eth0", "subnet": "10.1.0.0/16", "gateway": "10.1.0.1",
                       "deckies": deckies});
    FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap()
}
