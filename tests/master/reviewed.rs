//! Bugs that a review has found, each with its siblings.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use decnet_lifecycle::testkit::{AgentScript, EngineScript, FaultyStore, StoreFault, VirtualClock};
use decnet_lifecycle::{
    agent::{AgentError, Agents, DeployCall, Host, MutateCall, Pin, StaticHosts, TeardownCall},
    beat::{Beat, Delta, Reported, Verdict},
    clock::Clock,
    decide::{Annotate, Batch, Change, Outcome},
    lifecycle::Revision,
    placement::Placement,
    runner::{Seen, Swept, Watch},
    store::{Feed, MemoryStore, Page, PlacementQuery, Pruned, Query, Retention, Store},
    *,
};
use futures_lite::future::{block_on, poll_once};

use crate::world::{World, fleet, host, name, services};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// A master whose store fails as it is told.
fn faulty() -> (World, Arc<FaultyStore>) {
    let memory = World::new();
    let store = Arc::new(FaultyStore::new(memory.store.clone()));
    (World::over(store.clone(), memory.clock.clone()), store)
}

fn kind(world: &World, id: LifecycleId) -> Option<FailureKind> {
    world.row(id).failure().map(Failure::kind)
}

fn silent_beat() -> Beat {
    Beat::from_json(
        br#"{"host_uuid": "w1", "agent_version": "1", "status": {}, "topology": {}, "open_rows": 7}"#,
    )
    .unwrap()
}

#[test]
fn how_a_row_ended_is_kept_when_the_commit_is_unknown_and_the_next_reads_fail() {
    for fault in [StoreFault::UnknownLost, StoreFault::UnknownLanded] {
        for reads in 0..4 {
            let (world, store) = faulty();
            world.engine.script(&name("a"), EngineScript::Delay(Duration::from_secs(1)));
            let accepted = world.deploy(fleet(&["", ""]));
            let ids: Vec<_> = accepted.ids().values().copied().collect();
            let mut run = Box::pin(accepted.run());
            assert!(block_on(poll_once(&mut run)).is_none());
            store.fail_commits([fault]);
            store.fail_reads(reads);
            world.drive(run);
            assert_eq!(world.told(&ids), ["succeeded"; 2], "{fault:?}, {reads} failing reads");
            assert_eq!(world.engine.calls().len(), 1);
        }
    }
    // An agent's answer to a teardown is evidence as well.
    let (world, store) = faulty();
    let ids = world.deployed(fleet(&["w1"]));
    let said = Delta {
        lifecycle_id: None,
        decky: name("a"),
        operation: Operation::Deploy,
        report: Reported::Succeeded,
        completed_at: None,
    };
    block_on(world.runner.apply_deltas(&host("w1"), &[said])).unwrap();
    let accepted = block_on(world.runner.accept_teardown(TeardownRequest::new([name("a")]))).unwrap();
    let id = accepted.ids()[&name("a")];
    store.fail_commits([StoreFault::None, StoreFault::UnknownLost]);
    let mut run = Box::pin(accepted.run());
    // The reads before the call go well.
    let first = block_on(poll_once(&mut run));
    store.fail_reads(2);
    if first.is_none() {
        world.drive(run);
    }
    assert_eq!(world.told(&[ids[0], id]), ["succeeded"; 2]);
}

/// A step to running of unknown fate, and a store that can't be read then.
#[test]
fn a_row_that_could_not_be_started_ends_and_does_not_wait_for_its_deadline() {
    for fault in [StoreFault::NotCommitted, StoreFault::UnknownLost, StoreFault::UnknownLanded] {
        for (hosts, reads) in
            [["", ""], ["w1", "w1"]].into_iter().flat_map(|hosts| (0..4).map(move |n| (hosts, n)))
        {
            let (world, store) = faulty();
            let accepted = world.deploy(fleet(&hosts));
            let ids: Vec<_> = accepted.ids().values().copied().collect();
            store.fail_commits([fault]);
            store.fail_reads(reads);
            world.drive(accepted.run());
            store.heal();
            for id in ids {
                assert_eq!(kind(&world, id), Some(FailureKind::Store), "{fault:?}, {reads} failing reads");
            }
            assert!(world.engine.calls().is_empty() && world.agents.calls().is_empty());
        }
    }
}

#[test]
fn a_watcher_that_is_ahead_of_the_feed_is_told_and_goes_on() {
    let world = World::new();
    world.deployed(fleet(&[""]));
    let head = block_on(world.runner.head()).unwrap();
    assert_eq!(head, Revision::new(3));
    let clock: Arc<dyn Clock> = world.clock.clone();
    let ahead = Revision::new(5_000);
    for mut watch in [world.runner.watch(ahead), Watch::new(world.store.clone(), clock, ahead)] {
        let before = block_on(world.runner.head()).unwrap();
        assert_eq!(block_on(watch.try_next()).unwrap(), Some(Seen::Ahead { head: before }));
        assert_eq!(block_on(watch.try_next()).unwrap(), None);
        world.deployed(fleet(&[""]));
        let Seen::Changed(entry) = block_on(watch.next()).unwrap() else { panic!("no change") };
        assert_eq!(entry.revision, before.next());
    }
    // At the head is not ahead of it.
    let head = block_on(world.runner.head()).unwrap();
    assert_eq!(block_on(world.runner.watch(head).try_next()).unwrap(), None);
}

#[test]
fn a_dispatch_under_way_is_nobody_s_silence() {
    let world = World::new();
    let old = world.deployed(fleet(&["w1"]))[0];
    world.clock.advance(Duration::from_secs(295));
    world.agents.script(&host("w1"), [AgentScript::Hang]);
    let accepted =
        block_on(world.runner.accept_deploy(DeployRequest::new(fleet(&["w1", "w1"])).only([name("b")])));
    let accepted = accepted.unwrap();
    let new = accepted.ids()[&name("b")];
    let mut run = Box::pin(accepted.run());
    assert!(block_on(poll_once(&mut run)).is_none());
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(block_on(world.runner.sweep()).unwrap().failed, 1);
    assert_eq!(kind(&world, old), Some(FailureKind::WorkerLost));
    assert_eq!(world.told(&[new]), ["running"]);
    world.drive(run);
    assert_eq!(kind(&world, new), Some(FailureKind::Dispatch));
}

/// Agents that take their time.
#[derive(Debug)]
struct Slow(Arc<VirtualClock>);

#[async_trait]
impl Agents for Slow {
    async fn deploy(&self, _: &Host, _: &DeployCall) -> Result<(), AgentError> {
        self.0.sleep(Duration::from_secs(20)).await;
        Ok(())
    }

    async fn mutate(&self, _: &Host, _: &MutateCall) -> Result<(), AgentError> {
        Ok(())
    }

    async fn teardown(&self, _: &Host, _: &TeardownCall) -> Result<(), AgentError> {
        Ok(())
    }
}

/// What is handed over after its host's silence ran out is the worker's as any.
#[test]
fn a_row_handed_over_after_its_host_s_silence_can_be_stopped_and_be_lost() {
    let world = World::new();
    let w1 = Host { id: host("w1"), address: "w1:1".into(), pin: Pin::CaOnly };
    let runner = Runner::builder(world.store.clone(), world.engine.clone())
        .swarm(Arc::new(Slow(world.clock.clone())), Arc::new(StaticHosts::new([w1])))
        .clock(world.clock.clone())
        .build()
        .unwrap();
    let (runner, _) = block_on(runner.recover()).unwrap();
    block_on(runner.apply_deltas(&host("w1"), &[])).unwrap();
    world.clock.advance(Duration::from_secs(295));
    let accepted = block_on(runner.accept_deploy(DeployRequest::new(fleet(&["w1"])))).unwrap();
    let id = accepted.ids()[&name("a")];
    let mut run = Box::pin(accepted.run());
    assert!(block_on(poll_once(&mut run)).is_none());
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(block_on(runner.sweep()).unwrap(), Swept::default());
    world.drive(run);
    assert_eq!(world.told(&[id]), ["running"]);
    block_on(runner.cancel(id)).unwrap();
    assert_eq!(block_on(runner.take_beat(&host("w1"), &silent_beat())).unwrap().cancel, [id]);
    world.clock.advance(Duration::from_secs(301));
    assert_eq!(block_on(runner.sweep()).unwrap().failed, 1);
    assert_eq!(kind(&world, id), Some(FailureKind::WorkerLost));
}

/// A master that was paused could not hear anybody.
#[test]
fn a_master_that_was_paused_gives_every_host_its_whole_silence_anew() {
    let world = World::new();
    let ids = world.deployed(fleet(&["w1"]));
    let mut maintain = Box::pin(world.runner.maintain());
    assert!(block_on(poll_once(&mut maintain)).is_none());
    world.clock.advance(Duration::from_secs(1_000));
    assert!(block_on(poll_once(&mut maintain)).is_none());
    assert_eq!(world.told(&ids), ["running"]);
    for _ in 0..22 {
        world.clock.advance(Duration::from_secs(15));
        assert!(block_on(poll_once(&mut maintain)).is_none());
    }
    assert_eq!(kind(&world, ids[0]), Some(FailureKind::WorkerLost));
}

/// What became of a row may have been told to a master that could not hear it:
/// its deadline counts once its worker was heard, or is silent.
#[test]
fn a_row_whose_deadline_passed_in_a_pause_waits_for_its_worker_s_word() {
    let world = World::new();
    let (a, b) = {
        let ids = world.deployed(fleet(&["w1", "w2"]));
        (ids[0], ids[1])
    };
    let mut maintain = Box::pin(world.runner.maintain());
    let mut pass = |seconds| {
        world.clock.advance(Duration::from_secs(seconds));
        assert!(block_on(poll_once(&mut maintain)).is_none());
    };
    pass(0);
    pass(2 * 3_600);
    assert_eq!(world.told(&[a, b]), ["running", "running"]);
    let said = Delta {
        lifecycle_id: Some(a),
        decky: name("a"),
        operation: Operation::Deploy,
        report: Reported::Succeeded,
        completed_at: None,
    };
    assert_eq!(block_on(world.runner.apply_deltas(&host("w1"), &[said])).unwrap(), [Verdict::Applied]);
    (0..19).for_each(|_| pass(15));
    assert_eq!(world.told(&[a, b]), ["succeeded", "running"]);
    // Heard, and no word of the row.
    block_on(world.runner.apply_deltas(&host("w2"), &[])).unwrap();
    pass(15);
    assert_eq!(kind(&world, b), Some(FailureKind::Deadline));
}

#[test]
fn a_silent_host_s_row_whose_deadline_passed_in_a_pause_ends_all_the_same() {
    let world = World::new();
    let id = world.deployed(fleet(&["w1"]))[0];
    let mut maintain = Box::pin(world.runner.maintain());
    assert!(block_on(poll_once(&mut maintain)).is_none());
    world.clock.advance(Duration::from_secs(2 * 3_600));
    for _ in 0..22 {
        assert!(block_on(poll_once(&mut maintain)).is_none());
        world.clock.advance(Duration::from_secs(15));
    }
    assert_eq!(kind(&world, id), Some(FailureKind::WorkerLost));
}

/// A store whose next read of open rows takes as long as a pause of the whole
/// process.
#[derive(Debug)]
struct Paused(MemoryStore, Arc<VirtualClock>, std::sync::atomic::AtomicBool);

#[async_trait]
impl Store for Paused {
    async fn commit(&self, batch: Batch) -> Result<Vec<Outcome>, StoreError> {
        self.0.commit(batch).await
    }

    async fn read(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
        self.0.read(ids).await
    }

    async fn query(&self, query: &Query) -> Result<Page, StoreError> {
        if self.2.swap(false, std::sync::atomic::Ordering::SeqCst) {
            self.1.advance(Duration::from_secs(1_000));
        }
        self.0.query(query).await
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Feed, StoreError> {
        self.0.changes(after, limit).await
    }

    async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, StoreError> {
        self.0.placements(query).await
    }

    async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError> {
        self.0.prune(policy).await
    }
}

#[test]
fn a_pause_in_the_middle_of_a_sweep_is_nobody_s_silence() {
    let clock = Arc::new(VirtualClock::new());
    let store = Arc::new(Paused(MemoryStore::new(), clock.clone(), false.into()));
    let world = World::over(store.clone(), clock);
    let ids = world.deployed(fleet(&["w1"]));
    let mut maintain = Box::pin(world.runner.maintain());
    assert!(block_on(poll_once(&mut maintain)).is_none());
    store.2.store(true, std::sync::atomic::Ordering::SeqCst);
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(15));
        assert!(block_on(poll_once(&mut maintain)).is_none());
        assert_eq!(world.told(&ids), ["running"]);
    }
}

#[test]
fn a_row_that_its_worker_did_not_name_before_a_pause_has_its_time_anew() {
    let world = World::new();
    world.hears_an_id_from("w1");
    let id = world.mutated("a", &["ssh"]);
    let mut maintain = Box::pin(world.runner.maintain());
    assert!(block_on(poll_once(&mut maintain)).is_none());
    let naming = br#"{"host_uuid": "w1", "agent_version": "1", "status": {}, "open_rows": []}"#;
    let naming = Beat::from_json(naming).unwrap();
    let beat = || block_on(world.runner.take_beat(&host("w1"), &naming)).unwrap();
    beat();
    world.clock.advance(Duration::from_secs(1_000));
    assert!(block_on(poll_once(&mut maintain)).is_none());
    beat();
    assert_eq!(world.told(&[id]), ["running"]);
    world.clock.advance(Duration::from_secs(91));
    beat();
    assert_eq!(kind(&world, id), Some(FailureKind::WorkerLost));
}

/// What is handed over without the agent's answer counts from then on.
#[test]
fn a_row_handed_over_in_its_host_s_silence_is_lost_after_another() {
    let world = World::new();
    world.hears_an_id_from("w1");
    world.clock.advance(Duration::from_secs(295));
    world.agents.script(&host("w1"), [AgentScript::Hang]);
    let accepted = block_on(world.runner.accept_teardown(TeardownRequest::all())).unwrap();
    let id = accepted.ids()[&name("a")];
    let mut run = Box::pin(accepted.run());
    assert!(block_on(poll_once(&mut run)).is_none());
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(block_on(world.runner.sweep()).unwrap(), Swept::default());
    world.drive(run);
    world.clock.advance(Duration::from_secs(299));
    assert_eq!(block_on(world.runner.sweep()).unwrap().failed, 0);
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(block_on(world.runner.sweep()).unwrap().failed, 1);
    assert_eq!(kind(&world, id), Some(FailureKind::WorkerLost));
}

/// A restarted master has heard nobody, and says so.
#[test]
fn a_restarted_master_says_that_it_has_not_heard_a_host_since_then() {
    let world = World::new();
    let id = world.deployed(fleet(&["w1"]))[0];
    let why = |world: &World| block_on(world.runner.explain(id)).unwrap().unwrap().to_string();
    assert!(why(&world).contains("host w1 last heard 0 s ago"), "{}", why(&world));
    let restarted = world.restarted();
    world.clock.advance(Duration::from_secs(100));
    assert!(why(&restarted).contains("host w1 not heard since this master started"), "{}", why(&restarted));
    assert_eq!(restarted.runner.silent_for(&host("w1")), None);
}

#[test]
fn a_row_cancelled_during_a_dispatch_that_failed_is_not_asked_for_ever_to_stop() {
    let world = World::new();
    world.agents.script(&host("w1"), [AgentScript::Hang]);
    let accepted = world.deploy(fleet(&["w1"]));
    let id = accepted.ids()[&name("a")];
    let mut run = Box::pin(accepted.run());
    assert!(block_on(poll_once(&mut run)).is_none());
    assert_eq!(block_on(world.runner.cancel(id)).unwrap(), Cancelled::Requested);
    world.drive(run);
    assert_eq!(kind(&world, id), Some(FailureKind::Dispatch));
    let stop = || block_on(world.runner.take_beat(&host("w1"), &silent_beat())).unwrap().cancel;
    assert!(stop().is_empty());
    // Ended in another way: by a sweep, by a newer row, by a delta.
    let ends: [fn(&World, LifecycleId); 3] = [
        |world, _| {
            world.clock.advance(Duration::from_secs(40 * 60));
            block_on(world.runner.apply_deltas(&host("w1"), &[])).unwrap();
            block_on(world.runner.sweep()).unwrap();
        },
        |world, _| {
            let newer = DeployRequest::new(fleet(&["w1"])).overlap(Overlap::Supersede);
            drop(block_on(world.runner.accept_deploy(newer)).unwrap());
            block_on(world.runner.sweep()).unwrap();
        },
        |world, id| {
            let said = Delta {
                lifecycle_id: Some(id),
                decky: name("a"),
                operation: Operation::Deploy,
                report: Reported::Succeeded,
                completed_at: None,
            };
            block_on(world.runner.apply_deltas(&host("w1"), &[said])).unwrap();
        },
    ];
    for end in ends {
        let id = world.deployed(fleet(&["w1"]))[0];
        block_on(world.runner.cancel(id)).unwrap();
        assert_eq!(stop(), [id]);
        end(&world, id);
        assert!(!world.row(id).is_open());
        assert!(stop().is_empty());
    }
}

#[test]
fn a_clock_that_is_put_right_by_a_year_holds_no_row_open() {
    for restarts in [false, true] {
        let mut world = World::new();
        world.clock.step_forward(YEAR);
        let ids = world.deployed(fleet(&["w1"]));
        let waits =
            block_on(world.runner.accept_deploy(DeployRequest::new(fleet(&["w1", ""])).only([name("b")])))
                .unwrap();
        let pending = waits.ids()[&name("b")];
        world.clock.step_back(YEAR);
        let mut again = Vec::new();
        if restarts {
            world = world.restarted();
            again = std::mem::take(&mut world.recovered.accepted);
        }
        let mut ended_after = [0; 2];
        for minute in 1..=60 {
            world.clock.advance(Duration::from_secs(60));
            block_on(world.runner.apply_deltas(&host("w1"), &[])).unwrap();
            block_on(world.runner.sweep()).unwrap();
            for (row, ended) in [ids[0], pending].into_iter().zip(&mut ended_after) {
                if *ended == 0 && !world.row(row).is_open() {
                    *ended = minute;
                }
            }
        }
        assert_eq!([kind(&world, ids[0]), kind(&world, pending)], [Some(FailureKind::Deadline); 2]);
        // Nothing early, and nothing long after its time.
        assert!((32..=34).contains(&ended_after[0]), "{ended_after:?}");
        assert!((30..=32).contains(&ended_after[1]), "{ended_after:?}");
        drop((again, waits));
    }
}

#[test]
fn one_entry_dated_in_the_future_holds_no_compaction_up() {
    let world = World::new();
    world.clock.step_forward(YEAR);
    world.deployed(fleet(&[""]));
    world.clock.step_back(YEAR);
    for _ in 0..50 {
        world.deployed(fleet(&[""]));
    }
    world.clock.advance(Duration::from_secs(60 * 86_400));
    let policy = Retention::closed_before(world.clock.now().minus(Duration::from_secs(30 * 86_400)));
    let pruned = block_on(world.runner.prune(&policy)).unwrap();
    // The row that brought up what is up now is named by it, and stays.
    assert!(pruned.rows >= 49 && pruned.entries >= 100, "{pruned:?}");
}

/// More is pruned in one go of maintenance than fits in one go of the store.
#[test]
fn maintenance_prunes_all_that_is_old_enough() {
    let world = World::new();
    let runner = Runner::builder(world.store.clone(), world.engine.clone())
        .clock(world.clock.clone())
        .keep_closed(Duration::from_secs(3_600))
        .build()
        .unwrap();
    let (runner, _) = block_on(runner.recover()).unwrap();
    world.engine.script(&name("a"), EngineScript::Fail(Failure::new(FailureKind::Engine, "no")));
    for _ in 0..1_500 {
        block_on(block_on(runner.accept_deploy(DeployRequest::new(fleet(&[""])))).unwrap().run());
    }
    let mut maintain = Box::pin(runner.maintain());
    assert!(block_on(poll_once(&mut maintain)).is_none());
    world.clock.advance(Duration::from_secs(7_200));
    // No time passes, so that it is one go.
    for _ in 0..100 {
        assert!(block_on(poll_once(&mut maintain)).is_none());
    }
    assert!(block_on(runner.list(&Query::new())).unwrap().records.is_empty());
}

#[test]
fn the_bus_hears_of_running_also_for_a_row_that_was_asked_to_stop_before() {
    let world = World::new();
    let accepted = world.deploy(fleet(&[""]));
    let id = accepted.ids()[&name("a")];
    // As if another master of the same store had asked.
    let note = Annotate { id, cancel_requested_at: world.clock.now() };
    drop(block_on(world.store.commit(Batch::per_row(vec![Change::Annotate(note)]))).unwrap());
    world.drive(accepted.run());
    let told: Vec<_> = std::iter::from_fn(|| world.bus_events.try_next()).map(|event| event.status).collect();
    assert_eq!(told, [Status::Pending, Status::Running, Status::Failed]);
}

/// A note is in the feed, and no news for the bus.
#[test]
fn the_bus_does_not_hear_of_a_wish_to_stop() {
    let world = World::new();
    let id = world.deployed(fleet(&["w1"]))[0];
    while world.bus_events.try_next().is_some() {}
    let fed = world.feed().len();
    block_on(world.runner.cancel(id)).unwrap();
    assert_eq!(world.feed().len(), fed + 1);
    assert_eq!(world.bus_events.try_next(), None);
}

#[test]
fn a_cancel_that_is_dropped_or_can_t_read_stops_the_engine_once_its_wish_is_durable() {
    let mut durable = 0;
    for polls in 0..20 {
        let (world, store) = faulty();
        world.engine.script(&name("a"), EngineScript::Hang);
        let accepted = world.deploy(fleet(&[""]));
        let id = accepted.ids()[&name("a")];
        let mut run = Box::pin(accepted.run());
        assert!(block_on(poll_once(&mut run)).is_none());
        store.wait(1);
        let mut cancel = Box::pin(world.runner.cancel(id));
        let mut ended = false;
        for _ in 0..polls {
            ended = block_on(poll_once(&mut cancel)).is_some();
            if ended {
                break;
            }
        }
        drop(cancel);
        store.heal();
        if world.row(id).cancel_requested_at.is_some() {
            durable += 1;
            block_on(world.runner.sweep()).unwrap();
            let began = world.clock.monotonic();
            world.drive(run);
            assert_eq!(kind(&world, id), Some(FailureKind::Cancelled), "dropped after {polls} polls");
            assert_eq!(world.clock.monotonic(), began, "dropped after {polls} polls");
        }
        if ended {
            break;
        }
    }
    assert!(durable > 1, "{durable}");
}

/// A store of somebody's own that says too little.
#[derive(Debug)]
struct Short(Arc<dyn Store>);

#[async_trait]
impl Store for Short {
    async fn commit(&self, batch: Batch) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = self.0.commit(batch).await?;
        outcomes.pop();
        Ok(outcomes)
    }

    async fn read(&self, ids: &[LifecycleId]) -> Result<Vec<Record>, StoreError> {
        self.0.read(ids).await
    }

    async fn query(&self, query: &Query) -> Result<Page, StoreError> {
        self.0.query(query).await
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Feed, StoreError> {
        self.0.changes(after, limit).await
    }

    async fn placements(&self, query: &PlacementQuery) -> Result<Vec<Placement>, StoreError> {
        self.0.placements(query).await
    }

    async fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError> {
        self.0.prune(policy).await
    }
}

#[test]
fn a_store_that_answers_with_too_few_outcomes_loses_no_row_in_silence() {
    let memory = World::new();
    let world = World::over(Arc::new(Short(memory.store.clone())), memory.clock.clone());
    let refused = block_on(world.runner.accept_deploy(DeployRequest::new(fleet(&["", ""]))));
    let Err(AcceptError::Store(StoreError::Corrupt { what })) = refused else { panic!("{refused:?}") };
    assert!(what.contains("2 changes with 1 outcomes"), "{what}");
    // What landed all the same is the sweep's to end, by a store that works.
    assert_eq!(memory.feed().len(), 2);
}

#[test]
fn failures_are_of_the_kind_that_they_are() {
    // The store, not the engine: before the work and while it is looked up.
    let (world, store) = faulty();
    world.deployed(fleet(&["", "w1"]));
    let accepted =
        block_on(world.runner.accept_mutate(MutateRequest::new(name("a"), services(&["ftp"])))).unwrap();
    let id = accepted.ids()[&name("a")];
    store.fail_reads(1);
    world.drive(accepted.run());
    assert_eq!(kind(&world, id), Some(FailureKind::Store), "{:?}", world.told(&[id]));
    assert_eq!(world.up_with("a"), services(&["ssh", "http"]));
    assert_eq!(world.engine.calls().len(), 1);
    // An agent that took a teardown and failed at it has refused nothing.
    let world = World::new();
    world.deployed(fleet(&["w1"]));
    world.agents.script(&host("w1"), [AgentScript::Fail(AgentError::Failed { reason: "stuck".into() })]);
    let down = TeardownRequest::new([name("a")]).overlap(Overlap::Supersede);
    let id = world.torn_down(down)[0];
    assert_eq!(world.told(&[id]), ["Reported: host w1: stuck"]);
    assert!(world.is_unsure("a"));
}
