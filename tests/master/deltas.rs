//! Deltas: which one counts for which row, and which are refused.

use std::time::Duration;

use decnet_lifecycle::clock::Clock as _;
use decnet_lifecycle::testkit::AgentScript;
use decnet_lifecycle::{
    agent::{AgentError, Fingerprint},
    beat::{Delta, Reported, Verdict},
    *,
};
use futures_lite::future::block_on;

use crate::world::{World, fleet, host, name};

fn delta(id: Option<LifecycleId>, decky: &str, report: Reported) -> Delta {
    Delta { lifecycle_id: id, decky: name(decky), operation: Operation::Deploy, report, completed_at: None }
}

fn beat(world: &World, from: &str, deltas: &[Delta]) -> Vec<Verdict> {
    block_on(world.runner.apply_deltas(&host(from), deltas)).unwrap()
}

#[test]
fn all_deltas_of_a_beat_end_in_one_commit_with_a_verdict_each() {
    let world = World::new();
    let ids = world.deployed(fleet(&["w1", "w1", "w2", "w1"]));
    let commits = world.runner.counters().commits;
    let deltas = [
        delta(Some(ids[0]), "a", Reported::Succeeded),
        delta(Some(ids[1]), "b", Reported::Failed("no such image, password=x".into())),
        delta(Some(ids[2]), "c", Reported::Succeeded),
        delta(Some(ids[3]), "d", Reported::Running),
        delta(Some(LifecycleId::from_u128(9)), "a", Reported::Succeeded),
        delta(Some(ids[3]), "a", Reported::Succeeded),
        delta(Some(ids[0]), "a", Reported::Failed("twice".into())),
    ];
    let verdicts = beat(&world, "w1", &deltas);
    use Verdict::*;
    assert_eq!(verdicts, [Applied, Applied, WrongHost, Applied, Unknown, Malformed, AlreadyClosed]);
    assert_eq!(world.runner.counters().commits, commits + 1);
    assert_eq!(
        world.told(&ids),
        ["succeeded", "Reported: no such image, password=[scrubbed]", "running", "running"]
    );
}

#[test]
fn resending_a_beat_is_harmless() {
    let world = World::new();
    let ids = world.deployed(fleet(&["w1"]));
    let deltas = [delta(Some(ids[0]), "a", Reported::Succeeded)];
    assert_eq!(beat(&world, "w1", &deltas), [Verdict::Applied]);
    let before = world.feed();
    assert_eq!(beat(&world, "w1", &deltas), [Verdict::AlreadyClosed]);
    assert_eq!(
        beat(&world, "w1", &[delta(Some(ids[0]), "a", Reported::Failed("x".into()))]),
        [Verdict::AlreadyClosed]
    );
    assert_eq!(world.feed(), before);
}

#[test]
fn a_delta_without_an_id_matches_the_one_open_row_of_its_host() {
    let world = World::new();
    let ids = world.deployed(fleet(&["w1", "w2"]));
    assert_eq!(beat(&world, "w2", &[delta(None, "a", Reported::Succeeded)]), [Verdict::Unknown]);
    let mut other = delta(None, "a", Reported::Succeeded);
    other.operation = Operation::Mutate;
    assert_eq!(beat(&world, "w1", &[other]), [Verdict::Unknown]);
    let claim = world.clock.now().plus(Duration::from_secs(86_400));
    let mut late = delta(None, "a", Reported::Succeeded);
    late.completed_at = Some(claim);
    assert_eq!(beat(&world, "w1", &[late]), [Verdict::Applied]);
    assert_eq!(world.told(&ids), ["succeeded", "running"]);
    // The worker's clock is a claim: kept, never the row's own time.
    let row = world.row(ids[0]);
    assert_eq!(row.claimed_completion, Some(claim));
    assert!(row.completed_at().unwrap() < claim);
}

#[test]
fn a_delta_that_claims_to_be_older_than_the_dispatch_is_stale() {
    let world = World::new();
    let ids = world.deployed(fleet(&["w1"]));
    let mut old = delta(None, "a", Reported::Succeeded);
    old.completed_at = Some(world.clock.now().minus(Duration::from_secs(3_600)));
    assert_eq!(beat(&world, "w1", &[old.clone()]), [Verdict::Stale]);
    assert_eq!(world.told(&ids), ["running"]);
    // With its id it is about this row, whatever the worker's clock says.
    old.lifecycle_id = Some(ids[0]);
    assert_eq!(beat(&world, "w1", &[old]), [Verdict::Applied]);
}

#[test]
fn a_late_delta_does_not_count_until_it_can_t_be_on_its_way() {
    let world = World::new();
    world.agents.script(&host("w1"), [AgentScript::Hang]);
    let first = world.deployed(fleet(&["w1"]));
    assert!(world.told(&first)[0].starts_with("Dispatch"));
    let second = world.deployed(fleet(&["w1"]));
    assert_eq!(beat(&world, "w1", &[delta(None, "a", Reported::Succeeded)]), [Verdict::Stale]);
    assert_eq!(world.told(&second), ["running"]);
    assert_eq!(
        beat(&world, "w1", &[delta(Some(first[0]), "a", Reported::Succeeded)]),
        [Verdict::AlreadyClosed]
    );
    assert_eq!(beat(&world, "w1", &[delta(Some(second[0]), "a", Reported::Succeeded)]), [Verdict::Applied]);
    // Once attempt one's word can't be on its way any more, ids are optional.
    world.clock.advance(Duration::from_secs(2 * 3_600));
    let third = world.deployed(fleet(&["w1"]));
    assert_eq!(beat(&world, "w1", &[delta(None, "a", Reported::Succeeded)]), [Verdict::Applied]);
    assert_eq!(world.told(&third), ["succeeded"]);
}

/// Found by the simulation: the answer to a beat is lost, the worker sends its
/// delta again, and by then the decky is being deployed once more.
#[test]
fn a_delta_sent_again_does_not_end_the_next_row() {
    let world = World::new();
    let first = world.deployed(fleet(&["w1"]));
    let ended = |seconds| {
        let mut delta = delta(None, "a", Reported::Succeeded);
        delta.completed_at = Some(world.clock.now().plus(Duration::from_secs(seconds)));
        delta
    };
    let (said, next, undated) = (ended(1), ended(2), delta(None, "a", Reported::Succeeded));
    assert_eq!(beat(&world, "w1", std::slice::from_ref(&said)), [Verdict::Applied]);
    let second = world.deployed(fleet(&["w1"]));
    assert_eq!(beat(&world, "w1", &[said, undated]), [Verdict::Stale; 2]);
    assert_eq!(world.told(&second), ["running"]);
    assert_eq!(beat(&world, "w1", &[next]), [Verdict::Applied]);
    assert_eq!([world.told(&first), world.told(&second)], [["succeeded"], ["succeeded"]]);
}

/// Found by the simulation: a step of the wall clock made the earlier row look
/// old enough to be forgotten.
#[test]
fn a_clock_step_does_not_make_a_late_delta_count() {
    let world = World::new();
    world.agents.script(&host("w1"), [AgentScript::Hang]);
    let first = world.deployed(fleet(&["w1"]));
    assert!(world.told(&first)[0].starts_with("Dispatch"));
    world.clock.step_forward(Duration::from_secs(2 * 3_600));
    let second = world.deployed(fleet(&["w1"]));
    assert_eq!(beat(&world, "w1", &[delta(None, "a", Reported::Succeeded)]), [Verdict::Stale]);
    assert_eq!(world.told(&second), ["running"]);
}

#[test]
fn a_delta_for_a_row_that_was_never_dispatched_changes_nothing() {
    let world = World::new();
    let accepted = world.deploy(fleet(&["w1"]));
    let id = accepted.ids()[&name("a")];
    assert_eq!(beat(&world, "w1", &[delta(Some(id), "a", Reported::Succeeded)]), [Verdict::Stale]);
    assert_eq!(world.told(&[id]), ["pending"]);
}

#[test]
fn a_beat_of_too_many_deltas_is_bounded() {
    let world = World::new();
    let ids = world.deployed(fleet(&["w1"]));
    let mut deltas = vec![delta(Some(LifecycleId::from_u128(9)), "a", Reported::Succeeded); 512];
    deltas.push(delta(Some(ids[0]), "a", Reported::Succeeded));
    let verdicts = beat(&world, "w1", &deltas);
    assert_eq!(verdicts.len(), 513);
    assert_eq!(verdicts[512], Verdict::Malformed);
    assert_eq!(world.told(&ids), ["running"]);
}

/// A row that failed by the worker's own word, or that the agent never took,
/// says nothing against the next delta; one that nobody heard of does.
#[test]
fn which_earlier_rows_make_a_delta_without_an_id_stale() {
    let claimed = |world: &World, report| {
        let mut said = delta(None, "a", report);
        said.completed_at = Some(world.clock.now());
        said
    };
    // Reported: the worker has said its word, a later one is another's.
    let world = World::new();
    world.deployed(fleet(&["w1"]));
    assert_eq!(beat(&world, "w1", &[claimed(&world, Reported::Failed("no".into()))]), [Verdict::Applied]);
    world.clock.advance(Duration::from_secs(1));
    world.deployed(fleet(&["w1"]));
    assert_eq!(beat(&world, "w1", &[claimed(&world, Reported::Succeeded)]), [Verdict::Applied]);
    // .. but the same word again is not.
    let world = World::new();
    world.deployed(fleet(&["w1"]));
    let failed = claimed(&world, Reported::Failed("no".into()));
    assert_eq!(beat(&world, "w1", std::slice::from_ref(&failed)), [Verdict::Applied]);
    world.deployed(fleet(&["w1"]));
    assert_eq!(beat(&world, "w1", &[failed]), [Verdict::Stale]);
    // Rejected: there is no work whose word could come, with or without a date.
    let world = World::new();
    let refused = AgentError::Refused { reason: "no".into() };
    world.agents.script(&host("w1"), [AgentScript::Fail(refused)]);
    world.deployed(fleet(&["w1"]));
    world.deployed(fleet(&["w1"]));
    assert_eq!(beat(&world, "w1", &[delta(None, "a", Reported::Succeeded)]), [Verdict::Applied]);
    // Unreachable: nor could work that never arrived.
    for error in [
        AgentError::Unreachable { reason: "refused".into() },
        AgentError::Tls { reason: "no".into() },
        AgentError::WrongPin { seen: Fingerprint::of(b"another") },
    ] {
        let world = World::new();
        world.agents.script(&host("w1"), [AgentScript::Fail(error)]);
        let ids = world.deployed(fleet(&["w1"]));
        assert!(world.told(&ids)[0].starts_with("Unreachable: host w1: "), "{:?}", world.told(&ids));
        world.deployed(fleet(&["w1"]));
        assert_eq!(beat(&world, "w1", &[claimed(&world, Reported::Succeeded)]), [Verdict::Applied]);
    }
    // Unconfirmed: it may have.
    let world = World::new();
    world.agents.script(&host("w1"), [AgentScript::Fail(AgentError::Unconfirmed { reason: "reset".into() })]);
    world.deployed(fleet(&["w1"]));
    world.deployed(fleet(&["w1"]));
    assert_eq!(beat(&world, "w1", &[claimed(&world, Reported::Succeeded)]), [Verdict::Stale]);
    // Superseded: its work goes on at the worker, whatever date it gives.
    let world = World::new();
    world.deployed(fleet(&["w1"]));
    let again = DeployRequest::new(fleet(&["w1"])).overlap(Overlap::Supersede);
    let again = block_on(world.runner.accept_deploy(again)).unwrap();
    world.drive(again.run());
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(beat(&world, "w1", &[claimed(&world, Reported::Succeeded)]), [Verdict::Stale]);
}

/// Among earlier rows of other operations, and many of them.
#[test]
fn an_earlier_row_is_found_behind_many_others_and_an_old_one_is_not_looked_for() {
    let undated = |operation| Delta {
        lifecycle_id: None,
        decky: name("a"),
        operation,
        report: Reported::Succeeded,
        completed_at: None,
    };
    for (others, wait, verdict) in [
        (50, 0, Verdict::Stale),
        // So many in so short a time that it can't be said.
        (300, 0, Verdict::Stale),
        (50, 3 * 3_600, Verdict::Applied),
        (300, 3 * 3_600, Verdict::Applied),
    ] {
        let world = World::new();
        world
            .agents
            .script(&host("w1"), [AgentScript::Fail(AgentError::Unconfirmed { reason: "no".into() })]);
        world.deployed(fleet(&["w1"]));
        world.clock.advance(Duration::from_secs(wait));
        for _ in 0..others {
            // Refused, so that they say nothing against the delta themselves.
            world
                .agents
                .script(&host("w1"), [AgentScript::Fail(AgentError::Refused { reason: "no".into() })]);
            world.mutated("a", &["ftp"]);
        }
        world.clock.advance(Duration::from_secs(wait));
        world.deployed(fleet(&["w1"]));
        assert_eq!(beat(&world, "w1", &[undated(Operation::Deploy)]), [verdict], "{others}, {wait} s");
    }
}

#[test]
fn a_claim_may_be_off_by_five_minutes_and_no_more() {
    for (off, verdict) in [(300, Verdict::Applied), (301, Verdict::Stale)] {
        let world = World::new();
        world.deployed(fleet(&["w1"]));
        let mut said = delta(None, "a", Reported::Succeeded);
        said.completed_at = Some(world.clock.now().minus(Duration::from_secs(off)));
        assert_eq!(beat(&world, "w1", &[said]), [verdict], "{off} s");
    }
}

/// Naming another host's row, or the wrong decky, does not make a host one
/// that takes ids once; neither do deltas without ids.
#[test]
fn only_a_host_s_own_rows_show_that_it_names_rows() {
    let lost = || AgentError::Unconfirmed { reason: "reset".into() };
    let world = World::new();
    let ids = world.deployed(fleet(&["w1", "w2"]));
    assert_eq!(beat(&world, "w1", &[delta(Some(ids[1]), "b", Reported::Succeeded)]), [Verdict::WrongHost]);
    assert_eq!(beat(&world, "w1", &[delta(Some(ids[0]), "b", Reported::Succeeded)]), [Verdict::Malformed]);
    assert_eq!(beat(&world, "w1", &[delta(None, "a", Reported::Succeeded)]), [Verdict::Applied]);
    let before = world.agents.calls().len();
    world.agents.script(&host("w1"), [AgentScript::Fail(lost())]);
    world.deployed(fleet(&["w1"]));
    assert_eq!(world.agents.calls().len(), before + 1);
}
