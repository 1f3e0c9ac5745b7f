//! A master on fakes, driven by bytes; after each step every invariant holds.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::testkit::{
    AgentScript, EngineScript, FakeAgents, FakeEngine, FaultyStore, Invariants, StoreFault, VirtualClock,
    Witness,
};
use decnet_lifecycle::{
    agent::{AgentError, Agents, Host, StaticHosts},
    beat::{Beat, Delta, Reported},
    bus::NullBus,
    clock::Clock,
    engine::Engine,
    store::{MemoryStore, Query, Store},
    *,
};
use futures_lite::future::{block_on, poll_once};

use super::bytes::Bytes;

struct Master {
    runner: Runner,
    store: Arc<FaultyStore>,
    memory: Arc<dyn Store>,
    engine: Arc<FakeEngine>,
    agents: Arc<FakeAgents>,
    clock: Arc<VirtualClock>,
    witness: Arc<Witness>,
    invariants: Invariants,
    fleet: FleetConfig,
    runs: Vec<Pin<Box<dyn Future<Output = ()>>>>,
    ids: Vec<(LifecycleId, DeckyName)>,
}

impl Master {
    fn new() -> Self {
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let store = Arc::new(FaultyStore::new(Arc::clone(&memory)));
        let witness = Witness::new(Arc::clone(&memory));
        let (engine, agents) = (Arc::new(FakeEngine::new()), Arc::new(FakeAgents::new()));
        let clock = Arc::new(VirtualClock::new());
        let (runner, _) = build(&store, &witness, &engine, &agents, &clock);
        let invariants = Invariants::new().with_witness(Arc::clone(&witness));
        let fleet = fleet();
        store.wait(1);
        Self {
            runner,
            store,
            memory,
            engine,
            agents,
            clock,
            witness,
            invariants,
            fleet,
            runs: vec![],
            ids: vec![],
        }
    }

    fn name(&self, bytes: &mut Bytes<'_>) -> DeckyName {
        self.fleet.deckies[bytes.below(self.fleet.deckies.len())].name.clone()
    }

    fn ask(&mut self, bytes: &mut Bytes<'_>) {
        let chosen = bytes.byte();
        let some: Vec<DeckyName> = self
            .fleet
            .names()
            .enumerate()
            .filter(|(place, _)| chosen & (1 << place) != 0)
            .map(|(_, n)| n.clone())
            .collect();
        let overlap = [Overlap::Reject, Overlap::Supersede][bytes.below(2)];
        let fleet = self.fleet.clone();
        let accepted = match bytes.below(4) {
            0 => block_on(self.runner.accept_teardown(TeardownRequest::new(some).overlap(overlap))),
            1 => {
                let service = ServiceName::parse("ftp").unwrap();
                let request = MutateRequest::new(self.name(bytes), vec![service]).overlap(overlap);
                block_on(self.runner.accept_mutate(request))
            }
            _ => block_on(self.runner.accept_deploy(DeployRequest::new(fleet).only(some).overlap(overlap))),
        };
        if let Ok(accepted) = accepted {
            self.ids.extend(accepted.ids().iter().map(|(decky, id)| (*id, decky.clone())));
            self.runs.push(Box::pin(accepted.run()));
        }
    }

    fn poll(&mut self, bytes: &mut Bytes<'_>) {
        if self.runs.is_empty() {
            return;
        }
        let place = bytes.below(self.runs.len());
        for _ in 0..=bytes.below(32) {
            if block_on(poll_once(&mut self.runs[place])).is_some() {
                drop(self.runs.remove(place));
                return;
            }
        }
    }

    fn beat(&mut self, bytes: &mut Bytes<'_>) {
        let host = HostId::parse(["w1", "w2", "w9"][bytes.below(3)]).unwrap();
        let mut deltas = Vec::new();
        for _ in 0..bytes.below(6) {
            let known = self.ids.get(bytes.below(self.ids.len())).cloned();
            let named = bytes.below(3);
            let lifecycle_id = match named {
                0 => None,
                1 => known.as_ref().map(|(id, _)| *id),
                _ => Some(LifecycleId::from_u128(u128::from(bytes.byte()))),
            };
            let decky = match known {
                Some((_, decky)) if bytes.below(8) > 0 => decky,
                _ => self.name(bytes),
            };
            let operation = [Operation::Deploy, Operation::Mutate, Operation::Teardown][bytes.below(3)];
            let report = match bytes.below(3) {
                0 => Reported::Running,
                1 => Reported::Succeeded,
                _ => Reported::Failed("x".repeat(bytes.below(200))),
            };
            let claim = i64::from(bytes.byte() as i8) * 10_000_000;
            let claim = Timestamp::from_micros(self.clock.now().as_micros() + claim);
            let completed_at = bytes.flag().then_some(claim);
            deltas.push(Delta { lifecycle_id, decky, operation, report, completed_at });
        }
        self.witness.heard(&host, &deltas);
        let verdicts = match bytes.below(3) {
            0 => block_on(self.runner.apply_deltas(&host, &deltas)),
            naming => {
                let beat = self.whole_beat(bytes, &host, &deltas, naming == 1);
                self.witness.shown(&host, &beat.status);
                block_on(self.runner.take_beat(&host, &beat)).map(|answer| answer.verdicts)
            }
        };
        if let Ok(verdicts) = verdicts {
            assert_eq!(verdicts.len(), deltas.len());
        }
    }

    /// A beat that shows some deckies as running, of a worker that names rows or
    /// of one that doesn't.
    fn whole_beat(&self, bytes: &mut Bytes<'_>, host: &HostId, deltas: &[Delta], names_rows: bool) -> Beat {
        let shown = bytes.byte();
        let names = self.fleet.names().enumerate().filter(|(place, _)| shown & (1 << place) != 0);
        let services = if bytes.flag() { ["ssh"] } else { ["ftp"] };
        let (mut deckies, mut runtime) = (Vec::new(), serde_json::Map::new());
        for (_, name) in names {
            deckies.push(serde_json::json!({"name": name, "services": services}));
            let states: serde_json::Map<String, serde_json::Value> =
                services.iter().map(|service| ((*service).to_owned(), "running".into())).collect();
            runtime.insert(name.to_string(), serde_json::json!({"running": true, "services": states}));
        }
        let status = serde_json::json!({"deployed": true, "deckies": deckies, "runtime": runtime});
        let mut beat = serde_json::json!({"host_uuid": host, "status": status});
        if names_rows {
            beat["open_rows"] = "too many".into();
        }
        let mut beat = Beat::from_json(beat.to_string().as_bytes()).unwrap();
        beat.deltas = deltas.iter().cloned().map(Some).collect();
        beat
    }

    fn script(&mut self, bytes: &mut Bytes<'_>) {
        let failure = Failure::new(FailureKind::Engine, "no");
        let script = match bytes.below(8) {
            0 => EngineScript::Fail(failure),
            1 => EngineScript::FailAll(failure),
            2 => EngineScript::Delay(Duration::from_secs(5)),
            3 => EngineScript::Hang,
            4 => EngineScript::HangStubbornly,
            5 => EngineScript::Panic,
            6 => EngineScript::Forget,
            _ => EngineScript::Succeed,
        };
        let decky = self.name(bytes);
        self.engine.script(&decky, script);
        let reason = String::new();
        let script = match bytes.below(6) {
            0 => AgentScript::Fail(AgentError::Unreachable { reason }),
            1 => AgentScript::Fail(AgentError::Refused { reason }),
            2 => AgentScript::Fail(AgentError::Unconfirmed { reason }),
            3 => AgentScript::Hang,
            4 => AgentScript::Panic,
            _ => AgentScript::Accept,
        };
        self.agents.script(&HostId::parse(["w1", "w2"][bytes.below(2)]).unwrap(), [script]);
    }

    fn restart(&mut self) {
        self.store.heal();
        self.store.wait(1);
        self.runs.clear();
        let (runner, recovered) = build(&self.store, &self.witness, &self.engine, &self.agents, &self.clock);
        self.runner = runner;
        for accepted in recovered.accepted {
            self.ids.extend(accepted.ids().iter().map(|(decky, id)| (*id, decky.clone())));
            self.runs.push(Box::pin(accepted.run()));
        }
    }

    fn check(&mut self) {
        block_on(self.invariants.check(&*self.memory)).unwrap();
    }

    /// Nothing fails any more: every row ends.
    fn end(mut self) {
        self.restart();
        for _ in 0..3 {
            self.clock.advance(Duration::from_secs(6 * 3_600));
            block_on(self.runner.sweep()).unwrap();
        }
        self.check();
        let open = block_on(self.memory.query(&Query::new().open())).unwrap().records;
        assert!(open.is_empty(), "{open:?}");
    }
}

/// Requests, futures, scripts, beats, cancels, sweeps, restarts and faults.
pub fn strategies(data: &[u8]) {
    // Scripted panics are caught by the strategies.
    super::quiet_panics();
    let mut bytes = Bytes(data);
    let mut master = Master::new();
    for _ in 0..120 {
        if bytes.is_empty() {
            break;
        }
        match bytes.below(14) {
            0..3 => master.ask(&mut bytes),
            3..6 => master.poll(&mut bytes),
            6 => master.beat(&mut bytes),
            7 => master.script(&mut bytes),
            8 => master.clock.advance(Duration::from_secs(1 << bytes.below(13))),
            9 => {
                if let Some((id, _)) = master.ids.get(bytes.below(master.ids.len())) {
                    let _ = block_on(master.runner.cancel(*id));
                }
            }
            10 => drop(block_on(master.runner.sweep())),
            11 if bytes.flag() => master.restart(),
            11 => {
                if !master.runs.is_empty() {
                    let place = bytes.below(master.runs.len());
                    drop(master.runs.remove(place));
                }
            }
            12 => {
                let faults = [StoreFault::NotCommitted, StoreFault::UnknownLanded, StoreFault::UnknownLost];
                master.store.fail_commits([faults[bytes.below(3)]]);
            }
            _ if bytes.flag() => master.clock.step_forward(Duration::from_secs(1 << bytes.below(13))),
            _ => master.clock.step_back(Duration::from_secs(1 << bytes.below(13))),
        }
        master.check();
    }
    master.end();
}

/// Beats of deltas, sound and senseless, at a swarm that has been deployed.
pub fn deltas(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mut master = Master::new();
    for _ in 0..60 {
        let fleet = master.fleet.clone();
        let request = DeployRequest::new(fleet).overlap(Overlap::Supersede);
        if let Ok(accepted) = block_on(master.runner.accept_deploy(request)) {
            master.ids.extend(accepted.ids().iter().map(|(decky, id)| (*id, decky.clone())));
            block_on(accepted.run());
        }
        for _ in 0..=bytes.below(5) {
            master.beat(&mut bytes);
            master.clock.advance(Duration::from_secs(1 << bytes.below(12)));
            master.check();
        }
        if bytes.is_empty() {
            break;
        }
    }
    master.end();
}

fn build(
    store: &Arc<FaultyStore>,
    witness: &Arc<Witness>,
    engine: &Arc<FakeEngine>,
    agents: &Arc<FakeAgents>,
    clock: &Arc<VirtualClock>,
) -> (Runner, Recovered) {
    let hosts = ["w1", "w2"].map(|id| Host {
        id: HostId::parse(id).unwrap(),
        address: String::new(),
        pin: decnet_lifecycle::agent::Pin::CaOnly,
    });
    let runner = Runner::builder(
        Arc::clone(store) as Arc<dyn Store>,
        witness.engine(Arc::clone(engine) as Arc<dyn Engine>),
    )
    .bus(witness.bus(Arc::new(NullBus)))
    .swarm(witness.agents(Arc::clone(agents) as Arc<dyn Agents>), Arc::new(StaticHosts::new(hosts)))
    .clock(Arc::clone(clock) as Arc<dyn Clock>)
    .seed(7)
    .build()
    .unwrap();
    block_on(runner.recover()).unwrap()
}

/// Two deckies of the master's own, two on one worker, one on another.
fn fleet() -> FleetConfig {
    let hosts = [None, None, Some("w1"), Some("w1"), Some("w2")];
    let deckies: Vec<serde_json::Value> = hosts
        .iter()
        .enumerate()
        .map(|(place, host)| {
            serde_json::json!({
                "name": format!("d{place}"), "ip": format!("192.0.2.{}", 10 + place), "services": ["ssh"],
                "distro": "debian", "base_image": "debian:12", "hostname": "srv", "host_uuid": host,
            })
        })
        .collect();
    let fleet = serde_json::json!({
        "mode": "swarm", "interface": "eth0", "subnet": "192.0.2.0/24", "gateway": "192.0.2.1",
        "deckies": deckies,
    });
    FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap()
}
