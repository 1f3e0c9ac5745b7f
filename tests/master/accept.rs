//! Accepting: durable rows, keys, overlaps, and what is refused.

use std::sync::Arc;

use decnet_lifecycle::store::{MemoryStore, Query};
use decnet_lifecycle::testkit::{EngineScript, FakeEngine};
use decnet_lifecycle::*;
use futures_lite::future::{block_on, poll_once};

use crate::world::{World, fleet, name, services};

fn key(text: &str) -> RequestKey {
    RequestKey::parse(text).unwrap()
}

#[test]
fn rows_are_durable_before_accept_returns() {
    let world = World::new();
    let accepted = world.deploy(fleet(&["", ""]));
    let ids: Vec<_> = accepted.ids().values().copied().collect();
    assert_eq!(world.told(&ids), ["pending"; 2]);
    assert!(!accepted.is_repeat());
}

#[test]
fn the_same_request_under_one_key_is_accepted_once() {
    let world = World::new();
    let request = || DeployRequest::new(fleet(&["", ""])).key(key("k"));
    let first = block_on(world.runner.accept_deploy(request())).unwrap();
    let again = block_on(world.runner.accept_deploy(request())).unwrap();
    assert!(again.is_repeat());
    assert_eq!(first.ids(), again.ids());
    block_on(again.run());
    let other = DeployRequest::new(fleet(&[""])).key(key("k"));
    let refused = block_on(world.runner.accept_deploy(other)).unwrap_err();
    assert!(matches!(&refused, AcceptError::KeyTaken(taken) if *taken == key("k")), "{refused}");
    assert_eq!(world.feed().len(), 2);
}

#[test]
fn an_overlapping_request_is_refused_and_names_the_busy_rows() {
    let world = World::new();
    let first = world.deploy(fleet(&["", ""]));
    let refused = block_on(world.runner.accept_deploy(DeployRequest::new(fleet(&["", "", ""])))).unwrap_err();
    let AcceptError::Busy(busy) = &refused else { panic!("{refused}") };
    let wanted: Vec<_> = first.ids().iter().map(|(decky, id)| (decky.clone(), vec![*id])).collect();
    assert_eq!(*busy, wanted);
    assert!(refused.to_string().contains(&wanted[0].1[0].to_string()));
    // None of its three rows was made.
    assert_eq!(world.feed().len(), 2);
}

#[test]
fn superseding_fails_the_older_rows_in_the_same_commit_and_stops_their_work() {
    let world = World::new();
    world.engine.script(&name("a"), EngineScript::Hang);
    let older = world.deploy(fleet(&[""]));
    let old = older.ids()[&name("a")];
    let mut run = Box::pin(older.run());
    assert!(block_on(poll_once(&mut run)).is_none());
    let request = DeployRequest::new(fleet(&[""])).overlap(Overlap::Supersede);
    let commits = world.runner.counters().commits;
    let newer = block_on(world.runner.accept_deploy(request)).unwrap();
    assert_eq!(world.runner.counters().commits, commits + 1);
    assert_eq!(newer.superseded(), [old]);
    assert_eq!(world.row(old).failure().map(Failure::kind), Some(FailureKind::Superseded));
    // The hung engine call hears of it and ends; its row stays as it is.
    block_on(run);
    assert_eq!(world.row(old).failure().map(Failure::kind), Some(FailureKind::Superseded));
    world.engine.script(&name("a"), EngineScript::Succeed);
    let new = newer.ids()[&name("a")];
    world.drive(newer.run());
    assert_eq!(world.told(&[new]), ["succeeded"]);
}

#[test]
fn senseless_requests_are_refused_with_a_hint() {
    let world = World::new();
    let deploy = |only: &[&str]| {
        let request = DeployRequest::new(fleet(&[""])).only(only.iter().map(|decky| name(decky)));
        block_on(world.runner.accept_deploy(request)).unwrap_err().to_string()
    };
    assert_eq!(
        deploy(&[]),
        "the request is about no decky: none was named, or nothing is placed; deploy a fleet first"
    );
    assert_eq!(deploy(&["zz"]), "there is no decky zz; there is a");
    let mutate = |to: &[&str]| {
        let request = MutateRequest::new(name("a"), services(to));
        block_on(world.runner.accept_mutate(request)).unwrap_err()
    };
    assert_eq!(mutate(&["ssh"]).to_string(), "there is no decky a; nothing is placed, deploy a fleet first");
    let teardown = |request| block_on(world.runner.accept_teardown(request)).unwrap_err().to_string();
    assert_eq!(
        teardown(TeardownRequest::new([name("a")])),
        "there is no decky a; nothing is placed, deploy a fleet first"
    );
    assert!(teardown(TeardownRequest::all()).starts_with("the request is about no decky"));
    assert!(world.feed().is_empty());
    world.deployed(fleet(&[""]));
    let fed = world.feed().len();
    let refused = mutate(&[]);
    assert!(matches!(refused, AcceptError::Services(_)), "{refused}");
    assert_eq!(world.feed().len(), fed);
}

#[test]
fn a_request_whose_work_is_never_run_fails_at_the_next_sweep() {
    let world = World::new();
    let accepted = world.deploy(fleet(&[""]));
    let id = accepted.ids()[&name("a")];
    drop(accepted);
    block_on(world.runner.sweep()).unwrap();
    assert_eq!(world.row(id).failure().map(Failure::kind), Some(FailureKind::Abandoned));
}

/// A client that hangs up in the middle leaves no row that nobody works on.
#[test]
fn what_is_spawned_as_one_is_done_also_if_the_caller_is_dropped() {
    let executor = Arc::new(smol::Executor::new());
    let spawns = Arc::clone(&executor);
    let (store, engine) = (Arc::new(MemoryStore::new()), Arc::new(FakeEngine::new()));
    let built = Runner::builder(store, engine).spawner(move |work| spawns.spawn(work).detach()).build();
    let (runner, _) = block_on(built.unwrap().recover()).unwrap();
    let mut asked = Box::pin(runner.deploy(DeployRequest::new(fleet(&["", ""]))));
    assert!(block_on(poll_once(&mut asked)).is_none());
    drop(asked);
    while executor.try_tick() {}
    let rows = block_on(runner.list(&Query::new())).unwrap().records;
    assert_eq!(rows.iter().map(Record::status).collect::<Vec<_>>(), [Status::Succeeded; 2]);

    let asked = runner.teardown(TeardownRequest::all());
    let underway = block_on(executor.run(asked)).unwrap();
    assert_eq!((underway.ids.len(), underway.is_repeat), (2, false));
    block_on(executor.run(runner.wait(&underway.ids.values().copied().collect::<Vec<_>>()))).unwrap();
    let refused = block_on(executor.run(runner.mutate(MutateRequest::new(name("a"), services(&["ftp"])))));
    assert!(matches!(refused, Err(AcceptError::UnknownDecky { .. })), "{refused:?}");
}

#[test]
fn a_runner_without_a_spawner_says_so() {
    let world = World::new();
    let refused = block_on(world.runner.deploy(DeployRequest::new(fleet(&[""])))).unwrap_err();
    assert!(refused.to_string().contains("without a spawner"), "{refused}");
    assert!(block_on(world.runner.list(&Query::new())).unwrap().records.is_empty());
}
