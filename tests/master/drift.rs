//! What is placed against what runs: how a difference is told, and when it is
//! mended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::bus::{DriftEvent, DriftState};
use decnet_lifecycle::engine::Engine as _;
use decnet_lifecycle::lifecycle::Phase;
use decnet_lifecycle::runner::{Backoff, Healing, Health};
use decnet_lifecycle::store::{MemoryStore, Query};
use decnet_lifecycle::testkit::{EngineScript, FaultyStore, VirtualClock};
use decnet_lifecycle::{
    beat::{Beat, Delta, Reported},
    *,
};
use futures_lite::future::{block_on, poll_once};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::world::{World, fleet, host, name, services};

const MINUTE: Duration = Duration::from_secs(60);

fn service(text: &str) -> ServiceName {
    services(&[text]).remove(0)
}

/// The failure after which nobody is sure of a decky.
fn lost() -> EngineScript {
    EngineScript::Fail(Failure::new(FailureKind::Deadline, "no word"))
}

impl World {
    fn drifts(&self) -> BTreeMap<String, String> {
        let drifts = block_on(self.runner.drift()).unwrap();
        drifts.into_iter().map(|drift| (drift.decky.to_string(), drift.what)).collect()
    }

    /// One round of bringing back, driven to its end: the deckies, and why.
    fn healed(&self) -> BTreeMap<String, Option<Healing>> {
        let mut healed = BTreeMap::new();
        for accepted in block_on(self.runner.heal(Backoff::default())).unwrap() {
            let ids: Vec<LifecycleId> = accepted.ids().values().copied().collect();
            self.drive(accepted.run());
            for row in self.rows(&ids) {
                assert_eq!(row.operation, Operation::Deploy);
                healed.insert(row.decky.to_string(), row.key.as_ref().and_then(Healing::of));
            }
        }
        healed
    }

    fn health(&self, decky: &str) -> Health {
        let all = block_on(self.runner.deckies()).unwrap();
        all.iter().find(|status| status.decky == name(decky)).unwrap().health()
    }

    fn newest(&self, decky: &DeckyName) -> Option<Record> {
        block_on(self.runner.list(&Query::new().decky(decky.clone()).limit(1))).unwrap().records.pop()
    }
}

#[test]
fn drift_is_told_as_it_begins_changes_and_ends_and_not_in_between() {
    let world = World::new();
    let heard = world.bus.subscribe_drift();
    let next = || heard.try_next().map(|event: DriftEvent| (event.topic(), event.state, event.what));
    world.deployed(fleet(&["", ""]));
    assert!(world.drifts().is_empty());
    world.engine.kill(&name("a"), &service("ssh"));
    for _ in 0..2 {
        assert_eq!(world.drifts(), [("a".into(), "1/2 (ssh dead)".into())].into());
    }
    let drifted = |what: &str| Some(("decky.a.drift".to_owned(), DriftState::Drifted, what.to_owned()));
    assert_eq!(next(), drifted("1/2 (ssh dead)"));
    assert_eq!(next(), None, "the same is told once");
    world.engine.lose(&name("a"));
    world.drifts();
    assert_eq!(next(), drifted("0/2 (ssh not there, http not there)"));
    let counters = world.runner.counters();
    assert_eq!((counters.drifted, counters.drifts, counters.heals), (1, 1, 0));
    let since = block_on(world.runner.drift()).unwrap()[0].since;
    let shown = block_on(world.runner.deckies()).unwrap()[0].to_string();
    assert_eq!(shown, format!("0/2 (ssh not there, http not there), drifted since {since}"));

    world.deployed(fleet(&["", ""]));
    assert!(world.drifts().is_empty());
    assert_eq!(next(), Some(("decky.a.drift".to_owned(), DriftState::Mended, "2/2".to_owned())));
    world.engine.plant(&name("pbx"), services(&["ssh"]));
    assert_eq!(world.drifts(), [("pbx".into(), "not placed by this master".into())].into());
    assert_eq!(next().unwrap().1, DriftState::Stranger);
    world.torn_down(TeardownRequest::new([name("pbx"), name("a")]));
    assert!(world.drifts().is_empty());
    assert_eq!(next(), None, "who is gone has not mended");
}

#[test]
fn what_an_open_row_is_at_work_on_has_not_drifted() {
    let world = World::new();
    world.deployed(fleet(&["", ""]));
    world.engine.lose(&name("a"));
    world.engine.script(&name("a"), EngineScript::HangStubbornly);
    let accepted = block_on(world.runner.accept_teardown(TeardownRequest::new([name("a")]))).unwrap();
    let mut work = std::pin::pin!(accepted.run());
    for _ in 0..3 {
        assert!(block_on(poll_once(&mut work)).is_none());
        assert!(world.drifts().is_empty());
        assert!(world.healed().is_empty());
    }
}

#[test]
fn what_has_drifted_is_brought_back_by_rows_that_say_why() {
    let world = World::new();
    let placed = fleet(&["", "", ""]);
    world.deployed(placed.clone());
    let before = world.placements();
    world.engine.kill(&name("a"), &service("ssh"));
    world.engine.lose(&name("b"));
    let healed = world.healed();
    let why =
        |healing: &Option<Healing>| healing.as_ref().map(|healing| (healing.tries, healing.why.clone()));
    assert_eq!(healed.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(why(&healed["a"]), Some((1, "ssh dead".into())));
    assert_eq!(why(&healed["b"]), Some((1, "nothing of it runs".into())));
    assert!(world.drifts().is_empty());
    for (then, now) in before.iter().zip(world.placements()) {
        let aim = |placement: &decnet_lifecycle::placement::Placement| placement.now().cloned();
        assert_eq!(aim(then), aim(&now), "it is placed as before");
    }
    let row = world.newest(&name("b")).unwrap();
    let told = block_on(world.runner.explain(row.id)).unwrap().unwrap().to_string();
    assert!(told.ends_with("; it brings back what had drifted: nothing of it runs (try 1)"), "{told}");
    assert_eq!(world.runner.counters().heals, 2);
}

#[test]
fn a_decky_that_keeps_dying_is_brought_back_ever_more_seldom_also_by_the_next_master() {
    let mut world = World::new();
    world.deployed(fleet(&[""]));
    let mut tries = Vec::new();
    for minute in 0..130 {
        world.engine.lose(&name("a"));
        tries.extend(world.healed().remove("a").flatten().map(|healing| (minute, healing.tries)));
        if minute == 10 {
            let engine = Arc::clone(&world.engine);
            world = world.restarted();
            // The same machine.
            for (decky, runtime) in block_on(engine.found()).unwrap() {
                world.engine.plant(&decky, runtime.services.keys().map(|text| service(text)));
            }
        }
        world.clock.advance(MINUTE);
    }
    let minutes = [(0, 1), (1, 2), (3, 3), (7, 4), (15, 5), (31, 6), (61, 7), (91, 8), (121, 9)];
    assert_eq!(tries, minutes);
    // One that has run for long is as new.
    world.clock.advance(MINUTE * 61);
    world.engine.lose(&name("a"));
    assert_eq!(world.healed()["a"].as_ref().unwrap().tries, 1);
}

#[test]
fn a_decky_that_cant_be_brought_back_is_tried_by_the_same_measure() {
    let world = World::new();
    world.deployed(fleet(&["", ""]));
    let failure = Failure::new(FailureKind::Engine, "no such image");
    world.engine.script(&name("a"), EngineScript::Fail(failure));
    let mut tries = Vec::new();
    for minute in 0..20 {
        world.engine.lose(&name("a"));
        tries.extend(world.healed().remove("a").flatten().map(|healing| (minute, healing.tries)));
        world.clock.advance(MINUTE);
    }
    assert_eq!(tries, [(0, 1), (1, 2), (3, 3), (7, 4), (15, 5)]);
    assert_eq!(world.health("b"), Health::Up);
    // A person's request begins anew.
    world.engine.script(&name("a"), EngineScript::Succeed);
    world.deployed(fleet(&["", ""]));
    world.engine.lose(&name("a"));
    assert_eq!(world.healed()["a"].as_ref().unwrap().tries, 1);
}

#[test]
fn no_teardown_is_fought_and_a_cancelled_bringing_back_stays_cancelled() {
    let world = World::new();
    world.deployed(fleet(&["", "", ""]));
    // A teardown that failed, so that the decky is still placed.
    world.engine.script(&name("a"), EngineScript::Fail(Failure::new(FailureKind::Engine, "busy")));
    world.torn_down(TeardownRequest::new([name("a")]));
    // One of which nobody knows what it has left.
    world.engine.script(&name("b"), lost());
    world.torn_down(TeardownRequest::new([name("b")]));
    assert!(world.is_unsure("b"));
    for decky in ["a", "b", "c"] {
        world.engine.lose(&name(decky));
    }
    // One whose bringing back somebody stops.
    world.engine.script(&name("c"), EngineScript::Hang);
    let accepted = block_on(world.runner.heal(Backoff::default())).unwrap().remove(0);
    let id = accepted.ids()[&name("c")];
    let mut work = std::pin::pin!(accepted.run());
    assert!(block_on(poll_once(&mut work)).is_none());
    block_on(world.runner.cancel(id)).unwrap();
    world.drive(work);
    assert!(matches!(world.row(id).phase, Phase::Failed { .. }));
    for decky in ["a", "b", "c"] {
        world.engine.script(&name(decky), EngineScript::Succeed);
    }
    world.clock.advance(MINUTE * 600);
    assert!(world.healed().is_empty());
    // Who asks for all of it to be brought back means the torn-down one, too.
    let restored = block_on(world.runner.restore()).unwrap();
    let ids: BTreeSet<DeckyName> =
        restored.accepted.iter().flat_map(|accepted| accepted.ids().keys().cloned()).collect();
    // Nobody is sure of what was stopped midway either.
    assert_eq!(ids, [name("a")].into());
    assert_eq!(restored.left.keys().collect::<Vec<_>>(), [&name("b"), &name("c")]);
    for accepted in restored.accepted {
        world.drive(accepted.run());
    }
    assert_eq!(world.health("a"), Health::Up);
    let restored = block_on(world.runner.restore()).unwrap();
    assert!(restored.accepted.is_empty() && restored.up == [name("a")].into());
}

/// Wherever a teardown comes between the look and the deploy, it wins.
#[test]
fn a_teardown_that_comes_while_it_is_looked_is_not_undone() {
    let mut caught_between = 0;
    for polls in 0..200 {
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let world = World::over(store.clone(), Arc::new(VirtualClock::new()));
        world.deployed(fleet(&[""]));
        world.engine.lose(&name("a"));
        store.wait(1);
        let mut heal = std::pin::pin!(world.runner.heal(Backoff::default()));
        let mut healed = None;
        for _ in 0..polls {
            healed = healed.or_else(|| block_on(poll_once(&mut heal)));
        }
        let is_over = healed.is_some();
        let down = TeardownRequest::new([name("a")]).overlap(Overlap::Supersede);
        let down = world.drive(world.runner.accept_teardown(down)).unwrap();
        let id = down.ids()[&name("a")];
        world.drive(down.run());
        let healed = healed.unwrap_or_else(|| world.drive(&mut heal)).unwrap();
        caught_between += usize::from(!is_over && healed.is_empty());
        for accepted in healed {
            world.drive(accepted.run());
        }
        store.wait(0);
        assert_eq!(world.newest(&name("a")).unwrap().id, id, "after {polls} polls it was brought back");
        assert!(world.placement("a").is_none());
        if is_over {
            break;
        }
    }
    assert!(caught_between > 0);
}

#[test]
fn an_unsure_decky_is_settled_only_by_evidence() {
    let world = World::new();
    world.deployed(fleet(&["", ""]));
    for decky in ["a", "b"] {
        world.engine.script(&name(decky), lost());
        world.mutated(decky, &["redis"]);
        world.engine.script(&name(decky), EngineScript::Succeed);
        assert!(world.is_unsure(decky));
    }
    // What runs of one is just what the mutate asked for; of the other, a part
    // of what was there before.
    world.engine.plant(&name("a"), services(&["redis"]));
    world.engine.plant(&name("b"), services(&["ssh"]));
    world.clock.advance(MINUTE * 2);
    let healed = world.healed();
    assert_eq!(healed.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(healed["a"].as_ref().unwrap().why, "nobody was sure of it and it runs");
    assert_eq!(world.up_with("a"), services(&["redis"]));
    assert!(world.is_unsure("b"));
}

#[test]
fn deckies_of_workers_are_brought_back_by_what_their_beats_say() {
    let world = World::new();
    let id = world.deployed(fleet(&["w1"]))[0];
    let beat = |runs: bool, delta: Option<Delta>| {
        let state = if runs { "running" } else { "dead" };
        let runtime =
            serde_json::json!({"a": {"running": runs, "services": {"ssh": state, "http": "running"}}});
        let status = serde_json::json!({"deployed": true, "deckies": [], "runtime": runtime});
        let text = serde_json::json!({"host_uuid": "w1", "agent_version": "1", "lifecycle": [], "status": status, "topology": {}});
        let mut beat = Beat::from_json(text.to_string().as_bytes()).unwrap();
        beat.deltas = delta.into_iter().map(Some).collect();
        beat
    };
    let done = Delta {
        lifecycle_id: Some(id),
        decky: name("a"),
        operation: Operation::Deploy,
        report: Reported::Succeeded,
        completed_at: None,
    };
    block_on(world.runner.take_beat(&host("w1"), &beat(true, Some(done)))).unwrap();
    assert!(world.drifts().is_empty() && world.healed().is_empty());
    block_on(world.runner.take_beat(&host("w1"), &beat(false, None))).unwrap();
    assert_eq!(world.drifts()["a"], "1/2 (ssh dead)");
    let healed = world.healed();
    assert_eq!(healed["a"].as_ref().unwrap().why, "ssh dead");
    assert_eq!(world.newest(&name("a")).unwrap().host, Some(host("w1")));
}

#[test]
fn the_watch_looks_each_minute_and_when_the_engine_tells() {
    let world = World::new();
    world.deployed(fleet(&[""]));
    let heard = world.bus.subscribe_drift();
    let mut watch = std::pin::pin!(world.runner.watch_drift(MINUTE, Some(Backoff::default())));
    let mut turn = || assert!(block_on(poll_once(&mut watch)).is_none());
    turn();
    assert!(heard.try_next().is_none());
    // The engine tells of a death; it is looked after a moment.
    world.engine.kill(&name("a"), &service("ssh"));
    turn();
    world.clock.advance(Duration::from_secs(2));
    turn();
    assert_eq!(heard.try_next().unwrap().state, DriftState::Drifted);
    turn();
    assert_eq!(world.health("a"), Health::Up, "it was brought back");
    // Twice as soon again is too soon; each minute it is looked.
    for _ in 0..2 {
        world.clock.advance(MINUTE);
        turn();
        turn();
    }
    assert_eq!(heard.try_next().unwrap().state, DriftState::Mended);
    assert_eq!(world.runner.counters().heals, 1);
}

/// What happens to a world of deckies, one thing at a time.
#[derive(Debug, Clone)]
enum Happens {
    Dies(usize, bool),
    IsLost(usize),
    TornDown(usize, Script),
    Mutated(usize, Script, bool),
    Deployed(usize, Script),
    Cancelled(usize),
    Passes(u64),
    Healed(Script),
    HealedBesideATeardown(usize),
    Restarts,
}

/// How the engine does with what is asked.
#[derive(Debug, Clone, Copy)]
enum Script {
    Well,
    Fails,
    Loses,
}

const DECKIES: [&str; 3] = ["a", "b", "c"];

fn script() -> impl Strategy<Value = Script> {
    prop_oneof![3 => Just(Script::Well), 1 => Just(Script::Fails), 1 => Just(Script::Loses)]
}

fn happens() -> impl Strategy<Value = Happens> {
    let decky = || 0..DECKIES.len();
    prop_oneof![
        2 => (decky(), any::<bool>()).prop_map(|(decky, first)| Happens::Dies(decky, first)),
        2 => decky().prop_map(Happens::IsLost),
        2 => (decky(), script()).prop_map(|(decky, script)| Happens::TornDown(decky, script)),
        2 => (decky(), script(), any::<bool>()).prop_map(|(decky, script, more)| Happens::Mutated(decky, script, more)),
        2 => (decky(), script()).prop_map(|(decky, script)| Happens::Deployed(decky, script)),
        1 => decky().prop_map(Happens::Cancelled),
        4 => (1_u64..4_000).prop_map(Happens::Passes),
        6 => script().prop_map(Happens::Healed),
        2 => decky().prop_map(Happens::HealedBesideATeardown),
        1 => Just(Happens::Restarts),
    ]
}

/// A world, and what its watcher must never see.
struct Watched {
    world: World,
    /// When each decky was last brought back, and how often in a row.
    tries: BTreeMap<DeckyName, (Timestamp, u32)>,
    cancelled: BTreeSet<LifecycleId>,
}

impl Watched {
    fn script(&self, script: Script) {
        for decky in DECKIES {
            self.world.engine.script(
                &name(decky),
                match script {
                    Script::Well => EngineScript::Succeed,
                    Script::Fails => EngineScript::Fail(Failure::new(FailureKind::Engine, "no such image")),
                    Script::Loses => lost(),
                },
            );
        }
    }

    /// One round of bringing back, each row of it held against what was there
    /// before.
    fn heal(&mut self, beside: impl FnOnce(&World)) -> Result<(), TestCaseError> {
        let newest = |world: &World| -> BTreeMap<DeckyName, Record> {
            DECKIES.iter().filter_map(|decky| Some((name(decky), world.newest(&name(decky))?))).collect()
        };
        let before = newest(&self.world);
        let backoff = Backoff::default();
        let accepted = block_on(self.world.runner.heal(backoff)).unwrap();
        let ids: Vec<LifecycleId> = accepted.iter().flat_map(|one| one.ids().values().copied()).collect();
        beside(&self.world);
        for one in accepted {
            self.world.drive(one.run());
        }
        for row in self.world.rows(&ids) {
            let last = &before[&row.decky];
            prop_assert!(last.operation != Operation::Teardown, "a teardown was fought: {last:?}");
            prop_assert!(!last.is_open(), "an open row was fought: {last:?}");
            prop_assert!(!self.cancelled.contains(&last.id), "a cancelled one was tried again");
            let healing = row.key.as_ref().and_then(Healing::of).unwrap();
            if let (Some((at, tries)), true) =
                (self.tries.get(&row.decky), last.key.as_ref().is_some_and(|key| Healing::of(key).is_some()))
            {
                let rested = row.created_at.since(*at);
                prop_assert!(rested >= backoff.after(*tries), "after try {tries} it rested {rested:?} only");
                prop_assert!(
                    healing.tries == tries + 1 || rested >= MINUTE * 60,
                    "{healing:?} after {tries}"
                );
            }
            self.tries.insert(row.decky.clone(), (row.completed_at().unwrap(), healing.tries));
        }
        Ok(())
    }

    fn step(&mut self, happens: &Happens) -> Result<(), TestCaseError> {
        let decky = |place: &usize| name(DECKIES[*place]);
        match happens {
            Happens::Dies(place, first) => {
                let runs = block_on(self.world.engine.found()).unwrap();
                let mut services = runs.get(&decky(place)).into_iter().flat_map(|seen| seen.services.keys());
                let dies = if *first { services.next() } else { services.last() };
                if let Some(dies) = dies {
                    self.world.engine.kill(&decky(place), &service(dies));
                }
            }
            Happens::IsLost(place) => self.world.engine.lose(&decky(place)),
            Happens::TornDown(place, script) => {
                self.script(*script);
                let request = TeardownRequest::new([decky(place)]);
                if let Ok(accepted) = block_on(self.world.runner.accept_teardown(request)) {
                    self.world.drive(accepted.run());
                }
            }
            Happens::Mutated(place, script, more) => {
                self.script(*script);
                let to: &[&str] = if *more { &["ssh", "http", "redis"] } else { &["redis"] };
                let request = MutateRequest::new(decky(place), services(to));
                if let Ok(accepted) = block_on(self.world.runner.accept_mutate(request)) {
                    self.world.drive(accepted.run());
                }
            }
            Happens::Deployed(place, script) => {
                self.script(*script);
                let request = DeployRequest::new(fleet(&["", "", ""])).only([decky(place)]);
                if let Ok(accepted) = block_on(self.world.runner.accept_deploy(request)) {
                    self.world.drive(accepted.run());
                }
            }
            Happens::Cancelled(place) => {
                self.world.engine.lose(&decky(place));
                self.world.engine.script(&decky(place), EngineScript::Hang);
                for accepted in block_on(self.world.runner.heal(Backoff::default())).unwrap() {
                    let ids: Vec<LifecycleId> = accepted.ids().values().copied().collect();
                    let cancelled = accepted.ids().get(&decky(place)).copied();
                    let mut work = std::pin::pin!(accepted.run());
                    let is_over = block_on(poll_once(&mut work)).is_some();
                    if let Some(id) = cancelled {
                        block_on(self.world.runner.cancel(id)).unwrap();
                        self.cancelled.insert(id);
                    }
                    if !is_over {
                        self.world.drive(work);
                    }
                    for row in self.world.rows(&ids) {
                        let tries = row.key.as_ref().and_then(Healing::of).unwrap().tries;
                        self.tries.insert(row.decky.clone(), (row.completed_at().unwrap(), tries));
                    }
                }
            }
            Happens::Passes(seconds) => self.world.clock.advance(Duration::from_secs(*seconds)),
            Happens::Healed(script) => {
                self.script(*script);
                self.heal(|_| {})?;
            }
            Happens::HealedBesideATeardown(place) => {
                self.script(Script::Well);
                let decky = decky(place);
                self.heal(|world| {
                    let request = TeardownRequest::new([decky]).overlap(Overlap::Supersede);
                    if let Ok(accepted) = block_on(world.runner.accept_teardown(request)) {
                        world.drive(accepted.run());
                    }
                })?;
            }
            Happens::Restarts => {
                let runs = block_on(self.world.engine.found()).unwrap();
                self.world = self.world.restarted();
                for (decky, seen) in runs {
                    self.world.engine.plant(&decky, seen.services.keys().map(|text| service(text)));
                    for (dead, _) in seen.services.iter().filter(|(_, state)| *state == "dead") {
                        self.world.engine.kill(&decky, &service(dead));
                    }
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn whatever_happens_heal_fights_nobody_keeps_its_measure_and_brings_all_back(
        story in prop::collection::vec(happens(), 1..60),
    ) {
        let world = World::new();
        world.deployed(fleet(&["", "", ""]));
        let mut watched = Watched { world, tries: BTreeMap::new(), cancelled: BTreeSet::new() };
        for happens in &story {
            watched.step(happens)?;
        }
        watched.script(Script::Well);
        for _ in 0..2 {
            watched.world.clock.advance(MINUTE * 30);
            watched.heal(|_| {})?;
        }
        for placement in watched.world.placements() {
            let decky = placement.decky.clone();
            let last = watched.world.newest(&decky).unwrap();
            let is_left = last.operation == Operation::Teardown
                || watched.cancelled.contains(&last.id)
                || watched.world.is_unsure(decky.as_str());
            let health = watched.world.health(decky.as_str());
            prop_assert!(is_left || health == Health::Up, "{decky} is {health:?}, last {last:?}");
        }
    }
}

fn config() -> ProptestConfig {
    let kept = FileFailurePersistence::Direct("proptest-regressions/drift.txt");
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(200),
        failure_persistence: Some(Box::new(kept)),
        ..ProptestConfig::default()
    }
}
