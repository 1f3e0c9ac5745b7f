//! Bodies of dispatches and beats: what is read, and what is refused how.

use decnet_lifecycle::worker::{DeployDispatch, DryRun, MutateDispatch, TeardownDispatch};
use decnet_lifecycle::{
    beat::{Beat, BeatError, Delta, KnownRows, Reported},
    *,
};
use serde_json::json;

use crate::pair::fleet;

#[test]
fn a_bad_body_is_told_field_by_field() {
    let wrong = DeployDispatch::from_json(br#"{"dry_run": 7, "lifecycle_ids": []}"#).unwrap_err();
    let fields: Vec<&str> = wrong.problems().iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["config", "lifecycle_ids", "dry_run"]);
    assert_eq!(wrong.to_json()["detail"][0]["loc"], json!(["body", "config"]));
    let mut config = serde_json::to_value(fleet(1)).unwrap();
    config["deckies"][0]["lifecycle_id"] = "x".into();
    let wrong = DeployDispatch::from_json(json!({"config": config}).to_string().as_bytes()).unwrap_err();
    assert!(wrong.problems()[0].field.starts_with("config.deckies[0]"), "{wrong}");
    let stranger = json!({"config": fleet(1), "lifecycle_ids": {"d7": LifecycleId::from_u128(1)}});
    assert!(
        DeployDispatch::from_json(stranger.to_string().as_bytes()).unwrap_err().to_string().contains("d7")
    );
    for body in [&b""[..], b"[]", b"{\"config\": null}", b"\xff"] {
        assert!(DeployDispatch::from_json(body).is_err());
    }
    for body in [
        &b"{}"[..],
        br#"{"decky_id": "A.B", "services": []}"#,
        br#"{"decky_id": "a", "services": "ssh"}"#,
        br#"{"decky_id": "a", "services": ["../x"]}"#,
        br#"{"decky_id": 1, "services": []}"#,
    ] {
        assert!(MutateDispatch::from_json(body).is_err(), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn bodies_of_the_original_are_read() {
    let body = json!({"config": fleet(2), "dry_run": true, "no_cache": true, "unknown": [1]});
    let deploy = DeployDispatch::from_json(body.to_string().as_bytes()).unwrap();
    assert_eq!((deploy.dry_run, deploy.lifecycle_ids.len(), deploy.config), (DryRun::Yes, 0, fleet(2)));
    let mutate =
        MutateDispatch::from_json(br#"{"decky_id": "nope", "services": [], "dry_run": false}"#).unwrap();
    assert_eq!((mutate.decky.as_str(), mutate.services.len(), mutate.lifecycle_id), ("nope", 0, None));
    assert_eq!(TeardownDispatch::from_json(br#"{"decky_id": null}"#).unwrap().decky, None);
    assert_eq!(TeardownDispatch::from_json(b"").unwrap().decky, None);
}

/// The sample of the original's beat, as observed; keys in another order.
#[test]
fn a_beat_of_the_original_is_read() {
    let beat = Beat::from_json(
        br#"{"lifecycle":[{"completed_at":"2026-11-24T04:45:39.366196+00:00","status":"failed","decky_name":"decky-01",
              "error":"RuntimeError: no such image for decky-03","operation":"deploy"},
             {"decky_name":"decky-02","operation":"mutate","status":"succeeded","completed_at":"yesterday"}],
            "topology":{"topology_id":null,"applied_version_hash":null,"applied_at":null,"last_error":null,"observed":{}},
            "status":{"deployed":true,"mode":"unihost","compose_path":"/x","deckies":[{"name":"decky-01","services":["ssh"]}, 7],
                      "runtime":{"decky-01":{"running":false,"services":{"ssh":"exited"}},"Bad Name":{"running":true}}},
            "agent_version":"unknown","host_uuid":"7b2f"}"#,
    )
    .unwrap();
    assert_eq!(beat.host.as_str(), "7b2f");
    let deltas: Vec<&Delta> = beat.deltas.iter().flatten().collect();
    assert_eq!(deltas[0].report, Reported::Failed("RuntimeError: no such image for decky-03".into()));
    assert_eq!(deltas[0].completed_at, "2026-11-24T04:45:39.366196Z".parse().ok());
    assert_eq!((deltas[1].operation, deltas[1].completed_at), (Operation::Mutate, None));
    assert_eq!(beat.known_rows, KnownRows::NotSaid);
    assert_eq!(beat.status.runtime.len(), 1);
    assert_eq!(beat.status.runtime[&crate::pair::name("decky-01")].to_string(), "not up (ssh exited)");
    assert_eq!(beat.status.deckies.len(), 1);
}

#[test]
fn what_is_wrong_in_a_beat_costs_that_part_only() {
    let deltas = json!([
        {"decky_name": "d0", "operation": "deploy", "status": "failed"},
        {"decky_name": "d0", "operation": "deploy", "status": "pending"},
        {"decky_name": "D 0", "operation": "deploy", "status": "failed"},
        {"decky_name": "d0", "operation": "explode", "status": "failed"},
        {"decky_name": "d0", "operation": "deploy", "status": "failed", "lifecycle_id": "not-an-id"},
        {"decky_name": "d0", "operation": "deploy", "status": "failed", "lifecycle_id": null},
        null, 7, [],
    ]);
    let beat = |value: serde_json::Value| Beat::from_json(value.to_string().as_bytes());
    let read =
        beat(json!({"host_uuid": "w1", "status": "?", "lifecycle": deltas, "open_rows": "many"})).unwrap();
    let good: Vec<bool> = read.deltas.iter().map(Option::is_some).collect();
    assert_eq!(good, [true, false, false, false, false, true, false, false, false]);
    assert_eq!(read.known_rows, KnownRows::TooMany);
    for whole in [
        json!({}),
        json!([]),
        json!({"host_uuid": 7}),
        json!({"host_uuid": ""}),
        json!({"host_uuid": "w1", "lifecycle": {}}),
    ] {
        assert!(beat(whole.clone()).is_err(), "{whole}");
    }
    let long = json!({"host_uuid": "w1", "x": "y".repeat(Beat::MAX_BYTES)});
    assert!(matches!(beat(long), Err(BeatError::TooLong { .. })));
    let many = json!({"host_uuid": "w1", "lifecycle": vec![deltas[0].clone(); 700]});
    let read = beat(many).unwrap();
    assert_eq!((read.deltas.len(), read.deltas.iter().flatten().count()), (700, Beat::MAX_DELTAS));
}
