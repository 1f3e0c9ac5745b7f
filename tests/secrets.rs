//! A master and a worker that know secrets: in no row, feed, event, note, log
//! record or explanation of theirs does one stand, whoever says it.

mod shapes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Once, PoisonError};

use decnet_lifecycle::testkit::{AgentScript, EngineScript, FakeAgents, FakeEngine};
use decnet_lifecycle::{
    agent::{AgentError, Host, Pin, StaticHosts},
    beat::{Beat, Delta, Reported, Verdict},
    bus::{ChannelBus, Subscription},
    engine::Progress,
    lifecycle::Revision,
    store::{Feed, MemoryStore, Store},
    *,
};
use fastrand::Rng;
use futures_lite::future::block_on;
use serde_json::{Value, json};
use shapes::{ANY, HARMLESS, cases, leaks, secret, spellings, told};

/// Deckies of one fleet.
const DECKIES: usize = 50;

/// What was logged and noted, by this process.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn said() -> Vec<String> {
    std::mem::take(&mut *SAID.lock().unwrap_or_else(PoisonError::into_inner))
}

fn say(text: String) {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).push(text);
}

struct Ears;

struct Pairs<'s>(&'s mut String);

impl<'kvs> log::kv::VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(
        &mut self,
        key: log::kv::Key<'kvs>,
        value: log::kv::Value<'kvs>,
    ) -> Result<(), log::kv::Error> {
        self.0.push_str(&format!(" {key}={value}"));
        Ok(())
    }
}

impl log::Log for Ears {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut text = record.args().to_string();
        let _ = record.key_values().visit(&mut Pairs(&mut text));
        say(text);
    }

    fn flush(&self) {}
}

#[derive(Debug)]
struct Notes;

impl Progress for Notes {
    fn note(&self, _: &DeckyName, text: &str) {
        say(format!("note: {text}"));
    }
}

fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Ears).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

fn name(place: usize) -> DeckyName {
    DeckyName::parse(&format!("decky-{place:02}")).unwrap()
}

fn host() -> HostId {
    HostId::parse("w1").unwrap()
}

/// Each decky with its own secret, on the master or on the worker.
fn fleet(secrets: &[String], host: Option<&str>) -> FleetConfig {
    let decky = |(place, secret): (usize, &String)| {
        let settings = match place % 3 {
            0 => json!({"ssh": {"password": secret, "banner": "welcome"}}),
            1 => json!({"http": {"users": [{"name": "anna", "passwd": secret}]}}),
            _ => json!({"redis": {"credentials": {"admin": secret}}}),
        };
        json!({"name": name(place), "ip": format!("192.0.2.{}", 10 + place), "services": ["ssh"],
               "distro": "debian", "base_image": "debian:12", "hostname": "srv", "service_config": settings,
               "host_uuid": host})
    };
    let deckies: Vec<Value> = secrets.iter().enumerate().map(decky).collect();
    let fleet = json!({"mode": if host.is_some() { "swarm" } else { "unihost" }, "interface": "eth0",
                       "subnet": "192.0.2.0/24", "gateway": "192.0.2.1", "deckies": deckies});
    FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap()
}

struct World {
    runner: Runner,
    store: Arc<dyn Store>,
    engine: Arc<FakeEngine>,
    agents: Arc<FakeAgents>,
    events: Subscription,
}

impl World {
    fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new()))
    }

    fn over(store: Arc<dyn Store>) -> Self {
        listen();
        let (engine, agents) = (Arc::new(FakeEngine::new()), Arc::new(FakeAgents::new()));
        let bus = Arc::new(ChannelBus::new(10_000));
        let events = bus.subscribe();
        let w1 = Host { id: host(), address: "w1:8765".into(), pin: Pin::CaOnly };
        let runner = Runner::builder(Arc::clone(&store), engine.clone())
            .bus(bus)
            .swarm(agents.clone(), Arc::new(StaticHosts::new([w1])))
            .progress(Arc::new(Notes))
            .build()
            .unwrap();
        let (runner, _) = block_on(runner.recover()).unwrap();
        Self { runner, store, engine, agents, events }
    }

    fn deploy(&self, fleet: FleetConfig) -> BTreeMap<DeckyName, LifecycleId> {
        let accepted = block_on(self.runner.accept_deploy(DeployRequest::new(fleet))).unwrap();
        let ids = accepted.ids().clone();
        block_on(accepted.run());
        ids
    }

    /// Everything that can be learned of what was done.
    fn all(&self, ids: &BTreeMap<DeckyName, LifecycleId>) -> Vec<String> {
        let ids: Vec<LifecycleId> = ids.values().copied().collect();
        let mut all = said();
        for row in block_on(self.runner.get(&ids)).unwrap() {
            all.push(format!("{row:?}"));
            all.push(format!("{:?}", block_on(self.runner.history(row.id)).unwrap()));
            all.push(block_on(self.runner.explain(row.id)).unwrap().unwrap().to_string());
        }
        let Feed::Entries { entries, .. } = block_on(self.store.changes(Revision::ZERO, 100_000)).unwrap()
        else {
            panic!("compacted");
        };
        all.extend(entries.iter().map(|entry| format!("{entry:?}")));
        while let Some(event) = self.events.try_next() {
            all.push(format!("{event:?}"));
        }
        for decky in block_on(self.runner.deckies()).unwrap() {
            all.push(format!("{decky} {:?}", decky.last));
        }
        all
    }
}

/// Secrets, and messages that hold them.
fn planted(random: &mut Rng, count: usize) -> Vec<(String, String)> {
    let one = |_| {
        if random.bool() {
            let (message, secret) = told(random);
            return (secret, message);
        }
        let secret = secret(random, ANY);
        let mut all = spellings(random, &secret);
        // In lowercase it is another secret.
        all.remove(9);
        let place = random.usize(..all.len());
        (secret, all.remove(place))
    };
    (0..count).map(one).collect()
}

fn check(leaked: &mut Vec<String>, all: &[String], planted: &[(String, String)]) {
    for (secret, message) in planted {
        let told = all.iter().find(|text| leaks(text, secret));
        leaked.extend(told.map(|text| format!("{secret}\n  in {message}\n  as {text}")));
    }
}

fn none(leaked: &[String]) {
    assert!(leaked.is_empty(), "{} leaked:\n{}", leaked.len(), leaked[..leaked.len().min(8)].join("\n"));
}

/// One test at a time listens.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn what_an_engine_says_tells_no_secret_that_its_master_knows() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut random, mut leaked, mut notes) = (Rng::with_seed(1401), Vec::new(), 0);
    for _ in 0..cases().div_ceil(DECKIES as u64) {
        let planted = planted(&mut random, DECKIES);
        let world = World::new();
        for (place, (_, message)) in planted.iter().enumerate() {
            world.engine.script(&name(place), EngineScript::Say(message.clone()));
        }
        let secrets: Vec<String> = planted.iter().map(|(secret, _)| secret.clone()).collect();
        let ids = world.deploy(fleet(&secrets, None));
        let all = world.all(&ids);
        notes += all.iter().filter(|text| text.starts_with("note: ")).count();
        check(&mut leaked, &all, &planted);
    }
    none(&leaked);
    assert!(notes as u64 >= cases(), "{notes}");
}

#[test]
fn nor_does_what_agents_and_workers_say() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut random, mut leaked) = (Rng::with_seed(1402), Vec::new());
    for round in 0..cases().div_ceil(10 * DECKIES as u64).max(2) {
        let planted = planted(&mut random, DECKIES);
        let secrets: Vec<String> = planted.iter().map(|(secret, _)| secret.clone()).collect();
        let mut world = World::new();
        let ids = world.deploy(fleet(&secrets, Some("w1")));
        if round % 2 == 1 {
            // Another start of the master knows what is placed.
            world = World::over(Arc::clone(&world.store));
        }
        let runtime = |(place, (_, message)): (usize, &(String, String))| {
            (name(place).to_string(), json!({"running": false, "services": {"ssh": message}}))
        };
        let runtime: serde_json::Map<String, Value> = planted.iter().enumerate().map(runtime).collect();
        let beat = json!({"host_uuid": "w1", "agent_version": "1", "lifecycle": [],
                          "status": {"deployed": true, "deckies": [], "runtime": runtime}});
        let beat = Beat::from_json(beat.to_string().as_bytes()).unwrap();
        block_on(world.runner.take_beat(&host(), &beat)).unwrap();
        check(&mut leaked, &world.all(&ids), &planted);
        let deltas: Vec<Delta> = planted
            .iter()
            .enumerate()
            .map(|(place, (_, message))| Delta {
                lifecycle_id: Some(ids[&name(place)]),
                decky: name(place),
                operation: Operation::Deploy,
                report: Reported::Failed(message.clone()),
                completed_at: None,
            })
            .collect();
        let verdicts = block_on(world.runner.apply_deltas(&host(), &deltas)).unwrap();
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Applied));
        check(&mut leaked, &world.all(&ids), &planted);
        // And as an agent's refusal.
        for (_, message) in planted.iter().take(5) {
            let refused = AgentError::Refused { reason: message.clone() };
            world.agents.script(&host(), [AgentScript::Fail(refused)]);
            let ids = world.deploy(fleet(&secrets, Some("w1")));
            check(&mut leaked, &world.all(&ids), &planted[..5]);
        }
    }
    none(&leaked);
}

#[test]
fn harmless_words_stay_readable_beside_secrets() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let world = World::new();
    let secrets: Vec<String> =
        ["toor", "hunter2", "correct horse battery staple", "Gr33n+Mango!x"].map(str::to_owned).into();
    let all: Vec<String> = secrets.iter().cycle().take(HARMLESS.len()).cloned().collect();
    for (place, text) in HARMLESS.iter().enumerate() {
        world.engine.script(&name(place), EngineScript::Say((*text).to_owned()));
    }
    let ids = world.deploy(fleet(&all, None));
    for (place, text) in HARMLESS.iter().enumerate() {
        let row = block_on(world.runner.get(&[ids[&name(place)]])).unwrap().remove(0);
        assert_eq!(row.failure().unwrap().message(), *text);
    }
    let notes = said();
    for text in HARMLESS {
        assert!(notes.contains(&format!("note: {text}")), "{text}");
    }
}
