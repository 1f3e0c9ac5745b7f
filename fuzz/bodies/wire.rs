//! What comes from other machines: beats, dispatches, and answers to ours.

use std::sync::Arc;

use decnet_lifecycle::testkit::{FakeAgents, FakeEngine, refusal_reason};
use decnet_lifecycle::worker::{BodyError, DeployDispatch, MutateDispatch, TeardownDispatch};
use decnet_lifecycle::{
    DeployRequest, FleetConfig, HostId, LifecycleId, Operation, Record, Runner,
    agent::{Host, Pin, StaticHosts},
    beat::{Beat, BeatAnswer, KnownRows, Reported},
    store::MemoryStore,
};
use futures_lite::future::block_on;

/// A beat is within its bounds, or an error; taken, it ends rows of its own
/// host alone, each by what it says of it.
pub fn beat(data: &[u8]) {
    let beat = match Beat::from_json(data) {
        Ok(beat) => beat,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(beat.deltas.iter().skip(Beat::MAX_DELTAS).all(Option::is_none));
    if let KnownRows::These(rows) = &beat.known_rows {
        assert!(rows.len() <= Beat::MAX_KNOWN_ROWS);
    }
    let (runner, ids) = master();
    let host = HostId::parse("w1").unwrap();
    let before = rows(&runner, &ids);
    let answer = block_on(runner.take_beat(&host, &beat)).unwrap();
    assert_eq!(answer.verdicts.len(), beat.deltas.len());
    assert_eq!(BeatAnswer::from_json(answer.to_json().as_bytes()), Ok(answer));
    for (was, is) in before.iter().zip(rows(&runner, &ids)) {
        let told = beat.deltas.iter().flatten().any(|delta| {
            let same_row = delta.lifecycle_id.is_none_or(|id| id == is.id);
            same_row
                && delta.decky == is.decky
                && delta.operation == Operation::Deploy
                && delta.report != Reported::Running
        });
        let is_its_own = is.host.as_ref() == Some(&host);
        assert!(*was == is || (told && is_its_own && !is.is_open()), "{beat:?} made {is:?}");
    }
}

/// Rows that run on two hosts: `a` and `b` on w1, `c` on w2.
fn master() -> (Runner, Vec<LifecycleId>) {
    let host =
        |id: &str| Host { id: HostId::parse(id).unwrap(), address: format!("{id}:1"), pin: Pin::CaOnly };
    let runner = Runner::builder(Arc::new(MemoryStore::new()), Arc::new(FakeEngine::new()))
        .swarm(Arc::new(FakeAgents::new()), Arc::new(StaticHosts::new([host("w1"), host("w2")])))
        .seed(1)
        .build()
        .unwrap();
    let (runner, _) = block_on(runner.recover()).unwrap();
    let decky = |name: &str, octet: u8, host: &str| {
        serde_json::json!({"name": name, "ip": format!("10.1.0.{octet}"), "services": ["ssh"], "distro": "debian",
            "base_image": "debian:12", "hostname": "srv", "host_uuid": host})
    };
    let fleet = serde_json::json!({"mode": "swarm", "interface": "eth0", "subnet": "10.1.0.0/24", "gateway": "10.1.0.1",
        "deckies": [decky("a", 2, "w1"), decky("b", 3, "w1"), decky("c", 4, "w2")]});
    let fleet = FleetConfig::from_json(fleet.to_string().as_bytes()).unwrap();
    let accepted = block_on(runner.accept_deploy(DeployRequest::new(fleet))).unwrap();
    let ids = accepted.ids().values().copied().collect();
    block_on(accepted.run());
    (runner, ids)
}

fn rows(runner: &Runner, ids: &[LifecycleId]) -> Vec<Record> {
    block_on(runner.get(ids)).unwrap()
}

/// What a dispatch says is what is asked for, or all problems are told, as the
/// original tells them.
pub fn dispatch(data: &[u8]) {
    let told = |error: BodyError| {
        assert!(!error.problems().is_empty());
        let detail = error.to_json();
        let detail = detail["detail"].as_array().unwrap();
        assert!(detail.len() == error.problems().len() && detail.iter().all(|one| one["loc"][0] == "body"));
    };
    match DeployDispatch::from_json(data) {
        Ok(deploy) => assert!(deploy.lifecycle_ids.keys().all(|name| deploy.config.decky(name).is_some())),
        Err(error) => told(error),
    }
    MutateDispatch::from_json(data).map_or_else(told, |_| ());
    TeardownDispatch::from_json(data).map_or_else(told, |_| ());
}

/// Why an agent refused is bounded and printable, whatever it said; a master's
/// answer to a beat reads back the same, or is none.
pub fn answer(data: &[u8]) {
    let said = refusal_reason(500, data);
    assert!(said.starts_with("500") && said.chars().count() <= 600, "{said}");
    assert!(!said.chars().any(|c| c.is_control() && !c.is_whitespace()));
    if let Ok(answer) = BeatAnswer::from_json(data) {
        assert_eq!(BeatAnswer::from_json(answer.to_json().as_bytes()), Ok(answer));
    }
}
