//! What is placed where: what a deploy may change of it, and what each end of
//! a row leaves of it. One test for each harm that a file beside the store has
//! done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use decnet_lifecycle::placement::PlanStep;
use decnet_lifecycle::testkit::{AgentCall, AgentScript, EngineScript, FakeEngine};
use decnet_lifecycle::{
    agent::AgentError,
    beat::{Beat, Delta, Reported, Verdict},
    engine::{Engine, Report, Work},
    fleet::Mode,
    lifecycle::EngineName,
    placement::{Clash, Standing},
    runner::Health,
    *,
};
use futures_lite::future::{block_on, poll_once};

use crate::world::{World, fleet, host, name, services};

type Changes<'c> = &'c [(&'c str, serde_json::Value)];

/// The fleet of these hosts, changed at these JSON pointers.
fn changed(hosts: &[&str], changes: Changes<'_>) -> FleetConfig {
    let mut json: serde_json::Value = serde_json::from_str(&fleet(hosts).to_json()).unwrap();
    for (pointer, value) in changes {
        *json.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value.clone();
    }
    FleetConfig::from_json(json.to_string().as_bytes()).unwrap()
}

/// The same fleet, its `place`th decky under another name.
fn renamed(hosts: &[&str], place: usize, to: &str) -> FleetConfig {
    changed(hosts, &[(&format!("/deckies/{place}/name"), to.into())])
}

impl World {
    fn clashes(&self, request: DeployRequest) -> Vec<Clash> {
        let planned = block_on(self.runner.plan(&request)).unwrap().clashes;
        let fed = self.feed().len();
        match block_on(self.runner.accept_deploy(request)) {
            Err(AcceptError::Clash(clashes)) => {
                assert_eq!(clashes, planned, "a plan says what the deploy does");
                assert_eq!(self.feed().len(), fed, "something was written");
                clashes
            }
            other => panic!("it was not refused: {other:?}"),
        }
    }

    /// A deploy to where the master's part is done: first, then the others.
    fn request(&self, request: DeployRequest) -> (Vec<LifecycleId>, Vec<LifecycleId>) {
        let accepted = block_on(self.runner.accept_deploy(request)).unwrap();
        let first = accepted.first().values().copied().collect();
        let ids = accepted.ids().values().copied().collect();
        self.drive(accepted.run());
        (first, ids)
    }

    /// Every decky of the fleet up on evidence, the workers' by their word.
    fn up(&self, fleet: FleetConfig) {
        let ids = self.deployed(fleet);
        self.say(&ids, Reported::Succeeded);
    }

    /// The workers' word on those of the rows that run.
    fn say(&self, ids: &[LifecycleId], report: Reported) {
        for row in self.rows(ids).into_iter().filter(Record::is_open) {
            let delta = Delta {
                lifecycle_id: Some(row.id),
                decky: row.decky,
                operation: row.operation,
                report: report.clone(),
                completed_at: None,
            };
            let verdicts = block_on(self.runner.apply_deltas(&row.host.unwrap(), &[delta])).unwrap();
            assert_eq!(verdicts, [Verdict::Applied]);
        }
    }

    fn homes(&self) -> BTreeMap<String, String> {
        let all = self.placements().into_iter();
        all.filter_map(|known| Some((known.decky.to_string(), known.now()?.home.to_string()))).collect()
    }

    /// What each shard that was sent to a host held: decky and services.
    fn shards(&self, at: &str) -> Vec<BTreeMap<String, Vec<ServiceName>>> {
        let all = self.agents.calls().into_iter();
        all.filter_map(|call| match call {
            AgentCall::Deploy(to, call) if to == host(at) => {
                Some(call.config.deckies.iter().map(|d| (d.name.to_string(), d.services.clone())).collect())
            }
            _ => None,
        })
        .collect()
    }

    fn teardowns(&self) -> Vec<(HostId, Option<DeckyName>, usize)> {
        let all = self.agents.calls().into_iter();
        all.filter_map(|call| match call {
            AgentCall::Teardown(to, call) => Some((to, call.decky, call.lifecycle_ids.len())),
            _ => None,
        })
        .collect()
    }
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_decky_renamed_with_its_address_kept_is_refused_and_both_can_be_managed() {
    for hosts in [["", ""], ["w1", "w1"]] {
        let world = World::new();
        world.up(fleet(&hosts));
        let clashes = world.clashes(DeployRequest::new(renamed(&hosts, 1, "pbx")));
        let [Clash::Address { decky, ip, holder }] = &clashes[..] else { panic!("{clashes:?}") };
        assert_eq!((decky, ip.to_string(), holder), (&name("pbx"), "192.0.2.11".into(), &name("b")));
        assert!(clashes[0].to_string().contains("192.0.2.11 is b's"), "{}", clashes[0]);
        // All that is there can be managed as before.
        let id = world.mutated("b", &["ftp"]);
        world.say(&[id], Reported::Succeeded);
        assert_eq!(world.up_with("b"), services(&["ftp"]));
        let down = world.torn_down(TeardownRequest::all());
        assert_eq!(world.told(&down), ["succeeded"; 2]);
        assert!(world.placements().is_empty());
    }
}

#[test]
fn with_prune_a_renamed_decky_takes_over_the_address() {
    for hosts in [["", ""], ["w1", "w1"]] {
        let world = World::new();
        world.up(fleet(&hosts));
        let request = DeployRequest::new(renamed(&hosts, 1, "pbx")).prune(true);
        let plan = block_on(world.runner.plan(&request)).unwrap();
        assert!(plan.clashes.is_empty(), "{plan}");
        assert!(matches!(&plan.steps[1], PlanStep::Remove { decky, .. } if *decky == name("b")), "{plan}");
        let (first, ids) = world.request(request);
        assert_eq!(world.told(&first), ["succeeded"]);
        assert_eq!(world.row(first[0]).operation, Operation::Teardown);
        world.say(&ids, Reported::Succeeded);
        assert_eq!(world.told(&ids), ["succeeded"; 2]);
        assert_eq!(world.homes().into_keys().collect::<Vec<_>>(), ["a", "pbx"]);
    }
}

#[test]
fn a_deploy_whose_room_was_not_made_fails_as_a_clash_and_loses_nothing() {
    let no = || Failure::new(FailureKind::Engine, "it does not go");
    let world = World::new();
    world.up(fleet(&["", ""]));
    world.engine.script(&name("b"), EngineScript::Fail(no()));
    let (first, ids) = world.request(DeployRequest::new(renamed(&["", ""], 1, "pbx")).prune(true));
    assert_eq!(world.told(&first), ["Engine: it does not go"]);
    let told = world.told(&ids);
    assert_eq!(told[0], "succeeded");
    assert!(told[1].starts_with("Clash: 192.0.2.11 is still b's"), "{told:?}");
    assert_eq!(world.homes().into_keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(world.up_with("b"), services(&["ssh", "http"]));
    // A move whose teardown's fate is unknown: it may still be there.
    let world = World::new();
    world.up(fleet(&["w1"]));
    let lost = AgentError::Unconfirmed { reason: "reset".into() };
    world.agents.script(&host("w1"), [AgentScript::Fail(lost.clone()), AgentScript::Fail(lost)]);
    world.agents.script(&host("w1"), [AgentScript::Accept]);
    let accepted =
        block_on(world.runner.accept_deploy(DeployRequest::new(fleet(&["w2"])).relocate(true))).unwrap();
    let (first, ids) = (accepted.first()[&name("a")], accepted.ids()[&name("a")]);
    world.drive(accepted.run());
    // The worker names rows: its word on the teardown is waited for, and the
    // deploy is not begun meanwhile.
    assert_eq!(world.told(&[first]), ["running"]);
    assert!(
        world.told(&[ids])[0].starts_with("Clash: it was not taken down on w1"),
        "{:?}",
        world.told(&[ids])
    );
    assert!(world.shards("w2").is_empty());
    assert_eq!(world.homes()["a"], "w1");
    world.say(&[first], Reported::Succeeded);
    assert!(world.placements().is_empty());
}

#[test]
fn another_subnet_or_gateway_is_refused_while_deckies_stay_in_the_one_there_is() {
    for hosts in [["", ""], ["w1", "w1"]] {
        let world = World::new();
        world.up(fleet(&hosts));
        for changes in [
            [("/gateway", "192.0.2.254".into()), ("/deckies/1/ip", "192.0.2.99".into())],
            [("/subnet", "192.0.2.0/25".into()), ("/deckies/1/ip", "192.0.2.99".into())],
            [("/interface", "eth1".into()), ("/deckies/1/ip", "192.0.2.99".into())],
        ] {
            let other = changed(&hosts, &changes);
            let clashes = world.clashes(DeployRequest::new(other.clone()).only([name("b")]));
            let [Clash::Network { decky, stays, .. }] = &clashes[..] else { panic!("{clashes:?}") };
            assert_eq!((decky, stays), (&name("b"), &name("a")));
            // All of them at once is how a network changes.
            let accepted = block_on(world.runner.accept_deploy(DeployRequest::new(other))).unwrap();
            let ids: Vec<_> = accepted.ids().values().copied().collect();
            world.drive(accepted.run());
            world.say(&ids, Reported::Succeeded);
            assert_eq!(world.told(&ids), ["succeeded"; 2]);
            world.up(fleet(&hosts));
        }
        let down = world.torn_down(TeardownRequest::all());
        assert_eq!(world.told(&down), ["succeeded"; 2]);
    }
}

/// The gateway of a second file is an address that a decky has that stays.
#[test]
fn all_that_stands_in_the_way_is_told_at_once() {
    let world = World::new();
    world.up(fleet(&["", "", "w1"]));
    let hosts = ["", "", "w2"];
    // The rest of the network stays as it is, and so do two who are in it.
    let other = changed(&hosts, &[("/deckies/1/name", "pbx".into()), ("/gateway", "192.0.2.200".into())]);
    let clashes = world.clashes(DeployRequest::new(other));
    let kinds: Vec<&str> = clashes
        .iter()
        .map(|clash| match clash {
            Clash::Address { .. } => "address",
            Clash::Network { .. } => "network",
            Clash::Elsewhere { .. } => "elsewhere",
            _ => "other",
        })
        .collect();
    for kind in ["address", "network", "elsewhere"] {
        assert!(kinds.contains(&kind), "{clashes:?}");
    }
}

#[test]
fn a_unihost_deploy_after_a_swarm_deploy_leaves_workers_deckies_theirs() {
    let world = World::new();
    world.up(fleet(&["w1"]));
    let near = changed(&[""], &[("/deckies/0/name", "near".into()), ("/deckies/0/ip", "192.0.2.77".into())]);
    assert_eq!(near.mode, Mode::Unihost);
    world.up(near);
    assert_eq!(world.homes()["a"], "w1");
    let engine_calls = world.engine.calls().len();
    let id = world.mutated("a", &["ftp"]);
    let Some(AgentCall::Mutate(to, _)) = world.agents.calls().pop() else { panic!("not to the worker") };
    assert_eq!((to, world.told(&[id])), (host("w1"), strings(&["running"])));
    world.say(&[id], Reported::Succeeded);
    world.torn_down(TeardownRequest::new([name("a")]));
    assert_eq!(world.teardowns(), [(host("w1"), None, 1)]);
    assert_eq!(world.engine.calls().len(), engine_calls);
    assert_eq!(world.homes().into_keys().collect::<Vec<_>>(), ["near"]);
}

#[test]
fn a_move_is_refused_unless_asked_for_and_then_the_old_place_goes_first() {
    for (from, to) in [("w1", "w2"), ("w1", ""), ("", "w1")] {
        let world = World::new();
        world.up(fleet(&[from]));
        let moved = || DeployRequest::new(fleet(&[to]));
        let clashes = world.clashes(moved());
        assert!(matches!(&clashes[..], [Clash::Elsewhere { .. }]), "{clashes:?}");
        let plan = block_on(world.runner.plan(&moved().relocate(true))).unwrap();
        assert!(matches!(&plan.steps[..], [PlanStep::Move { .. }]), "{plan}");
        let (first, ids) = world.request(moved().relocate(true));
        let (down, up) = (world.row(first[0]), world.row(ids[0]));
        assert_eq!((down.operation, down.status()), (Operation::Teardown, Status::Succeeded));
        assert!(down.id < up.id && down.revision < up.revision);
        assert_eq!(down.host, (!from.is_empty()).then(|| host(from)));
        assert_eq!(up.host, (!to.is_empty()).then(|| host(to)));
        world.say(&ids, Reported::Succeeded);
        assert_eq!(world.told(&ids), ["succeeded"]);
        assert_eq!(world.homes()["a"], if to.is_empty() { "master" } else { to });
        // Nothing is left behind.
        let found = block_on(world.engine.found()).unwrap();
        assert_eq!(found.contains_key(&name("a")), to.is_empty());
    }
}

#[test]
fn deckies_that_a_file_no_longer_names_are_told_and_stay() {
    let world = World::new();
    world.up(fleet(&["", "w1", ""]));
    let request = DeployRequest::new(fleet(&[""]));
    let plan = block_on(world.runner.plan(&request)).unwrap();
    assert_eq!(
        plan.unnamed.iter().map(|(decky, _)| decky.clone()).collect::<Vec<_>>(),
        [name("b"), name("c")]
    );
    assert!(plan.to_string().contains("b runs on w1 and this fleet does not name it"), "{plan}");
    assert!(plan.changes_nothing());
    let (first, _) = world.request(request);
    assert!(first.is_empty());
    assert_eq!(world.placements().len(), 3);
    // `only` is about some of what the file names; what it leaves out of those
    // is named all the same.
    let plan =
        block_on(world.runner.plan(&DeployRequest::new(fleet(&["", "w1", ""])).only([name("a")]))).unwrap();
    assert!(plan.unnamed.is_empty(), "{plan}");
    let (first, _) = world.request(DeployRequest::new(fleet(&[""])).prune(true));
    assert_eq!(world.told(&first), ["succeeded"; 2]);
    assert_eq!(world.homes().into_keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn a_decky_whose_deploy_failed_can_be_taken_down() {
    let world = World::new();
    world.engine.script(&name("a"), EngineScript::Fail(Failure::new(FailureKind::Engine, "no")));
    world.agents.script(&host("w1"), [AgentScript::Fail(AgentError::Refused { reason: "no".into() })]);
    let ids = world.deployed(fleet(&["", "w1"]));
    assert_eq!(world.rows(&ids).iter().filter(|row| row.status() == Status::Failed).count(), 2);
    assert!(world.placements().is_empty(), "a definite failure leaves what was before");
    // What has failed may have left something that nobody can see.
    world.engine.script(&name("a"), EngineScript::Succeed);
    let down = world.torn_down(TeardownRequest::new([name("a"), name("b")]));
    assert_eq!(world.told(&down), ["succeeded"; 2]);
    assert_eq!(world.teardowns(), [(host("w1"), Some(name("b")), 1)]);
    // Once that is done there is nothing left to take down.
    let again = block_on(world.runner.accept_teardown(TeardownRequest::new([name("a")])));
    assert!(matches!(again, Err(AcceptError::UnknownDecky { .. })), "{again:?}");
}

#[test]
fn a_shard_holds_all_of_its_host_s_deckies_as_the_host_was_told() {
    let world = World::new();
    world.up(fleet(&["w1", "w1", "w2"]));
    let id = world.mutated("a", &["ftp"]);
    world.say(&[id], Reported::Succeeded);
    // A second file, with another decky on the host.
    let other = changed(&["w1"], &[("/deckies/0/name", "zz".into()), ("/deckies/0/ip", "192.0.2.99".into())]);
    world.up(other);
    let default = || services(&["ssh", "http"]);
    let wanted = [("a", services(&["ftp"])), ("b", default()), ("zz", default())];
    let last = world.shards("w1").pop().unwrap();
    assert_eq!(last, wanted.map(|(decky, services)| (decky.to_owned(), services)).into());
    // Of the first file one alone: it takes no earlier mutate back.
    let (_, ids) = world.request(DeployRequest::new(fleet(&["w1", "w1", "w2"])).only([name("b")]));
    assert_eq!(ids.len(), 1);
    let last = world.shards("w1").pop().unwrap();
    assert_eq!(last["a"], services(&["ftp"]));
    assert_eq!(last.len(), 3);
    assert_eq!(world.up_with("a"), services(&["ftp"]));
    // A mutate under way was told the host already: it is not taken back either.
    world.say(&ids, Reported::Succeeded);
    world.mutated("zz", &["smtp"]);
    world.request(DeployRequest::new(fleet(&["w1", "w1", "w2"])).only([name("b")]));
    assert_eq!(world.shards("w1").pop().unwrap()["zz"], services(&["smtp"]));
    assert_eq!(world.shards("w2").len(), 1);
}

/// What an agent leaves of a single decky goes with the last of them.
#[test]
fn the_last_deckies_of_a_host_go_in_one_call_for_all() {
    let world = World::new();
    world.up(fleet(&["w1", "w1", "w1", "w2", "w2"]));
    world.torn_down(TeardownRequest::new([name("a")]));
    assert_eq!(world.teardowns(), [(host("w1"), Some(name("a")), 1)]);
    world.torn_down(TeardownRequest::all());
    let mut last = world.teardowns().split_off(1);
    last.sort();
    assert_eq!(last, [(host("w1"), None, 2), (host("w2"), None, 2)]);
    assert!(world.placements().is_empty());
    // Also by prune, and by a move of all that a host has.
    let world = World::new();
    world.up(fleet(&["w1", "w1"]));
    world.request(DeployRequest::new(fleet(&["w2", "w2"])).relocate(true));
    assert_eq!(world.teardowns(), [(host("w1"), None, 2)]);
}

#[test]
fn orphans_that_no_placement_names_are_taken_down_where_they_are_found() {
    let world = World::new();
    world.engine.plant(&name("left"), services(&["ssh"]));
    let mut beat = Beat::from_json(
        br#"{"host_uuid": "w1", "agent_version": "1", "lifecycle": [],
             "status": {"deployed": true, "deckies": [], "runtime": {"far": {"running": true, "services": {"ssh": "running"}}}},
             "topology": {}}"#,
    )
    .unwrap();
    block_on(world.runner.take_beat(&host("w1"), &beat)).unwrap();
    let seen: Vec<(String, String, Health)> = block_on(world.runner.deckies())
        .unwrap()
        .into_iter()
        .map(|status| (status.decky.to_string(), status.home.to_string(), status.health()))
        .collect();
    assert_eq!(
        seen,
        [("left".into(), "master".into(), Health::Stranger), ("far".into(), "w1".into(), Health::Stranger)]
    );
    let down = world.torn_down(TeardownRequest::new([name("left"), name("far")]));
    assert_eq!(world.told(&down), ["succeeded"; 2]);
    assert!(block_on(world.engine.found()).unwrap().is_empty());
    assert_eq!(world.teardowns(), [(host("w1"), Some(name("far")), 1)]);
    assert!(world.placements().is_empty());
    beat.status.runtime.clear();
    block_on(world.runner.take_beat(&host("w1"), &beat)).unwrap();
    assert!(block_on(world.runner.deckies()).unwrap().is_empty());
    let gone = block_on(world.runner.accept_teardown(TeardownRequest::new([name("far")])));
    assert!(matches!(gone, Err(AcceptError::UnknownDecky { .. })), "{gone:?}");
}

#[test]
fn a_host_that_is_gone_can_be_forgotten() {
    let world = World::new();
    world.up(fleet(&["w1", ""]));
    let forget = |decky| block_on(world.runner.forget(&[name(decky)].into()));
    let open = world.deployed(fleet(&["w1", ""]));
    let refused = forget("a").unwrap_err().to_string();
    assert!(refused.contains(&open[0].to_string()), "{refused}");
    assert_eq!(world.placements().len(), 2);
    world.say(&open, Reported::Succeeded);
    let was = forget("a").unwrap();
    assert_eq!((was.len(), was[0].decky.clone()), (1, name("a")));
    assert_eq!(world.homes().into_keys().collect::<Vec<_>>(), ["b"]);
    assert!(world.teardowns().is_empty());
    assert!(forget("a").unwrap_err().to_string().contains("a is not placed"));
    // Its address and its name are free.
    world.up(renamed(&["w2"], 0, "next"));
    // All or none.
    let both = block_on(world.runner.forget(&[name("b"), name("zz")].into()));
    assert!(both.is_err());
    assert_eq!(world.homes().into_keys().collect::<Vec<_>>(), ["b", "next"]);
}

#[test]
fn deckies_are_taken_over_once_and_what_contradicts_is_told() {
    let world = World::new();
    let all = fleet(&["", "w1"]);
    for _ in 0..2 {
        assert_eq!(block_on(world.runner.take_over(&all, None)).unwrap(), BTreeMap::new());
        assert_eq!(world.homes(), [("a".into(), "master".into()), ("b".into(), "w1".into())].into());
    }
    assert!(world.feed().is_empty(), "nothing was done to them");
    let told = block_on(world.runner.take_over(&renamed(&["", "w2", "w1"], 0, "pbx"), None)).unwrap();
    assert!(told[&name("pbx")].contains("192.0.2.10 is a's"), "{told:?}");
    assert_eq!(told[&name("b")], "b is placed otherwise by now");
    assert_eq!(told.len(), 2);
    assert_eq!(world.homes().into_keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    world.torn_down(TeardownRequest::all());
    assert!(world.placements().is_empty());
}

/// The fake engine under a name.
#[derive(Debug)]
struct Named(FakeEngine, &'static str);

#[async_trait]
impl Engine for Named {
    fn name(&self) -> Option<EngineName> {
        EngineName::parse(self.1).ok()
    }

    async fn deploy(&self, work: &Work) -> Result<Report, Failure> {
        self.0.deploy(work).await
    }

    async fn mutate(&self, work: &Work) -> Result<Report, Failure> {
        self.0.mutate(work).await
    }

    async fn teardown(&self, work: &Work) -> Result<Report, Failure> {
        self.0.teardown(work).await
    }
}

#[test]
fn another_engine_is_refused_while_the_first_still_runs_something() {
    let world = World::new();
    let by = |engine| {
        let runner = Runner::builder(world.store.clone(), Arc::new(Named(FakeEngine::new(), engine)))
            .clock(world.clock.clone())
            .build();
        block_on(runner.unwrap().recover()).unwrap().0
    };
    let (first, second) = (by("process"), by("compose"));
    let deploy = |runner: &Runner, only| {
        let request = DeployRequest::new(fleet(&["", ""])).only([name(only)]);
        block_on(runner.accept_deploy(request)).map(|accepted| world.drive(accepted.run()))
    };
    deploy(&first, "a").unwrap();
    for only in ["a", "b"] {
        let refused = deploy(&second, only).unwrap_err();
        let AcceptError::Clash(clashes) = &refused else { panic!("{refused}") };
        assert!(matches!(&clashes[..], [Clash::Engine { runs, .. }] if *runs == name("a")), "{refused}");
    }
    let down = block_on(first.accept_teardown(TeardownRequest::all())).unwrap();
    world.drive(down.run());
    deploy(&second, "b").unwrap();
}

/// Each indefinite end, and each of the three that settle it.
#[test]
fn a_row_that_ends_without_evidence_leaves_its_decky_unsure_until_it_is_settled() {
    type End = fn(&World, Accepted) -> FailureKind;
    let ends: [(&str, End); 8] = [
        ("w1", |world, accepted| {
            let lost = AgentError::Unconfirmed { reason: "reset".into() };
            // A worker that has named rows is asked twice.
            let asked = if world.placement("a").unwrap().now().is_some() { 2 } else { 1 };
            world.agents.script(&host("w1"), vec![AgentScript::Fail(lost); asked]);
            world.drive(accepted.run());
            FailureKind::Dispatch
        }),
        ("w1", |world, accepted| {
            world.drive(accepted.run());
            world.clock.advance(Duration::from_secs(301));
            block_on(world.runner.sweep()).unwrap();
            FailureKind::WorkerLost
        }),
        ("w1", |world, accepted| {
            world.drive(accepted.run());
            for _ in 0..33 {
                world.clock.advance(Duration::from_secs(60));
                block_on(world.runner.apply_deltas(&host("w1"), &[])).unwrap();
            }
            block_on(world.runner.sweep()).unwrap();
            FailureKind::Deadline
        }),
        ("w1", |world, accepted| {
            let ids: Vec<_> = accepted.ids().values().copied().collect();
            world.drive(accepted.run());
            world.say(&ids, Reported::Failed("exit 1".into()));
            FailureKind::Reported
        }),
        ("", |world, accepted| {
            world.engine.script(&name("a"), EngineScript::HangStubbornly);
            world.drive(accepted.run());
            FailureKind::Deadline
        }),
        ("", |world, accepted| {
            world.engine.script(&name("a"), EngineScript::Panic);
            world.drive(accepted.run());
            FailureKind::Panic
        }),
        ("", |world, accepted| {
            world.engine.script(&name("a"), EngineScript::Hang);
            let id = accepted.ids()[&name("a")];
            let mut run = Box::pin(accepted.run());
            assert!(block_on(poll_once(&mut run)).is_none());
            block_on(world.runner.cancel(id)).unwrap();
            world.drive(run);
            FailureKind::Cancelled
        }),
        ("", |world, accepted| {
            world.engine.script(&name("a"), EngineScript::Hang);
            let mut run = Box::pin(accepted.run());
            assert!(block_on(poll_once(&mut run)).is_none());
            drop(run);
            block_on(world.runner.sweep()).unwrap();
            FailureKind::Abandoned
        }),
    ];
    for (at, end) in ends {
        for settle in [Operation::Deploy, Operation::Mutate, Operation::Teardown] {
            for is_up in [false, true] {
                let world = World::new();
                if is_up {
                    let before = changed(&[at], &[("/deckies/0/ip", "192.0.2.50".into())]);
                    world.up(before);
                }
                let accepted = world.deploy(fleet(&[at]));
                let id = accepted.ids()[&name("a")];
                let kind = end(&world, accepted);
                assert_eq!(world.row(id).failure().map(Failure::kind), Some(kind));
                let placement = world.placement("a").unwrap();
                let Standing::Unsure { perhaps, row } = &placement.standing else {
                    panic!("{kind}: {placement:?}")
                };
                assert_eq!((perhaps.len(), *row), (1 + usize::from(is_up), id), "{kind}");
                // Its addresses stay taken, the old one too.
                for (place, wanted) in [("192.0.2.10", true), ("192.0.2.50", is_up)] {
                    let other =
                        changed(&[at], &[("/deckies/0/ip", place.into()), ("/deckies/0/name", "zz".into())]);
                    let request = DeployRequest::new(other);
                    let refused = !block_on(world.runner.plan(&request)).unwrap().clashes.is_empty();
                    assert_eq!(refused, wanted, "{kind}: {place}");
                }
                world.engine.script(&name("a"), EngineScript::Succeed);
                let ids = match settle {
                    Operation::Deploy => world.deployed(fleet(&[at])),
                    Operation::Mutate => vec![world.mutated("a", &["ftp"])],
                    _ => world.torn_down(TeardownRequest::new([name("a")])),
                };
                world.say(&ids, Reported::Succeeded);
                assert_eq!(world.told(&ids), ["succeeded"], "{kind}, {settle}");
                match settle {
                    Operation::Deploy => assert_eq!(world.up_with("a"), services(&["ssh", "http"])),
                    Operation::Mutate => assert_eq!(world.up_with("a"), services(&["ftp"])),
                    _ => assert_eq!(world.placement("a"), None),
                }
            }
        }
    }
}

/// The master restarted while it ran; and while something newer took over.
#[test]
fn a_row_ended_by_a_restart_or_a_newer_one_leaves_its_decky_unsure() {
    let world = World::new();
    world.engine.script(&name("a"), EngineScript::Hang);
    let mut run = Box::pin(world.deploy(fleet(&[""])).run());
    assert!(block_on(poll_once(&mut run)).is_none());
    let restarted = world.restarted();
    assert_eq!(restarted.recovered.failed, 1);
    assert!(restarted.is_unsure("a"));
    restarted.up(fleet(&[""]));
    assert_eq!(restarted.up_with("a"), services(&["ssh", "http"]));

    let world = World::new();
    world.deployed(fleet(&["w1"]));
    let request = MutateRequest::new(name("a"), services(&["ftp"])).overlap(Overlap::Supersede);
    let accepted = block_on(world.runner.accept_mutate(request)).unwrap();
    assert!(world.is_unsure("a"));
    let id = accepted.ids()[&name("a")];
    world.drive(accepted.run());
    world.say(&[id], Reported::Succeeded);
    assert_eq!(world.up_with("a"), services(&["ftp"]));
}

/// Definite failures: refused, never arrived, put back by the engine or by a
/// worker of ours that says so.
#[test]
fn a_row_that_failed_for_certain_leaves_its_decky_as_it_was() {
    let refusals = [
        AgentError::Refused { reason: "no".into() },
        AgentError::Unreachable { reason: "no".into() },
        AgentError::Tls { reason: "no".into() },
    ];
    for refusal in refusals {
        let world = World::new();
        world.up(fleet(&["w1"]));
        world.agents.script(&host("w1"), [AgentScript::Fail(refusal)]);
        let id = world.mutated("a", &["ftp"]);
        assert_eq!(world.row(id).status(), Status::Failed);
        assert_eq!(world.up_with("a"), services(&["ssh", "http"]));
    }
    for (said, is_unsure) in [("Engine: no such image", false), ("Cancelled: stopped", true), ("oh", true)] {
        let world = World::new();
        world.up(fleet(&["w1"]));
        let id = world.mutated("a", &["ftp"]);
        world.say(&[id], Reported::Failed(said.into()));
        assert_eq!(world.is_unsure("a"), is_unsure, "{said}");
    }
    // A first deploy that was refused leaves nothing, and its address free.
    let world = World::new();
    world.engine.script(&name("a"), EngineScript::Fail(Failure::new(FailureKind::Engine, "no")));
    world.deployed(fleet(&[""]));
    assert!(world.placements().is_empty());
    world.up(renamed(&[""], 0, "zz"));
}

#[test]
fn a_key_is_answered_also_when_what_it_asked_for_is_done() {
    let world = World::new();
    world.up(fleet(&["", "w1"]));
    let key = |text: &str| RequestKey::parse(text).unwrap();
    let requests =
        [TeardownRequest::new([name("a")]).key(key("one")), TeardownRequest::all().key(key("all"))];
    for request in requests {
        let ids = world.torn_down(request.clone());
        let again = block_on(world.runner.accept_teardown(request)).unwrap();
        assert!(again.is_repeat());
        assert_eq!(again.ids().values().copied().collect::<Vec<_>>(), ids);
    }
    assert!(world.placements().is_empty());
    // A move under a key: done, and asked again.
    world.up(fleet(&["w1"]));
    let request = || DeployRequest::new(fleet(&["w2"])).relocate(true).key(key("move"));
    let first = block_on(world.runner.accept_deploy(request())).unwrap();
    let (ids, down) = (first.ids().clone(), first.first().clone());
    world.drive(first.run());
    world.say(&[ids[&name("a")]], Reported::Succeeded);
    let again = block_on(world.runner.accept_deploy(request())).unwrap();
    assert_eq!((again.ids(), again.first(), again.is_repeat()), (&ids, &down, true));
}

#[test]
fn what_was_accepted_and_not_begun_is_taken_up_again_also_a_move() {
    let world = World::new();
    world.up(fleet(&["w1", "w1"]));
    let request = DeployRequest::new(fleet(&["w2", "w1"])).only([name("a")]).relocate(true);
    let accepted = block_on(world.runner.accept_deploy(request)).unwrap();
    let (ids, first) = (accepted.ids().clone(), accepted.first().clone());
    world.clock.advance(Duration::from_secs(1));
    let mutate =
        block_on(world.runner.accept_mutate(MutateRequest::new(name("b"), services(&["ftp"])))).unwrap();
    let cancelled = DeployRequest::new(fleet(&["w2", "w1", ""])).only([name("c")]);
    let cancelled = block_on(world.runner.accept_deploy(cancelled)).unwrap();
    block_on(world.runner.cancel(cancelled.ids()[&name("c")])).unwrap();
    let mut restarted = world.restarted();
    let recovered = std::mem::take(&mut restarted.recovered);
    assert_eq!((recovered.failed, recovered.left, recovered.accepted.len()), (0, 0, 2));
    let mut accepted = recovered.accepted.into_iter();
    let (moved, mutated) = (accepted.next().unwrap(), accepted.next().unwrap());
    assert_eq!((moved.ids(), moved.first()), (&ids, &first));
    assert_eq!(mutated.ids(), mutate.ids());
    restarted.drive(moved.run());
    restarted.drive(mutated.run());
    assert_eq!(restarted.teardowns(), [(host("w1"), Some(name("a")), 1)]);
    let rows = [ids[&name("a")], mutate.ids()[&name("b")]];
    restarted.say(&rows, Reported::Succeeded);
    assert_eq!(world.told(&rows), ["succeeded"; 2]);
    assert_eq!(world.homes(), [("a".into(), "w2".into()), ("b".into(), "w1".into())].into());
    assert_eq!(world.up_with("b"), services(&["ftp"]));
}

/// The teardown was begun before the restart, and nobody has said yet that it
/// is done: the decky must not come up in a second place.
#[test]
fn a_move_taken_up_again_waits_for_nobody_and_does_not_run_twice() {
    let world = World::new();
    world.up(fleet(&["w1"]));
    world.agents.script(&host("w1"), [AgentScript::Hang]);
    let request = DeployRequest::new(fleet(&["w2"])).relocate(true);
    let accepted = block_on(world.runner.accept_deploy(request)).unwrap();
    let (first, id) = (accepted.first()[&name("a")], accepted.ids()[&name("a")]);
    let mut run = Box::pin(accepted.run());
    assert!(block_on(poll_once(&mut run)).is_none());
    assert_eq!([world.told(&[first]), world.told(&[id])], [["running"], ["pending"]]);
    let mut restarted = world.restarted();
    let recovered = std::mem::take(&mut restarted.recovered);
    for again in recovered.accepted {
        restarted.drive(again.run());
    }
    let told = world.told(&[id]);
    assert!(told[0].starts_with("Clash: it was not taken down on w1"), "{told:?}");
    assert!(restarted.agents.calls().is_empty());
    drop(run);
}

/// One that doesn't come up keeps its address, and who was to have that doesn't
/// come up either.
#[test]
fn a_move_that_fails_gives_its_address_to_nobody() {
    let world = World::new();
    world.up(fleet(&["w1"]));
    world.agents.script(&host("w1"), [AgentScript::Fail(AgentError::Unreachable { reason: "gone".into() })]);
    let hosts = ["w2", "w2", "w2"];
    let request = DeployRequest::new(changed(
        &hosts,
        &[("/deckies/0/ip", "192.0.2.20".into()), ("/deckies/1/ip", "192.0.2.10".into())],
    ));
    let (first, ids) = world.request(request.relocate(true));
    assert!(world.told(&first)[0].starts_with("Unreachable"), "{:?}", world.told(&first));
    let told = world.told(&ids);
    assert!(told[0].starts_with("Clash: it was not taken down on w1"), "{told:?}");
    assert!(told[1].starts_with("Clash: 192.0.2.10 is still a's"), "{told:?}");
    assert_eq!(told[2], "running");
    let shards = world.shards("w2");
    assert_eq!(shards[0].keys().collect::<Vec<_>>(), ["c"]);
}

/// The network of a shard is that of the rows that are sent, whichever decky of
/// the host comes first by name.
#[test]
fn a_shard_has_the_network_of_its_own_rows() {
    let world = World::new();
    world.up(fleet(&["w1", "w1"]));
    let request = DeployRequest::new(changed(&["w1", "w1"], &[("/gateway", "192.0.2.254".into())]));
    let accepted = block_on(world.runner.accept_deploy(request)).unwrap();
    block_on(world.runner.cancel(accepted.ids()[&name("a")])).unwrap();
    world.drive(accepted.run());
    let calls = world.agents.calls();
    let Some(AgentCall::Deploy(_, call)) = calls.last() else { panic!("{calls:?}") };
    assert_eq!(call.config.gateway.to_string(), "192.0.2.254");
}
