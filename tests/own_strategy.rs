//! Strategies of one's own, among them the example's: whatever the engine does,
//! every row ends, and well only on evidence.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use decnet_lifecycle::strategy::{Call, Context, Place, Rows, Strategies, Strategy};
use decnet_lifecycle::testkit::{
    AgentScript, EngineScript, FakeAgents, FakeEngine, Invariants, VirtualClock, Witness,
};
use decnet_lifecycle::{
    agent::{AgentError, Host, Pin, StaticHosts},
    beat::{Delta, Reported},
    lifecycle::Pending,
    store::{MemoryStore, PlacementQuery, Store as _},
    *,
};
use futures_lite::future::block_on;
use proptest::prelude::*;

#[path = "../examples/own_strategy.rs"]
mod own_strategy;

use own_strategy::Canary;

fn fleet(deckies: u8, host: Option<&str>) -> FleetConfig {
    let deckies: Vec<_> = (0..deckies)
        .map(|place| {
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

fn name(place: u8) -> DeckyName {
    DeckyName::parse(&format!("d{place}")).unwrap()
}

fn w1() -> HostId {
    HostId::parse("w1").unwrap()
}

struct Master {
    runner: Runner,
    engine: Arc<FakeEngine>,
    agents: Arc<FakeAgents>,
    clock: Arc<VirtualClock>,
    store: Arc<MemoryStore>,
    witness: Arc<Witness>,
}

fn master(strategies: Strategies) -> Master {
    let store = Arc::new(MemoryStore::new());
    let witness = Witness::new(store.clone());
    let (engine, agents) = (Arc::new(FakeEngine::new()), Arc::new(FakeAgents::new()));
    let clock = Arc::new(VirtualClock::new());
    let w1 = Host { id: w1(), address: "w1:1".into(), pin: Pin::CaOnly };
    let built = Runner::builder(store.clone(), witness.engine(engine.clone()))
        .swarm(witness.agents(agents.clone()), Arc::new(StaticHosts::new([w1])))
        .clock(clock.clone())
        .strategies(strategies)
        .build()
        .unwrap();
    let (runner, _) = block_on(built.recover()).unwrap();
    Master { runner, engine, agents, clock, store, witness }
}

impl Master {
    /// Deploys, and gives the rows in the order of the deckies.
    fn deploy(&self, fleet: FleetConfig) -> Vec<Record> {
        let accepted = block_on(self.runner.accept_deploy(DeployRequest::new(fleet))).unwrap();
        let ids: Vec<_> = accepted.ids().values().copied().collect();
        let mut run = Box::pin(accepted.run());
        // Time passes for whoever waits for it.
        while block_on(futures_lite::future::poll_once(&mut run)).is_none() {
            self.clock.advance(Duration::from_secs(60));
        }
        let mut rows = block_on(self.runner.get(&ids)).unwrap();
        rows.sort_by(|a, b| a.decky.cmp(&b.decky));
        let mut invariants = Invariants::new().with_witness(self.witness.clone());
        block_on(invariants.check(&*self.store)).unwrap();
        assert_eq!(self.runner.counters().active, 0);
        rows
    }
}

fn scripts() -> impl proptest::strategy::Strategy<Value = Vec<EngineScript>> {
    let failure = Failure::new(FailureKind::Engine, "no such image");
    let one = prop_oneof![
        4 => Just(EngineScript::Succeed),
        1 => Just(EngineScript::Fail(failure.clone())),
        1 => Just(EngineScript::FailAll(failure)),
        1 => Just(EngineScript::Delay(Duration::from_secs(5))),
        1 => Just(EngineScript::Hang),
        1 => Just(EngineScript::Panic),
        1 => Just(EngineScript::Forget),
    ];
    proptest::collection::vec(one, 1..6)
}

proptest! {
    /// The first goes alone; the others go, all in one call, only after it came
    /// up; every row ends.
    #[test]
    fn a_canary_goes_first_and_the_others_follow_it(scripts in scripts()) {
        let master = master(Strategies::default().with(Operation::Deploy, Place::Local, Canary));
        for (place, script) in scripts.iter().enumerate() {
            master.engine.script(&name(place as u8), script.clone());
        }
        let rows = master.deploy(fleet(scripts.len() as u8, None));
        prop_assert!(rows.iter().all(|row| !row.is_open()));
        let calls: Vec<BTreeSet<DeckyName>> =
            master.engine.calls().iter().map(|call| call.deckies.keys().cloned().collect()).collect();
        prop_assert_eq!(&calls[0], &BTreeSet::from([name(0)]));
        let came_up = rows[0].status() == Status::Succeeded;
        prop_assert_eq!(calls.len(), 1 + usize::from(came_up && scripts.len() > 1));
        if !came_up {
            prop_assert!(rows.iter().all(|row| row.status() == Status::Failed));
            let why = |row: &Record| row.failure().map(ToString::to_string).unwrap_or_default();
            let told = rows[1..].iter().all(|row| why(row).contains("not begun: d0, which went first"));
            prop_assert!(told, "{:?}", rows);
        }
    }
}

/// Does what it is told to, wrongly.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Careless {
    Forgets,
    StartsAndForgets,
    ForgetsAtAHost,
    Panics,
    /// By what the engine said of other rows.
    EndsByOthers,
    /// By what the agent said of other rows.
    SettlesByOthers,
    CallsForSomethingElse,
    CallsAHostForSomethingElse,
}

impl Careless {
    fn is_at_a_host(self) -> bool {
        use Careless::*;
        matches!(self, ForgetsAtAHost | SettlesByOthers | CallsAHostForSomethingElse)
    }
}

#[async_trait]
impl Strategy for Careless {
    async fn run(&self, cx: &Context, rows: Rows<Pending>) {
        match self {
            Self::Forgets => drop(rows),
            Self::StartsAndForgets => drop(cx.start(rows).await),
            Self::ForgetsAtAHost => drop(cx.start_on(w1(), rows).await),
            Self::Panics => std::panic::resume_unwind(Box::new("careless")),
            Self::EndsByOthers => {
                let none = cx.start(Rows::new()).await;
                let evidence = cx.deploy(&none).await;
                drop(none);
                let started = cx.start(rows).await;
                let ended = cx.end(started, evidence).await;
                assert!(!ended.all_succeeded() && ended.failed.len() == 2 && ended.others.is_empty());
            }
            Self::SettlesByOthers => {
                let none = cx.start_on(w1(), Rows::new()).await;
                let dispatched = cx.dispatch(&none, Call::Teardown).await;
                drop(none);
                let started = cx.start_on(w1(), rows).await;
                assert_eq!(cx.settle(started, dispatched).await.failed.len(), 2);
            }
            Self::CallsForSomethingElse => {
                let started = cx.start(rows).await;
                let evidence = cx.teardown(&started).await;
                assert_eq!(cx.end(started, evidence).await.failed.len(), 2);
            }
            Self::CallsAHostForSomethingElse => {
                let started = cx.start_on(w1(), rows).await;
                let dispatched = cx.dispatch(&started, Call::TeardownAll).await;
                assert_eq!(cx.settle(started, dispatched).await.failed.len(), 2);
            }
        }
    }
}

#[test]
fn what_a_strategy_leaves_open_fails_when_it_returns() {
    for (careless, kind) in [
        (Careless::Forgets, FailureKind::Abandoned),
        (Careless::StartsAndForgets, FailureKind::Abandoned),
        (Careless::ForgetsAtAHost, FailureKind::Abandoned),
        (Careless::Panics, FailureKind::Panic),
        (Careless::EndsByOthers, FailureKind::Abandoned),
        (Careless::SettlesByOthers, FailureKind::Abandoned),
        (Careless::CallsForSomethingElse, FailureKind::Engine),
        (Careless::CallsAHostForSomethingElse, FailureKind::Engine),
    ] {
        let host = careless.is_at_a_host().then_some("w1");
        let place = if host.is_some() { Place::Swarm } else { Place::Local };
        let master = master(Strategies::default().with(Operation::Deploy, place, careless));
        let rows = master.deploy(fleet(2, host));
        let kinds: Vec<_> = rows.iter().map(|row| row.failure().map(Failure::kind)).collect();
        assert_eq!(kinds, [Some(kind); 2], "{careless:?}");
        assert!(master.engine.calls().is_empty() && master.agents.calls().is_empty(), "{careless:?}");
        // Nobody holds a turn any more.
        let free = self::master(Strategies::default());
        assert!(free.deploy(fleet(2, None)).iter().all(|row| row.status() == Status::Succeeded));
    }
}

/// Asks a host twice: what the first call said is not what ends the rows.
#[derive(Debug)]
struct Twice;

#[async_trait]
impl Strategy for Twice {
    async fn run(&self, cx: &Context, rows: Rows<Pending>) {
        let started = cx.start_on(w1(), rows).await;
        assert_eq!((started.host().as_str(), started.rows().len(), started.is_empty()), ("w1", 1, false));
        let mut dispatched = cx.dispatch(&started, Call::Deploy).await;
        if dispatched.failure().is_some() {
            cx.sleep(Duration::from_secs(60)).await;
            dispatched = cx.dispatch(&started, Call::Deploy).await;
        }
        cx.settle(started, dispatched).await;
    }
}

#[test]
fn a_strategy_may_call_a_host_again_and_its_heartbeat_ends_the_row() {
    let master = master(Strategies::default().with(Operation::Deploy, Place::Swarm, Twice));
    let w1 = w1();
    master
        .agents
        .script(&w1, [AgentScript::Fail(AgentError::Refused { reason: "busy".into() }), AgentScript::Accept]);
    let rows = master.deploy(fleet(1, Some("w1")));
    assert_eq!(rows[0].status(), Status::Running);
    assert_eq!(master.agents.calls().len(), 2);
    let delta = Delta {
        lifecycle_id: Some(rows[0].id),
        decky: name(0),
        operation: Operation::Deploy,
        report: Reported::Succeeded,
        completed_at: None,
    };
    block_on(master.runner.apply_deltas(&w1, &[delta])).unwrap();
    let row = block_on(master.runner.get(&[rows[0].id])).unwrap().remove(0);
    assert_eq!(row.status(), Status::Succeeded);
}

/// Takes deckies of a host down by one call of this kind, whatever they are.
#[derive(Debug)]
struct ByOne(Call);

#[async_trait]
impl Strategy for ByOne {
    async fn run(&self, cx: &Context, rows: Rows<Pending>) {
        let started = cx.start_on(w1(), rows).await;
        let dispatched = cx.dispatch(&started, self.0).await;
        cx.settle(started, dispatched).await;
    }
}

/// An agent's answer to a call about one decky is no word of another, and a call
/// for all that a host has takes nothing down that has no row.
#[test]
fn a_teardown_succeeds_only_by_a_call_that_is_of_its_decky_and_of_no_other() {
    for (call, which, why) in [
        (Call::Teardown, &[0, 1][..], "one call can teardown one decky, and its strategy has 2"),
        (Call::TeardownAll, &[0], "d1 is there too, and was not asked to go"),
    ] {
        let master = master(Strategies::default().with(Operation::Teardown, Place::Swarm, ByOne(call)));
        for row in master.deploy(fleet(2, Some("w1"))) {
            let delta = Delta {
                lifecycle_id: Some(row.id),
                decky: row.decky,
                operation: Operation::Deploy,
                report: Reported::Succeeded,
                completed_at: None,
            };
            block_on(master.runner.apply_deltas(&w1(), &[delta])).unwrap();
        }
        let calls = master.agents.calls().len();
        let request = TeardownRequest::new(which.iter().map(|place| name(*place)));
        let accepted = block_on(master.runner.accept_teardown(request)).unwrap();
        let ids: Vec<_> = accepted.ids().values().copied().collect();
        block_on(accepted.run());
        for row in block_on(master.runner.get(&ids)).unwrap() {
            assert_eq!(row.failure().map(Failure::message), Some(why), "{row:?}");
        }
        assert_eq!(master.agents.calls().len(), calls);
        assert_eq!(block_on(master.store.placements(&PlacementQuery::All)).unwrap().len(), 2);
    }
}
