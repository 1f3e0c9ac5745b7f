//! The master's own deckies: commits, engine calls, cancels, shutdown.

use std::time::Duration;

use decnet_lifecycle::testkit::EngineScript;
use decnet_lifecycle::{bus::ChannelBus, *};
use futures_lite::future::{block_on, poll_once};

use crate::world::{World, fleet, name, services};

#[test]
fn a_local_deploy_is_three_commits_and_one_engine_call() {
    let world = World::new();
    let ids = world.deployed(fleet(&["", "", ""]));
    assert_eq!(world.told(&ids), ["succeeded"; 3]);
    assert_eq!(world.runner.counters().commits, 3);
    assert_eq!(world.runner.counters().steps, 9);
    let calls = world.engine.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].deckies.len(), 3);
}

#[test]
fn the_engine_sees_only_rows_that_are_durably_running() {
    let world = World::new();
    world.engine.script(&name("a"), EngineScript::Hang);
    let accepted = world.deploy(fleet(&["", ""]));
    let ids: Vec<_> = accepted.ids().values().copied().collect();
    assert_eq!(world.told(&ids), ["pending"; 2]);
    let mut run = Box::pin(accepted.run());
    assert!(block_on(poll_once(&mut run)).is_none());
    assert_eq!(world.engine.calls().len(), 1);
    assert_eq!(world.told(&ids), ["running"; 2]);
}

#[test]
fn an_additive_deploy_makes_rows_for_the_new_and_shows_the_engine_all() {
    let world = World::new();
    let request = DeployRequest::new(fleet(&["", "", ""])).only([name("c")]);
    let accepted = block_on(world.runner.accept_deploy(request)).unwrap();
    assert_eq!(accepted.ids().len(), 1);
    world.drive(accepted.run());
    // Those that nothing has brought up yet are not at home here.
    let call = &world.engine.calls()[0];
    assert_eq!((call.deckies.len(), call.fleet_size), (1, 1));
    world.deployed(fleet(&["", ""]));
    let call = &world.engine.calls()[1];
    assert_eq!((call.deckies.len(), call.fleet_size), (2, 3));
}

#[test]
fn each_decky_ends_by_its_own_evidence() {
    let world = World::new();
    world.engine.script(&name("b"), EngineScript::Fail(Failure::new(FailureKind::Engine, "no such image")));
    world.engine.script(&name("c"), EngineScript::Forget);
    let told = world.told(&world.deployed(fleet(&["", "", ""])));
    assert_eq!(told[0], "succeeded");
    assert_eq!(told[1], "Engine: no such image");
    assert!(told[2].starts_with("Engine: unverified"), "{}", told[2]);
}

#[test]
fn a_panic_in_the_engine_fails_the_rows() {
    let world = World::new();
    world.engine.script(&name("a"), EngineScript::Panic);
    let told = world.told(&world.deployed(fleet(&["", ""])));
    assert_eq!(told, ["Panic: the engine panicked: scripted panic"; 2]);
    assert_eq!(world.told(&world.deployed_again()), ["Panic: the engine panicked: scripted panic"; 2]);
}

impl World {
    /// The gate of the engine is free again after whatever happened.
    fn deployed_again(&self) -> Vec<LifecycleId> {
        self.deployed(fleet(&["", ""]))
    }
}

#[test]
fn an_engine_that_hangs_is_dropped_at_the_deadline() {
    let world = World::new();
    world.engine.script(&name("a"), EngineScript::HangStubbornly);
    let told = world.told(&world.deployed(fleet(&[""])));
    assert_eq!(told, ["Deadline: the engine did not end within 1800 s"]);
}

#[test]
fn a_mutate_keeps_new_services_only_if_the_engine_succeeded() {
    let world = World::new();
    world.deployed(fleet(&["", ""]));
    let mutate = |to: &[&str]| world.told(&[world.mutated("a", to)]);
    assert_eq!(mutate(&["ftp"]), ["succeeded"]);
    assert_eq!(world.up_with("a"), services(&["ftp"]));
    world.engine.script(&name("a"), EngineScript::Fail(Failure::new(FailureKind::Engine, "x")));
    assert_eq!(mutate(&["smtp"]), ["Engine: x"]);
    assert_eq!(world.up_with("a"), services(&["ftp"]));
}

#[test]
fn two_mutates_at_once_lose_neither() {
    let world = World::new();
    world.deployed(fleet(&["", ""]));
    let accept = |decky, to: &[&str]| {
        let request = MutateRequest::new(name(decky), services(to));
        block_on(world.runner.accept_mutate(request)).unwrap().run()
    };
    world.engine.script(&name("a"), EngineScript::Delay(Duration::from_secs(5)));
    let both = futures_lite::future::zip(accept("a", &["ftp"]), accept("b", &["smtp"]));
    world.drive(both);
    assert_eq!(world.up_with("a"), services(&["ftp"]));
    assert_eq!(world.up_with("b"), services(&["smtp"]));
}

#[test]
fn a_teardown_takes_deckies_out_of_what_is_placed() {
    let world = World::new();
    world.deployed(fleet(&["", ""]));
    world.torn_down(TeardownRequest::new([name("a")]));
    let left: Vec<_> = world.placements().into_iter().map(|placement| placement.decky).collect();
    assert_eq!(left, [name("b")]);
}

#[test]
fn cancel_ends_a_pending_row_at_once_and_the_engine_never_sees_it() {
    let world = World::new();
    let accepted = world.deploy(fleet(&["", ""]));
    let ids: Vec<_> = accepted.ids().values().copied().collect();
    assert_eq!(block_on(world.runner.cancel(ids[0])).unwrap(), Cancelled::Ended);
    world.drive(accepted.run());
    assert_eq!(world.told(&ids), ["Cancelled: cancelled before it was started", "succeeded"]);
    assert!(!world.engine.calls()[0].deckies.contains_key(&name("a")));
    assert_eq!(block_on(world.runner.cancel(ids[0])).unwrap(), Cancelled::AlreadyClosed);
    assert_eq!(block_on(world.runner.cancel(LifecycleId::from_u128(1))).unwrap(), Cancelled::Unknown);
}

#[test]
fn cancel_stops_a_running_row_and_the_intent_is_durable() {
    for (script, wanted) in [
        (EngineScript::Hang, "Cancelled: stopped when asked to"),
        (
            EngineScript::HangStubbornly,
            "Cancelled: cancelled; the engine did not stop in time and was dropped",
        ),
    ] {
        let world = World::new();
        world.engine.script(&name("a"), script);
        let accepted = world.deploy(fleet(&[""]));
        let id = *accepted.ids().values().next().unwrap();
        let mut run = Box::pin(accepted.run());
        assert!(block_on(poll_once(&mut run)).is_none());
        assert_eq!(block_on(world.runner.cancel(id)).unwrap(), Cancelled::Requested);
        assert!(world.row(id).cancel_requested_at.is_some());
        world.drive(run);
        assert_eq!(world.told(&[id]), [wanted]);
        assert!(world.row(id).cancel_requested_at.is_some());
    }
}

#[test]
fn a_success_that_wins_against_a_cancel_stays_a_success() {
    let world = World::new();
    world.engine.script(&name("a"), EngineScript::Delay(Duration::from_secs(1)));
    let accepted = world.deploy(fleet(&[""]));
    let id = *accepted.ids().values().next().unwrap();
    let mut run = Box::pin(accepted.run());
    assert!(block_on(poll_once(&mut run)).is_none());
    assert_eq!(block_on(world.runner.cancel(id)).unwrap(), Cancelled::Requested);
    world.drive(run);
    assert_eq!(world.told(&[id]), ["succeeded"]);
}

#[test]
fn events_follow_commits_once_each_and_in_order() {
    let world = World::new();
    let heard = world.bus.subscribe();
    let ids = world.deployed(fleet(&["", ""]));
    let mut events = Vec::new();
    while let Some(event) = heard.try_next() {
        events.push((event.lifecycle_id, event.status));
    }
    let fed: Vec<_> = world.feed().iter().map(|entry| (entry.id, entry.status)).collect();
    assert_eq!(events, fed);
    assert_eq!(events.len(), 3 * ids.len());
}

#[test]
fn explain_says_what_a_row_waits_for() {
    let world = World::new();
    world.engine.script(&name("a"), EngineScript::Hang);
    let accepted = world.deploy(fleet(&[""]));
    let id = *accepted.ids().values().next().unwrap();
    let why = || block_on(world.runner.explain(id)).unwrap().unwrap().to_string();
    assert!(why().contains("its future has not been run yet"), "{}", why());
    let mut run = Box::pin(accepted.run());
    assert!(block_on(poll_once(&mut run)).is_none());
    assert!(
        why().contains("running for 0 s: the engine is at work; it fails by itself in 30 min"),
        "{}",
        why()
    );
    drop(run);
    assert!(why().contains("no future of this process drives it"), "{}", why());
    let history = block_on(world.runner.history(id)).unwrap().unwrap();
    assert_eq!(
        history.iter().map(|step| step.status).collect::<Vec<_>>(),
        [Status::Pending, Status::Running]
    );
}

#[test]
fn shutdown_refuses_new_work_and_stops_what_runs() {
    let world = World::new();
    world.engine.script(&name("a"), EngineScript::Hang);
    let accepted = world.deploy(fleet(&[""]));
    let id = *accepted.ids().values().next().unwrap();
    let shutdown = world.runner.shutdown(Duration::from_secs(10));
    let ((), left) = world.drive(futures_lite::future::zip(accepted.run(), shutdown));
    assert_eq!(left, 0);
    assert_eq!(world.told(&[id]), ["Cancelled: stopped when asked to"]);
    let refused = block_on(world.runner.accept_deploy(DeployRequest::new(fleet(&[""]))));
    assert!(matches!(refused, Err(AcceptError::ShuttingDown)));
}

#[test]
fn a_bus_that_nobody_empties_drops_the_oldest_and_counts_them() {
    let world = World::new();
    let small = std::sync::Arc::new(ChannelBus::new(2));
    let heard = small.subscribe();
    let runner = Runner::builder(world.store.clone(), world.engine.clone()).bus(small).build().unwrap();
    let (runner, _) = block_on(runner.recover()).unwrap();
    let accepted = block_on(runner.accept_deploy(DeployRequest::new(fleet(&["", ""])))).unwrap();
    block_on(accepted.run());
    assert_eq!(runner.counters().events_dropped, 4);
    let kept: Vec<_> = std::iter::from_fn(|| heard.try_next()).map(|event| event.status).collect();
    assert_eq!(kept, [Status::Succeeded; 2]);
}
