//! Workers' deckies: shards, calls that fail or may have arrived, teardowns.

use std::time::Duration;

use decnet_lifecycle::clock::Clock as _;
use decnet_lifecycle::testkit::{AgentCall, AgentScript};
use decnet_lifecycle::{
    agent::{AgentError, MutateCall},
    beat::{Delta, Reported, Verdict},
    *,
};
use futures_lite::future::block_on;

use crate::world::{World, fleet, host, name, services};

#[test]
fn a_swarm_deploy_sends_each_host_its_shard_and_leaves_the_rows_running() {
    let world = World::new();
    let ids = world.deployed(fleet(&["w1", "w2", "w1"]));
    assert_eq!(world.told(&ids), ["running"; 3]);
    let calls = world.agents.calls();
    assert_eq!(calls.len(), 2);
    for call in calls {
        let AgentCall::Deploy(id, call) = call else { panic!("{call:?}") };
        let names: Vec<&str> = call.config.names().map(DeckyName::as_str).collect();
        assert_eq!(names, if id == host("w1") { vec!["a", "c"] } else { vec!["b"] });
        assert_eq!(call.lifecycle_ids.len(), names.len());
    }
    assert!(world.engine.calls().is_empty());
}

#[test]
fn a_shard_that_fails_fails_its_own_rows_only() {
    let world = World::new();
    let refused = AgentError::Refused { reason: "disk full, token=abc".into() };
    world.agents.script(&host("w2"), [AgentScript::Fail(refused)]);
    let told = world.told(&world.deployed(fleet(&["w1", "w2", "", "nowhere"])));
    assert_eq!(told[0], "running");
    assert_eq!(told[1], "Rejected: host w2: agent refused: disk full, token=[scrubbed]");
    assert_eq!(told[2], "succeeded");
    assert!(told[3].starts_with("Unreachable: host nowhere is not in the host directory"), "{}", told[3]);
}

#[test]
fn a_host_that_hangs_delays_no_other_and_fails_after_two_tries() {
    let world = World::new();
    world.hears_an_id_from("w1");
    world.agents.script(&host("w1"), [AgentScript::Hang, AgentScript::Hang]);
    let accepted = world.deploy(fleet(&["w1", "w2", ""]));
    let ids: Vec<_> = accepted.ids().values().copied().collect();
    let mut run = Box::pin(accepted.run());
    assert!(block_on(futures_lite::future::poll_once(&mut run)).is_none());
    assert_eq!(world.told(&ids), ["running", "running", "succeeded"]);
    assert_eq!(world.agents.calls().len(), 3);
    let began = world.clock.monotonic();
    world.drive(run);
    assert_eq!(world.clock.monotonic() - began, Duration::from_secs(120));
    assert_eq!(
        world.told(&ids)[0],
        "Dispatch: host w1: no answer after the call was sent, the worker may have got it: no answer within 60 s"
    );
}

#[test]
fn a_call_that_may_have_arrived_is_sent_again_with_the_same_ids() {
    let world = World::new();
    world.hears_an_id_from("w1");
    let lost = AgentError::Unconfirmed { reason: "connection reset".into() };
    world.agents.script(&host("w1"), [AgentScript::Fail(lost)]);
    let ids = world.deployed(fleet(&["w1"]));
    assert_eq!(world.told(&ids), ["running"]);
    let calls = world.agents.calls();
    assert_eq!(calls.len(), 3);
    assert_eq!(calls[1], calls[2]);
}

/// What becomes of the second call says nothing of the first.
#[test]
fn a_call_that_may_have_arrived_is_told_as_such_whatever_the_second_finds() {
    let lost = || AgentScript::Fail(AgentError::Unconfirmed { reason: "connection reset".into() });
    let gone = AgentError::Unreachable { reason: "connection refused".into() };
    let refused = AgentError::Refused { reason: "503: busy".into() };
    for second in [AgentScript::Fail(gone), AgentScript::Fail(refused), AgentScript::Panic, lost()] {
        let world = World::new();
        world.hears_an_id_from("w1");
        world.agents.script(&host("w1"), [lost(), second]);
        let told = world.told(&world.deployed(fleet(&["w1"])));
        assert!(
            told[0].starts_with("Dispatch: ") && told[0].ends_with("may have got it: connection reset"),
            "{told:?}"
        );
    }
}

/// An agent answers a teardown when it is done; behind other work of its
/// engine that may be long after the call was given up.
#[test]
fn a_teardown_without_an_answer_is_ended_by_the_worker_s_word() {
    let world = World::new();
    world.hears_an_id_from("w1");
    let lost = AgentError::Unconfirmed { reason: "no answer within 50 s".into() };
    world.agents.script(&host("w1"), [AgentScript::Fail(lost)]);
    let before = world.agents.calls().len();
    let ids = world.torn_down(TeardownRequest::new([name("a")]));
    assert_eq!(world.told(&ids), ["running"]);
    assert_eq!(world.agents.calls().len(), before + 1);
    assert!(world.placement("a").is_some());
    let gone = Delta {
        lifecycle_id: Some(ids[0]),
        decky: name("a"),
        operation: Operation::Teardown,
        report: Reported::Succeeded,
        completed_at: None,
    };
    let verdicts = block_on(world.runner.apply_deltas(&host("w1"), &[gone])).unwrap();
    assert_eq!(verdicts, [Verdict::Applied]);
    assert_eq!(world.placement("a"), None, "it is no longer placed");
    // To an agent that names no rows, no word would ever come.
    let world = World::new();
    world.deployed(fleet(&["w1"]));
    end(&world, "w1", "a");
    let lost = AgentError::Unconfirmed { reason: "no answer within 50 s".into() };
    world.agents.script(&host("w1"), [AgentScript::Fail(lost)]);
    assert!(world.told(&world.torn_down(TeardownRequest::new([name("a")])))[0].starts_with("Dispatch: "));
}

/// The worker says, naming no row, that the decky's deploy has succeeded.
fn end(world: &World, from: &str, decky: &str) {
    let said = Delta {
        lifecycle_id: None,
        decky: name(decky),
        operation: Operation::Deploy,
        report: Reported::Succeeded,
        completed_at: None,
    };
    let verdicts = block_on(world.runner.apply_deltas(&host(from), &[said])).unwrap();
    assert_eq!(verdicts, [Verdict::Applied]);
}

#[test]
fn a_shard_that_may_have_arrived_may_be_there_as_far_as_anybody_knows() {
    for (error, may_be_there) in [
        (AgentError::Unconfirmed { reason: "reset".into() }, true),
        (AgentError::Failed { reason: "disk full".into() }, true),
        (AgentError::Unreachable { reason: "refused".into() }, false),
        (AgentError::Refused { reason: "no".into() }, false),
    ] {
        let world = World::new();
        world.agents.script(&host("w1"), [AgentScript::Fail(error)]);
        world.deployed(fleet(&["w1"]));
        assert_eq!(world.placement("a").is_some(), may_be_there);
        assert_eq!(world.is_unsure("a"), may_be_there);
    }
}

/// Found by the simulation: an agent that does not look at ids runs a second
/// operation, whose word then ends a later row.
#[test]
fn a_call_is_not_sent_again_to_an_agent_that_may_not_take_ids_once() {
    let world = World::new();
    let lost = AgentError::Unconfirmed { reason: "connection reset".into() };
    world.agents.script(&host("w1"), [AgentScript::Fail(lost)]);
    let ids = world.deployed(fleet(&["w1"]));
    assert!(world.told(&ids)[0].starts_with("Dispatch: host w1: no answer"), "{:?}", world.told(&ids));
    assert_eq!(world.agents.calls().len(), 1);
}

/// Found by the simulation: its id was in the call all the same.
#[test]
fn a_row_cancelled_before_its_shard_is_sent_is_not_the_worker_s() {
    let world = World::new();
    let accepted = world.deploy(fleet(&["w1", "w1"]));
    let ids = accepted.ids().clone();
    assert_eq!(block_on(world.runner.cancel(ids[&name("a")])).unwrap(), Cancelled::Ended);
    world.drive(accepted.run());
    let [AgentCall::Deploy(_, call)] = &world.agents.calls()[..] else { panic!("not one deploy") };
    assert_eq!(call.lifecycle_ids.iter().collect::<Vec<_>>(), [(&name("b"), &ids[&name("b")])]);
}

#[test]
fn an_unreachable_agent_is_not_called_twice_and_a_panic_is_caught() {
    let world = World::new();
    let gone = AgentError::Unreachable { reason: "connection refused".into() };
    world.agents.script(&host("w1"), [AgentScript::Fail(gone)]);
    world.agents.script(&host("w2"), [AgentScript::Panic]);
    let told = world.told(&world.deployed(fleet(&["w1", "w2"])));
    assert_eq!(
        told[0],
        "Unreachable: host w1: agent not reached, the worker has not got the call: connection refused"
    );
    assert_eq!(told[1], "Panic: the agent client panicked: scripted panic");
    assert_eq!(world.agents.calls().len(), 2);
}

#[test]
fn a_swarm_mutate_goes_to_the_decky_s_host() {
    let world = World::new();
    world.deployed(fleet(&["w1", "w2"]));
    end(&world, "w2", "b");
    let id = world.mutated("b", &["ftp"]);
    assert_eq!(world.told(&[id]), ["running"]);
    let wanted = MutateCall { decky: name("b"), services: services(&["ftp"]), lifecycle_id: id };
    assert_eq!(world.agents.calls().last(), Some(&AgentCall::Mutate(host("w2"), wanted)));
}

#[test]
fn a_swarm_teardown_ends_with_the_agent_s_answer() {
    let world = World::new();
    world.deployed(fleet(&["w1", ""]));
    end(&world, "w1", "a");
    let ids = world.torn_down(TeardownRequest::new([name("a"), name("b")]));
    assert_eq!(world.told(&ids), ["succeeded"; 2]);
    assert!(world.placements().is_empty());
}

#[test]
fn cancelling_a_worker_s_row_is_kept_for_the_worker() {
    let world = World::new();
    let ids = world.deployed(fleet(&["w1"]));
    assert_eq!(block_on(world.runner.cancel(ids[0])).unwrap(), Cancelled::Requested);
    assert_eq!(world.told(&ids), ["running"]);
    assert!(world.row(ids[0]).cancel_requested_at.is_some());
}
