//! What the worker does when things are lost, doubled, or die.

use std::sync::Arc;
use std::time::Duration;

use decnet_lifecycle::testkit::{EngineScript, FakeEngine, VirtualClock};
use decnet_lifecycle::worker::{BeatReply, DeployDispatch, DryRun, MutateDispatch, Worker};
use decnet_lifecycle::{
    beat::Beat,
    engine::Engine,
    placement::Home,
    runner::Health,
    store::{MemoryStore, Query},
    *,
};
use futures_lite::future::block_on;
use serde_json::json;

use crate::pair::{Fault, Pair, fleet, host, name};

fn dispatch(deckies: usize, ids: &[LifecycleId]) -> DeployDispatch {
    let named: serde_json::Map<_, _> =
        ids.iter().enumerate().map(|(n, id)| (format!("d{n}"), json!(id))).collect();
    let body = json!({"config": fleet(deckies), "lifecycle_ids": named});
    DeployDispatch::from_json(body.to_string().as_bytes()).unwrap()
}

#[test]
fn a_lost_beat_and_a_lost_answer_lose_nothing() {
    for fault in [Fault::LoseBeat, Fault::LoseAnswer, Fault::TooFewVerdicts] {
        let pair = Pair::new();
        pair.tick();
        pair.wire.faults.lock().unwrap().extend([fault; 4]);
        let ids = pair.deploy(3);
        pair.pass(60);
        assert_eq!(pair.told(&ids), ["succeeded"; 3], "{fault:?}");
        assert_eq!(pair.engine.calls().len(), 1);
        // Where nothing was settled, the next try waits for the next beat's time.
        pair.pass(90);
        assert!(pair.last_beat().get("lifecycle").is_none(), "{fault:?}: what is settled is said again");
    }
}

#[test]
fn beats_that_do_not_get_through_come_with_growing_patience() {
    let pair = Pair::new();
    pair.tick();
    let before = pair.beats();
    pair.wire.faults.lock().unwrap().extend([Fault::LoseBeat; 20]);
    pair.deploy(1);
    // At 0, 1, 3, 7, 15, 31, then every 30 seconds.
    pair.pass(8);
    assert_eq!(pair.beats() - before, 4);
    pair.pass(120);
    assert_eq!(pair.beats() - before, 9);
}

#[test]
fn a_dispatch_that_comes_twice_is_done_once() {
    let pair = Pair::new();
    let ids = [LifecycleId::from_u128(7), LifecycleId::from_u128(8)];
    pair.engine.script(&name("d0"), EngineScript::Delay(Duration::from_secs(9)));
    let first = block_on(pair.worker().deploy(dispatch(2, &ids))).unwrap();
    let again = block_on(pair.worker().deploy(dispatch(2, &ids))).unwrap();
    assert!(again.is_repeat());
    assert_eq!(again.ids(), first.ids());
    // One more row beside the known ones: only that is new.
    let more = [ids[0], ids[1], LifecycleId::from_u128(9)];
    let third = block_on(pair.worker().deploy(dispatch(3, &more))).unwrap();
    assert!(!third.is_repeat());
    let calls = || pair.engine.calls().iter().map(|call| call.deckies.len()).collect::<Vec<_>>();
    let both = async {
        futures_lite::future::zip(first.run(), third.run()).await;
    };
    let clock = Arc::clone(&pair.clock);
    let mut both = std::pin::pin!(both);
    while block_on(futures_lite::future::poll_once(&mut both)).is_none() {
        assert!(clock.advance_to_next());
    }
    assert_eq!(calls(), [2, 1]);
    // Also when it comes after its end.
    assert!(block_on(pair.worker().deploy(dispatch(2, &ids))).unwrap().is_repeat());
}

#[test]
fn a_dry_run_takes_nothing() {
    let pair = Pair::new();
    let mut dry = dispatch(1, &[]);
    dry.dry_run = DryRun::Yes;
    let accepted = block_on(pair.worker().deploy(dry)).unwrap();
    assert!(accepted.ids().is_empty());
    block_on(accepted.run());
    let body = br#"{"decky_id": "d0", "services": ["ssh"], "dry_run": true}"#;
    let dry = MutateDispatch::from_json(body).unwrap();
    let unknown = block_on(pair.worker().mutate(dry.clone())).unwrap_err();
    assert!(matches!(unknown, AcceptError::UnknownDecky { .. }), "{unknown}");
    assert!(block_on(pair.worker().runner().list(&Query::new())).unwrap().records.is_empty());
    assert!(pair.engine.calls().is_empty());
}

/// A mutate that can only fail must not cost what is at work.
#[test]
fn a_mutate_of_a_decky_that_is_only_coming_up_lets_it_come_up() {
    let pair = Pair::new();
    pair.engine.script(&name("d0"), EngineScript::Delay(Duration::from_secs(5)));
    let ids = pair.deploy(1);
    pair.tick();
    let body = br#"{"decky_id": "d0", "services": ["ftp"], "dry_run": false}"#;
    pair.run(block_on(pair.worker().mutate(MutateDispatch::from_json(body).unwrap())).unwrap());
    pair.pass(8);
    assert_eq!(pair.told(&ids), ["succeeded"]);
}

#[test]
fn a_newer_dispatch_takes_over() {
    let pair = Pair::new();
    pair.engine.script(&name("d0"), EngineScript::Hang);
    let old = pair.deploy(1);
    pair.tick();
    let request = DeployRequest::new(fleet(1)).overlap(Overlap::Supersede);
    pair.engine.script(&name("d0"), EngineScript::Succeed);
    let accepted = block_on(pair.master().accept_deploy(request)).unwrap();
    let new = pair.run(accepted);
    pair.pass(2);
    assert!(pair.told(&old)[0].starts_with("Superseded"));
    assert_eq!(pair.told(&new), ["succeeded"]);
    pair.pass(31);
    assert!(pair.last_beat().get("lifecycle").is_none());
}

#[test]
fn what_ran_when_the_worker_was_killed_is_told_as_failed_and_what_was_known_as_it_was() {
    let mut pair = Pair::new();
    pair.engine.script(&name("d1"), EngineScript::Hang);
    let ids = pair.deploy(2);
    pair.tick();
    pair.start_worker();
    pair.tick();
    let told = pair.told(&ids);
    assert!(told[0] == "succeeded" && told[1].starts_with("Reported: WorkerRestarted: "), "{told:?}");
}

#[test]
fn what_ended_before_the_kill_and_was_not_told_is_told_after_it() {
    let mut pair = Pair::new();
    pair.tick();
    pair.wire.faults.lock().unwrap().extend([Fault::LoseBeat; 3]);
    let ids = pair.deploy(2);
    pair.tick();
    assert_eq!(pair.told(&ids), ["running"; 2]);
    pair.start_worker();
    pair.pass(5);
    assert_eq!(pair.told(&ids), ["succeeded"; 2]);
}

#[test]
fn a_worker_that_lost_its_files_loses_its_rows_after_a_grace_and_not_before() {
    let mut pair = Pair::new();
    pair.engine.script(&name("d0"), EngineScript::Hang);
    let ids = pair.deploy(1);
    pair.pass(40);
    pair.worker_store = Arc::new(MemoryStore::new());
    pair.start_worker();
    pair.pass(89);
    assert_eq!(pair.told(&ids), ["running"]);
    let why = block_on(pair.master().explain(ids[0])).unwrap().unwrap().to_string();
    assert!(why.contains("its worker does not know of the row"), "{why}");
    pair.pass(32);
    assert!(pair.told(&ids)[0].starts_with("WorkerLost: the worker of host w1 does not know of it"));
    // A new operation is another matter.
    pair.engine.script(&name("d0"), EngineScript::Succeed);
    let again = pair.deploy(1);
    pair.tick();
    assert_eq!(pair.told(&again), ["succeeded"]);
}

/// What was taken and not begun when the worker was killed is done after it.
#[test]
fn what_was_taken_and_not_begun_is_taken_up_again() {
    let mut pair = Pair::new();
    pair.tick();
    let ids = [LifecycleId::from_u128(7)];
    drop_work(block_on(pair.worker().deploy(dispatch(1, &ids))).unwrap());
    pair.start_worker();
    pair.tick();
    let row = block_on(pair.worker().runner().get(&ids)).unwrap().remove(0);
    assert_eq!(row.status(), Status::Succeeded);
    assert_eq!(pair.engine.calls().len(), 1);
}

/// As a kill does: nothing of it is run, not even its end.
fn drop_work(accepted: Accepted) {
    std::mem::forget(accepted);
}

/// A worker that lost its files still sees what runs, and so does its master,
/// which can have it taken down.
#[test]
fn what_a_worker_no_longer_knows_is_seen_and_taken_down() {
    let mut pair = Pair::new();
    let ids = pair.deploy(1);
    pair.tick();
    assert_eq!(pair.told(&ids), ["succeeded"]);
    block_on(pair.master().forget(&[name("d0")].into())).unwrap();
    pair.worker_store = Arc::new(MemoryStore::new());
    pair.start_worker();
    pair.tick();
    let beat = pair.last_beat();
    assert_eq!(beat["status"]["deployed"], false);
    assert_eq!(beat["status"]["runtime"]["d0"]["running"], true);
    let seen = block_on(pair.master().deckies()).unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].health(), seen[0].home.clone()), (Health::Stranger, Home::Host(host("w1"))));
    let accepted = block_on(pair.master().accept_teardown(TeardownRequest::new([name("d0")]))).unwrap();
    pair.run(accepted);
    pair.pass(31);
    assert!(block_on(pair.engine.found()).unwrap().is_empty());
    assert!(block_on(pair.master().deckies()).unwrap().is_empty());
}

#[test]
fn a_master_that_restarts_gives_each_row_a_fresh_grace_and_keeps_those_that_are_known() {
    let mut pair = Pair::new();
    pair.engine.script(&name("d0"), EngineScript::Delay(Duration::from_secs(400)));
    let ids = pair.deploy(1);
    for _ in 0..3 {
        pair.pass(100);
        pair.start_master();
        assert_eq!(pair.told(&ids), ["running"]);
    }
    pair.pass(101);
    assert_eq!(pair.told(&ids), ["succeeded"]);
}

/// A master that answers and settles nothing has not heard of what ended.
#[test]
fn an_end_that_the_master_has_not_heard_of_is_not_pruned() {
    let pair = Pair::new();
    pair.tick();
    pair.wire.faults.lock().unwrap().extend([Fault::TooFewVerdicts; 2_000]);
    // A failed row is named by no placement, which would keep it.
    pair.engine.script(&name("d0"), EngineScript::Fail(Failure::new(FailureKind::Engine, "no")));
    let ids = pair.deploy(1);
    for _ in 0..9 * 24 {
        pair.tick();
        pair.clock.advance(Duration::from_secs(3_600));
    }
    pair.tick();
    assert_eq!(block_on(pair.worker().runner().get(&ids)).unwrap().len(), 1);
    assert_eq!(pair.last_beat()["lifecycle"].as_array().map(Vec::len), Some(1));
    // Once it is heard, it goes.
    pair.wire.faults.lock().unwrap().clear();
    for _ in 0..3 {
        pair.clock.advance(Duration::from_secs(3_600));
        pair.tick();
    }
    assert!(block_on(pair.worker().runner().get(&ids)).unwrap().is_empty());
}

#[test]
fn more_ends_than_fit_in_a_beat_are_told_in_several_each_within_bounds() {
    let pair = Pair::new();
    let refused = Failure::new(FailureKind::Engine, &"é".repeat(2_000));
    pair.engine.script(&name("d0"), EngineScript::FailAll(refused));
    pair.tick();
    let before = pair.beats();
    let ids = pair.deploy(700);
    pair.pass(2);
    assert!(pair.told(&ids).iter().all(|told| told.starts_with("Reported: Engine: éé")));
    let bodies = pair.wire.bodies.lock().unwrap();
    let sizes: Vec<usize> = bodies[before..].iter().map(|body| body.to_string().len()).collect();
    assert!(sizes.iter().all(|size| *size <= Beat::USUAL_BYTES), "{sizes:?}");
    let told = |body: &serde_json::Value| body["lifecycle"].as_array().map_or(0, Vec::len);
    assert_eq!(bodies[before..].iter().map(told).sum::<usize>(), 700);
}

/// A worker on its own, with its files.
struct Filed {
    dir: tempfile::TempDir,
    store: Arc<MemoryStore>,
}

impl Filed {
    fn worker(&self) -> Worker {
        let engine = Arc::new(FakeEngine::new());
        let worker = Worker::builder(host("w1"), self.store.clone(), engine)
            .clock(Arc::new(VirtualClock::new()))
            .settled_file(self.dir.path().join("settled.json"))
            .build();
        block_on(worker.unwrap().recover()).unwrap().0
    }

    fn deploy(&self, id: u128) {
        let dispatch = dispatch(1, &[LifecycleId::from_u128(id)]);
        block_on(block_on(self.worker().deploy(dispatch)).unwrap().run());
    }

    fn to_tell(&self) -> usize {
        block_on(self.worker().beat()).unwrap().deltas()
    }
}

#[test]
fn what_is_settled_is_kept_and_losing_that_costs_a_resend_only() {
    let mut filed = Filed { dir: tempfile::tempdir().unwrap(), store: Arc::new(MemoryStore::new()) };
    filed.deploy(1);
    let worker = filed.worker();
    let beat = block_on(worker.beat()).unwrap();
    assert_eq!(beat.deltas(), 1);
    block_on(worker.settle(&beat, &BeatReply::Taken)).unwrap();
    assert_eq!(filed.to_tell(), 0);
    // An old beat's late reply takes nothing back.
    filed.deploy(2);
    block_on(worker.settle(&beat, &BeatReply::Taken)).unwrap();
    assert_eq!(filed.to_tell(), 1);
    let path = filed.dir.path().join("settled.json");
    for damage in [&b""[..], b"{", b"{\"settled\": -1}"] {
        std::fs::write(&path, damage).unwrap();
        assert_eq!(filed.to_tell(), 2);
    }
    // A store that is younger than what was settled starts from its beginning.
    std::fs::write(&path, b"{\"settled\": 1000}").unwrap();
    filed.store = Arc::new(MemoryStore::new());
    filed.deploy(3);
    let worker = filed.worker();
    let beat = block_on(worker.beat()).unwrap();
    assert_eq!(beat.deltas(), 1);
    block_on(worker.settle(&beat, &BeatReply::Taken)).unwrap();
    assert_eq!(filed.to_tell(), 0);
}
