//! What went wrong in the original, one test each.

use std::time::Duration;

use decnet_lifecycle::testkit::{AgentScript, EngineScript, FaultyStore, StoreFault};
use decnet_lifecycle::{
    agent::AgentError,
    beat::{Delta, Reported, Verdict},
    *,
};
use futures_lite::future::{block_on, poll_once};

use crate::world::{World, fleet, host, name, services};

fn delta(id: Option<LifecycleId>, report: Reported) -> Delta {
    Delta { lifecycle_id: id, decky: name("a"), operation: Operation::Deploy, report, completed_at: None }
}

fn beat(world: &World, delta: Delta) -> Verdict {
    block_on(world.runner.apply_deltas(&host("w1"), &[delta])).unwrap()[0]
}

#[test]
fn a_terminal_row_is_not_flipped_by_a_late_success() {
    let world = World::new();
    let ids = world.deployed(fleet(&["w1"]));
    assert_eq!(beat(&world, delta(Some(ids[0]), Reported::Failed("exit 1".into()))), Verdict::Applied);
    let before = world.row(ids[0]);
    assert_eq!(beat(&world, delta(Some(ids[0]), Reported::Succeeded)), Verdict::AlreadyClosed);
    assert_eq!(beat(&world, delta(None, Reported::Succeeded)), Verdict::Unknown);
    assert_eq!(world.row(ids[0]), before);
}

#[test]
fn a_late_delta_of_attempt_one_does_not_seal_attempt_two() {
    let world = World::new();
    let first = world.deployed(fleet(&["w1"]));
    let again = DeployRequest::new(fleet(&["w1"])).overlap(Overlap::Supersede);
    let again = block_on(world.runner.accept_deploy(again)).unwrap();
    let second = again.ids()[&name("a")];
    world.drive(again.run());
    assert_eq!(beat(&world, delta(None, Reported::Succeeded)), Verdict::Stale);
    assert_eq!(beat(&world, delta(Some(first[0]), Reported::Succeeded)), Verdict::AlreadyClosed);
    assert_eq!(world.told(&[second]), ["running"]);
}

#[test]
fn no_rows_are_orphaned_when_making_the_rows_of_a_request_fails() {
    for fault in [StoreFault::NotCommitted, StoreFault::UnknownLost, StoreFault::UnknownLanded] {
        let memory = World::new();
        let store = std::sync::Arc::new(FaultyStore::new(memory.store.clone()));
        let world = World::over(store.clone(), memory.clock.clone());
        store.fail_commits([fault]);
        let refused = block_on(world.runner.accept_deploy(DeployRequest::new(fleet(&["", "", "w1"]))));
        assert!(matches!(refused, Err(AcceptError::Store(_))), "{refused:?}");
        // All three or none; and what nobody knows of ends at the next sweep.
        let made = world.feed().len();
        assert!(made == if fault == StoreFault::UnknownLanded { 3 } else { 0 }, "{made}");
        assert_eq!(block_on(world.runner.sweep()).unwrap().failed, made);
        world.deployed(fleet(&["", "", "w1"]));
    }
}

#[test]
fn a_strategy_that_crashes_leaves_no_row_open() {
    let world = World::new();
    world.engine.script(&name("b"), EngineScript::Panic);
    world.agents.script(&host("w1"), [AgentScript::Panic]);
    let told = world.told(&world.deployed(fleet(&["w1", "", ""])));
    assert!(told.iter().all(|told| told.starts_with("Panic: ")), "{told:?}");
}

#[test]
fn a_remote_part_that_fails_does_not_keep_local_rows_waiting() {
    let world = World::new();
    world.agents.script(&host("w1"), [AgentScript::Hang]);
    let refused = AgentError::Refused { reason: "no".into() };
    world.agents.script(&host("w2"), [AgentScript::Fail(refused)]);
    let accepted = world.deploy(fleet(&["w1", "w2", "", ""]));
    let ids: Vec<_> = accepted.ids().values().copied().collect();
    let mut run = Box::pin(accepted.run());
    assert!(block_on(poll_once(&mut run)).is_none());
    // No time has passed, and one host still hangs.
    let told = world.told(&ids);
    assert_eq!(told, ["running", "Rejected: host w2: agent refused: no", "succeeded", "succeeded"]);
}

#[test]
fn overlapping_deploys_of_one_decky_are_one_deploy() {
    let world = World::new();
    world.engine.script(&name("a"), EngineScript::Delay(Duration::from_secs(60)));
    let accepted = world.deploy(fleet(&[""]));
    let mut run = Box::pin(accepted.run());
    assert!(block_on(poll_once(&mut run)).is_none());
    let second = block_on(world.runner.accept_deploy(DeployRequest::new(fleet(&[""]))));
    assert!(matches!(second, Err(AcceptError::Busy(_))), "{second:?}");
    world.drive(run);
    assert_eq!(world.engine.calls().len(), 1);
}

#[test]
fn a_mutate_whose_engine_failed_keeps_the_services_from_before() {
    let world = World::new();
    world.deployed(fleet(&["", ""]));
    for script in [
        EngineScript::Fail(Failure::new(FailureKind::Engine, "no")),
        EngineScript::FailAll(Failure::new(FailureKind::Engine, "no")),
        EngineScript::Panic,
        EngineScript::Forget,
    ] {
        world.engine.script(&name("a"), script);
        let id = world.mutated("a", &["ftp"]);
        assert_eq!(world.row(id).status(), Status::Failed);
        // After a panic nobody knows; else the engine has put things back.
        let placement = world.placement("a").unwrap();
        assert_eq!(placement.standing_possibilities()[0].config.services, services(&["ssh", "http"]));
        if world.row(id).failure().map(Failure::kind) == Some(FailureKind::Panic) {
            assert!(world.is_unsure("a"));
            world.engine.script(&name("a"), EngineScript::Succeed);
            world.deployed(fleet(&["", ""]));
        }
        assert_eq!(world.up_with("a"), services(&["ssh", "http"]));
    }
}

#[test]
fn an_error_is_not_cut_inside_a_character() {
    let world = World::new();
    let ids = world.deployed(fleet(&["w1"]));
    assert_eq!(beat(&world, delta(Some(ids[0]), Reported::Failed("🐝é".repeat(3_000)))), Verdict::Applied);
    let told = world.row(ids[0]).failure().unwrap().to_string();
    assert_eq!(told.chars().count(), 2_000);
    assert!(told.chars().skip("Reported: ".len()).all(|c| c == '🐝' || c == 'é'));
}

#[test]
fn stale_rows_are_swept_also_while_the_master_runs() {
    let world = World::new();
    let ids = world.deployed(fleet(&["w1"]));
    let mut maintain = Box::pin(world.runner.maintain());
    for _ in 0..10_000 {
        assert!(block_on(poll_once(&mut maintain)).is_none());
        if !world.row(ids[0]).is_open() {
            break;
        }
        assert!(world.clock.advance_to_next());
    }
    assert_eq!(world.row(ids[0]).failure().map(Failure::kind), Some(FailureKind::WorkerLost));
}

#[test]
fn secrets_of_a_command_line_do_not_reach_the_row() {
    let world = World::new();
    let text =
        "`docker login -u me --password hunter2 https://me:hunter2@registry` exited 1: API_TOKEN=hunter2";
    world.engine.script(&name("a"), EngineScript::Fail(Failure::new(FailureKind::Engine, text)));
    let ids = world.deployed(fleet(&["", "w1"]));
    let mut said = delta(Some(ids[1]), Reported::Failed(text.into()));
    said.decky = name("b");
    assert_eq!(beat(&world, said), Verdict::Applied);
    for told in world.told(&ids) {
        assert!(told.contains("docker login") && told.contains("[scrubbed]"), "{told}");
    }
    assert!(!format!("{:?} {:?}", world.rows(&ids), world.feed()).contains("hunter2"));
    while let Some(event) = world.bus_events.try_next() {
        assert!(!format!("{event:?}").contains("hunter2"));
    }
}
