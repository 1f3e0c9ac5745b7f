//! What goes over the wire when all is well.

use decnet_lifecycle::testkit::EngineScript;
use decnet_lifecycle::worker::{DeployDispatch, TeardownDispatch};
use decnet_lifecycle::{beat::Beat, store::MemoryStore, *};
use futures_lite::future::block_on;
use serde_json::json;

use crate::pair::{Fault, Pair, fleet, name};

#[test]
fn a_deploy_ends_by_the_worker_s_word_at_once() {
    let pair = Pair::new();
    let refused = Failure::new(FailureKind::Engine, "no such image");
    pair.engine.script(&name("d1"), EngineScript::Fail(refused));
    let ids = pair.deploy(2);
    assert_eq!(pair.told(&ids), ["running", "running"]);
    pair.tick();
    assert_eq!(pair.told(&ids), ["succeeded", "Reported: Engine: no such image"]);
    // What is not settled yet is known still.
    assert_eq!(pair.last_beat()["open_rows"], json!(ids));
    // Once settled, it is not said again.
    pair.pass(31);
    assert!(pair.last_beat().get("lifecycle").is_none());
    assert_eq!(pair.last_beat()["open_rows"], json!([]));
}

#[test]
fn a_beat_has_the_shape_of_the_original_s() {
    let pair = Pair::new();
    pair.engine.script(&name("d0"), EngineScript::Delay(std::time::Duration::from_secs(5)));
    let ids = pair.deploy(1);
    pair.pass(3);
    assert_eq!(
        pair.last_beat(),
        json!({"host_uuid": "w1", "agent_version": env!("CARGO_PKG_VERSION"),
               "status": {"deployed": false, "deckies": []},
               "topology": {"topology_id": null, "applied_version_hash": null, "applied_at": null,
                            "last_error": null, "observed": {}},
               "open_rows": [ids[0]]})
    );
    pair.pass(3);
    let beat = pair.last_beat();
    let config = serde_json::to_value(&fleet(1).deckies[0]).unwrap();
    assert_eq!(
        beat["status"],
        json!({"deployed": true, "mode": "swarm", "compose_path": "", "deckies": [config],
               "runtime": {"d0": {"running": true, "services": {"ssh": "running"}}}})
    );
    assert_eq!(
        beat["lifecycle"],
        json!([{"decky_name": "d0", "operation": "deploy", "status": "succeeded", "lifecycle_id": ids[0],
                "completed_at": beat["lifecycle"][0]["completed_at"]}])
    );
    assert_eq!(beat["open_rows"], json!([ids[0]]));
    assert!(beat["lifecycle"][0]["completed_at"].as_str().unwrap().parse::<Timestamp>().is_ok());
}

/// The original's master names no rows: all deckies are meant, no id is
/// echoed, and its 204 settles what was sent.
#[test]
fn a_dispatch_of_the_original_is_served() {
    let pair = Pair::new();
    let body = json!({"config": fleet(2), "dry_run": false, "no_cache": false, "later": {"field": 1}});
    let dispatch = DeployDispatch::from_json(body.to_string().as_bytes()).unwrap();
    pair.wire.faults.lock().unwrap().extend([Fault::SayNothing; 3]);
    pair.run(block_on(pair.worker().deploy(dispatch)).unwrap());
    pair.tick();
    let beat = pair.last_beat();
    let deltas = beat["lifecycle"].as_array().unwrap();
    assert_eq!(deltas.len(), 2);
    assert!(deltas.iter().all(|delta| delta.get("lifecycle_id").is_none() && delta["status"] == "succeeded"));
    assert_eq!(beat["open_rows"], json!([]));
    let down = pair.run(block_on(pair.worker().teardown(TeardownDispatch::from_json(b"").unwrap())).unwrap());
    assert_eq!(down.len(), 2);
    pair.pass(31);
    assert!(pair.last_beat().get("lifecycle").is_none(), "a teardown that nobody keeps a row of is not told");
}

#[test]
fn services_that_a_worker_reports_are_placed_at_the_master_too() {
    let mut pair = Pair::new();
    let ids = pair.deploy(2);
    pair.tick();
    assert_eq!(pair.told(&ids), ["succeeded"; 2]);
    assert_eq!([pair.up_with("d0"), pair.up_with("d1")], [["ssh"], ["ssh"]]);
    pair.mutate("d0", &["ftp", "redis"]);
    pair.tick();
    assert_eq!(pair.up_with("d0"), ["ftp", "redis"]);
    // A failed one changes nothing.
    let refused = Failure::new(FailureKind::Engine, "no");
    pair.engine.script(&name("d0"), EngineScript::Fail(refused));
    pair.mutate("d0", &["smtp"]);
    pair.tick();
    assert_eq!(pair.up_with("d0"), ["ftp", "redis"]);
    // A master that restarted meanwhile learns them from the beat.
    pair.engine.script(&name("d1"), EngineScript::Delay(std::time::Duration::from_secs(5)));
    let id = pair.mutate("d1", &["telnet"]);
    pair.start_master();
    pair.pass(6);
    assert_eq!(pair.told(&[id]), ["succeeded"]);
    assert_eq!(pair.up_with("d1"), ["telnet"]);
}

#[test]
fn a_cancel_travels_with_the_answer_to_a_beat() {
    for restarts in [false, true] {
        let mut pair = Pair::new();
        pair.engine.script(&name("d0"), EngineScript::Hang);
        let ids = pair.deploy(1);
        pair.tick();
        assert_eq!(block_on(pair.master().cancel(ids[0])).unwrap(), Cancelled::Requested);
        if restarts {
            pair.start_master();
        }
        assert_eq!(pair.told(&ids), ["running"]);
        pair.pass(31);
        assert_eq!(pair.told(&ids), ["Reported: Cancelled: stopped when asked to"], "restarts: {restarts}");
        pair.pass(31);
        let answered = block_on(pair.master().take_beat(
            &crate::pair::host("w1"),
            &Beat::from_json(pair.last_beat().to_string().as_bytes()).unwrap(),
        ));
        assert!(answered.unwrap().cancel.is_empty());
    }
}

/// The master has it placed, and the worker has lost its files.
#[test]
fn a_mutate_of_a_decky_that_isn_t_there_is_taken_and_fails() {
    let mut pair = Pair::new();
    pair.deploy(1);
    pair.tick();
    pair.worker_store = std::sync::Arc::new(MemoryStore::new());
    pair.start_worker();
    let id = pair.mutate("d0", &["ssh"]);
    pair.tick();
    assert_eq!(pair.told(&[id]), ["Reported: Engine: decky 'd0' not found in worker state; deploy it first"]);
    assert_eq!(pair.engine.calls().len(), 1);
}

#[test]
fn only_named_deckies_of_a_shard_are_worked_on() {
    let pair = Pair::new();
    pair.deploy(3);
    pair.tick();
    let request = DeployRequest::new(fleet(4)).only([name("d3")]);
    pair.run(block_on(pair.master().accept_deploy(request)).unwrap());
    pair.tick();
    let last = pair.engine.calls().pop().unwrap();
    assert_eq!((last.deckies.len(), last.fleet_size), (1, 4));
    assert_eq!(pair.last_beat()["status"]["deckies"].as_array().unwrap().len(), 4);
}

/// More ends than one beat tells of: those to come are known too, so that the
/// rows must not be listed as if they were all.
#[test]
fn rows_whose_end_is_told_later_are_not_left_out_as_unknown() {
    let pair = Pair::new();
    let ids = pair.deploy(1_500);
    pair.tick();
    assert_eq!(pair.told(&ids), vec!["succeeded"; 1_500]);
    let bodies = pair.wire.bodies.lock().unwrap();
    let telling: Vec<_> = bodies.iter().filter(|beat| beat["lifecycle"].is_array()).collect();
    let (last, before) = telling.split_last().unwrap();
    assert!(before.len() > 1 && before.iter().all(|beat| beat["open_rows"].is_null()));
    assert!(last["open_rows"].is_array());
}
