//! What nobody else ends: deadlines, clock steps, silence, restarts, the feed.

use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::clock::Clock as _;
use decnet_lifecycle::testkit::EngineScript;
use decnet_lifecycle::{
    beat::{Delta, Reported, Verdict},
    lifecycle::{MasterName, Revision},
    runner::{Seen, Swept},
    store::Retention,
    *,
};
use futures_lite::future::{block_on, poll_once};

use crate::world::{World, fleet, host, name};

fn kinds(world: &World, ids: &[LifecycleId]) -> Vec<Option<FailureKind>> {
    world.rows(ids).iter().map(|row| row.failure().map(Failure::kind)).collect()
}

#[test]
fn a_restart_fails_its_own_local_rows_and_no_worker_s() {
    let world = World::new();
    world.engine.script(&name("b"), EngineScript::Hang);
    let accepted = world.deploy(fleet(&["w1", ""]));
    let ids: Vec<_> = accepted.ids().values().copied().collect();
    let mut run = Box::pin(accepted.run());
    assert!(block_on(poll_once(&mut run)).is_none());
    assert_eq!(world.told(&ids), ["running"; 2]);
    let restarted = world.restarted();
    assert_eq!((restarted.recovered.failed, restarted.recovered.left), (1, 0));
    assert_eq!(kinds(&world, &ids), [None, Some(FailureKind::MasterRestarted)]);
    assert_eq!(world.restarted().recovered.failed, 0);
    // The worker's word still counts at the new master.
    let delta = Delta {
        lifecycle_id: Some(ids[0]),
        decky: name("a"),
        operation: Operation::Deploy,
        report: Reported::Succeeded,
        completed_at: None,
    };
    let verdicts = block_on(restarted.runner.apply_deltas(&host("w1"), &[delta])).unwrap();
    assert_eq!(verdicts, [Verdict::Applied]);
}

#[test]
fn another_master_s_rows_are_left_to_it() {
    let world = World::new();
    let accepted = world.deploy(fleet(&[""]));
    let ids: Vec<_> = accepted.ids().values().copied().collect();
    let other = Runner::builder(world.store.clone(), world.engine.clone())
        .master(MasterName::parse("other").unwrap())
        .clock(world.clock.clone())
        .build()
        .unwrap();
    assert_eq!(block_on(other.recover()).unwrap().1.failed, 0);
    assert_eq!(world.told(&ids), ["pending"]);
    drop(accepted);
}

#[test]
fn a_row_past_its_deadline_fails_at_the_next_sweep_and_not_before() {
    let world = World::new();
    let accepted = world.deploy(fleet(&[""]));
    let ids: Vec<_> = accepted.ids().values().copied().collect();
    world.clock.advance(Duration::from_secs(30 * 60 - 1));
    assert_eq!(block_on(world.runner.sweep()).unwrap().failed, 0);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(block_on(world.runner.sweep()).unwrap().failed, 1);
    assert!(world.told(&ids)[0].starts_with("Deadline: nobody started it by"), "{:?}", world.told(&ids));
    // The work finds its row closed and leaves it so.
    world.drive(accepted.run());
    assert_eq!(kinds(&world, &ids), [Some(FailureKind::Deadline)]);
    assert!(world.engine.calls().is_empty());
}

/// Found by the simulation: back and forward between two sweeps look like no
/// step, and a row made between the two was due too early.
#[test]
fn a_row_made_between_a_step_back_and_one_forward_keeps_its_time() {
    let world = World::new();
    world.clock.step_back(Duration::from_secs(3_600));
    let accepted = world.deploy(fleet(&[""]));
    world.clock.step_forward(Duration::from_secs(3_600));
    assert_eq!(block_on(world.runner.sweep()).unwrap(), Swept::default());
    world.clock.advance(Duration::from_secs(30 * 60));
    assert_eq!(block_on(world.runner.sweep()).unwrap().failed, 1);
    drop(accepted);
}

#[test]
fn a_clock_that_steps_forward_fails_nothing_early() {
    let world = World::new();
    let ids = world.deployed(fleet(&["w1"]));
    block_on(world.runner.sweep()).unwrap();
    world.clock.step_forward(Duration::from_secs(86_400));
    let beat = || block_on(world.runner.apply_deltas(&host("w1"), &[])).unwrap();
    assert_eq!(block_on(world.runner.sweep()).unwrap().failed, 0);
    // The row still gets the time it was promised, and no more than that.
    for _ in 0..31 {
        world.clock.advance(Duration::from_secs(60));
        beat();
        assert_eq!(block_on(world.runner.sweep()).unwrap().failed, 0);
    }
    world.clock.advance(Duration::from_secs(3_600));
    beat();
    assert_eq!(block_on(world.runner.sweep()).unwrap().failed, 1);
    assert_eq!(kinds(&world, &ids), [Some(FailureKind::Deadline)]);
}

#[test]
fn a_clock_that_steps_back_moves_no_row_back() {
    let world = World::new();
    world.engine.script(&name("a"), EngineScript::Delay(Duration::from_secs(1)));
    let accepted = world.deploy(fleet(&[""]));
    let ids: Vec<_> = accepted.ids().values().copied().collect();
    let mut run = Box::pin(accepted.run());
    assert!(block_on(poll_once(&mut run)).is_none());
    world.clock.step_back(Duration::from_secs(3_600));
    world.drive(run);
    let row = world.row(ids[0]);
    assert_eq!(row.status(), Status::Succeeded);
    assert!(row.completed_at() >= row.running_since());
    let second = world.deployed(fleet(&[""]));
    assert!(second[0] > ids[0], "ids went back with the clock");
}

#[test]
fn a_host_that_falls_silent_loses_its_running_rows_and_no_other_host_does() {
    let world = World::new();
    let ids = world.deployed(fleet(&["w1", "w2"]));
    world.clock.advance(Duration::from_secs(4 * 60));
    block_on(world.runner.apply_deltas(&host("w2"), &[])).unwrap();
    assert_eq!(block_on(world.runner.sweep()).unwrap().failed, 0);
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(block_on(world.runner.sweep()).unwrap().failed, 1);
    assert_eq!(
        world.told(&ids)[0],
        "WorkerLost: host w1 has not been heard for 300 s; is its worker running?"
    );
    assert_eq!(world.told(&ids)[1], "running");
}

#[test]
fn a_restart_gives_every_host_a_fresh_grace() {
    let world = World::new();
    let ids = world.deployed(fleet(&["w1"]));
    world.clock.advance(Duration::from_secs(299));
    let restarted = world.restarted();
    world.clock.advance(Duration::from_secs(299));
    assert_eq!(block_on(restarted.runner.sweep()).unwrap().failed, 0);
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(block_on(restarted.runner.sweep()).unwrap().failed, 1);
    assert_eq!(kinds(&world, &ids), [Some(FailureKind::WorkerLost)]);
}

#[test]
fn a_future_dropped_midway_strands_no_row() {
    let world = World::new();
    world.engine.script(&name("a"), EngineScript::Hang);
    let accepted = world.deploy(fleet(&["", "w1"]));
    let ids: Vec<_> = accepted.ids().values().copied().collect();
    let mut run = Box::pin(accepted.run());
    assert!(block_on(poll_once(&mut run)).is_none());
    drop(run);
    assert_eq!(world.runner.counters().active, 0);
    block_on(world.runner.sweep()).unwrap();
    assert_eq!(kinds(&world, &ids), [Some(FailureKind::Abandoned), None]);
}

#[test]
fn maintain_sweeps_and_prunes_regularly() {
    let world = World::new();
    let runner = Runner::builder(world.store.clone(), world.engine.clone())
        .clock(world.clock.clone())
        .keep_closed(Duration::from_secs(3_600))
        .build()
        .unwrap();
    let (runner, _) = block_on(runner.recover()).unwrap();
    let accepted = block_on(runner.accept_deploy(DeployRequest::new(fleet(&[""])))).unwrap();
    let id = accepted.ids()[&name("a")];
    let mut maintain = Box::pin(runner.maintain());
    let mut pass = |seconds| {
        world.clock.advance(Duration::from_secs(seconds));
        assert!(block_on(poll_once(&mut maintain)).is_none());
        block_on(runner.get(&[id])).unwrap().pop().map(|row| row.status())
    };
    assert_eq!(pass(0), Some(Status::Pending));
    assert_eq!(pass(1_801), Some(Status::Failed));
    assert_eq!(pass(3_000), Some(Status::Failed));
    assert_eq!(pass(1_000), None);
    drop(accepted);
}

#[test]
fn maintenance_ends_and_says_why_once_there_is_no_store_any_more() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let store = Arc::new(store::RedbStore::open(dir.path().join("rows.redb")).unwrap());
    let built =
        Runner::builder(store.clone(), world.engine.clone()).clock(world.clock.clone()).build().unwrap();
    let (runner, _) = block_on(built.recover()).unwrap();
    let mut maintain = Box::pin(runner.maintain());
    world.clock.advance(Duration::from_secs(15));
    assert!(block_on(poll_once(&mut maintain)).is_none());
    block_on(store.close()).unwrap();
    world.clock.advance(Duration::from_secs(15));
    let gone = block_on(maintain);
    assert_eq!((gone.why.as_str(), gone.to_string().contains("it was closed")), ("it was closed", true));
    // One that is begun too late says so at once.
    assert_eq!(block_on(runner.maintain()), gone);
}

#[test]
fn a_watcher_sees_every_change_once_and_hears_of_compaction() {
    let world = World::new();
    let mut watch = world.runner.watch(Revision::ZERO);
    world.deployed(fleet(&["", ""]));
    let mut seen = Vec::new();
    while let Some(next) = block_on(watch.try_next()).unwrap() {
        let Seen::Changed(entry) = next else { panic!("{next:?}") };
        seen.push(entry);
    }
    assert_eq!(seen, world.feed());
    let mut waiting = Box::pin(watch.next());
    assert!(block_on(poll_once(&mut waiting)).is_none());
    let accepted = world.deploy(fleet(&[""]));
    assert!(matches!(block_on(waiting).unwrap(), Seen::Changed(entry) if entry.status == Status::Pending));
    drop(accepted);
    let policy = Retention::closed_before(world.clock.now().plus(Duration::from_secs(1)));
    block_on(world.runner.prune(&policy)).unwrap();
    let mut late = world.runner.watch(Revision::ZERO);
    assert!(matches!(block_on(late.next()).unwrap(), Seen::Compacted { .. }));
}

#[test]
fn a_restart_fails_what_ran_and_takes_up_again_what_had_not_begun() {
    let world = World::new();
    world.engine.script(&name("a"), EngineScript::Hang);
    let accepted = world.deploy(fleet(&[""]));
    let mut ids: Vec<_> = accepted.ids().values().copied().collect();
    let mut run = Box::pin(accepted.run());
    assert!(block_on(poll_once(&mut run)).is_none());
    let waiting = DeployRequest::new(fleet(&["", ""])).only([name("b")]);
    let waiting = block_on(world.runner.accept_deploy(waiting)).unwrap();
    ids.extend(waiting.ids().values());
    let mut restarted = world.restarted();
    let mut recovered = std::mem::take(&mut restarted.recovered);
    assert_eq!((recovered.failed, recovered.left, recovered.accepted.len()), (1, 0, 1));
    let told = world.told(&ids);
    assert!(told[0].starts_with("MasterRestarted: ") && told[0].contains("while it ran"), "{told:?}");
    assert_eq!(told[1], "pending");
    let again = recovered.accepted.remove(0);
    assert_eq!(again.ids(), waiting.ids());
    assert!(!again.is_repeat());
    restarted.drive(again.run());
    assert_eq!(world.told(&ids)[1], "succeeded");
    let calls = restarted.engine.calls();
    assert_eq!((calls.len(), calls[0].deckies.len()), (1, 1));
}

/// A row that could not be ended is counted, and left to the next sweep.
#[test]
fn a_sweep_that_the_store_refuses_counts_what_is_left() {
    use decnet_lifecycle::testkit::{FaultyStore, StoreFault};
    let memory = World::new();
    let store = std::sync::Arc::new(FaultyStore::new(memory.store.clone()));
    let world = World::over(store.clone(), memory.clock.clone());
    for fault in [StoreFault::NotCommitted, StoreFault::UnknownLost] {
        drop(world.deploy(fleet(&[""])));
        store.fail_commits([fault]);
        let swept = block_on(world.runner.sweep()).unwrap();
        assert_eq!((swept.failed, swept.left), (0, 1));
        let swept = block_on(world.runner.sweep()).unwrap();
        assert_eq!((swept.failed, swept.left), (1, 0));
    }
}
